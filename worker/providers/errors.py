"""Every way a call can fail → ProviderFailed with a stable reason, and a text that is safe to show.

    provider_rate_limited  429            the provider's rate limit; ``retry_after_s`` if it said when
    provider_overloaded    529
    provider_error         other 5xx, 409 an error of its own
    provider_timeout       408, 504       or silence longer than the read timeout, before or after the headers
    provider_auth          401, 402, 403  or no credentials at all
    provider_bad_request   other 4xx      or a request that cannot even be written down
    provider_unreachable                  no connection: name, refusal, TLS, connect timeout
    provider_disconnected                 the connection broke, before or after the headers
    provider_truncated                    the body ended properly, the answer did not
    provider_bad_data                     what came is not the protocol

The error's ``type`` wins over the status: with it, an error in the middle of a stream (status 200) is told apart too.

Below the SDK there are two libraries (httpx2 over aiohttp), and each of the three wraps some errors of the one below
and lets others pass, so the whole chain of causes is looked at, not the outermost error.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import aiohttp
import anthropic
import httpx2

from broadcaster.dialects.anthropic import fault_of
from broadcaster.dialects.faults import Fault
from broadcaster.errors import ProviderFailed
from worker.providers.base import ProviderRequest

TRANSPORT_ERRORS: Final = (anthropic.AnthropicError, httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError)
"""What the SDK and the libraries below it raise when a call fails (TimeoutError is an OSError)."""
UNSENDABLE: Final = (TypeError, ValueError)
"""What they raise when a request has no form on the wire."""

TRUNCATED: Final = Fault("provider_truncated", "the provider's answer ended without its terminal event", True)
NO_CREDENTIALS: Final = Fault(
    "provider_auth", "the Anthropic credentials cannot be loaded; set ANTHROPIC_API_KEY or mend the profile", False
)
BAD_ADDRESS: Final = Fault("provider_unreachable", "ANTHROPIC_BASE_URL is not a URL of a server", False)

_DISCONNECTED: Final = Fault("provider_disconnected", "the connection to the provider broke", True)
_UNREACHABLE: Final = Fault("provider_unreachable", "the provider cannot be reached", True)
_SILENT: Final = Fault("provider_timeout", "the provider said nothing for too long", True)
_NOT_HTTP: Final = Fault("provider_bad_data", "the provider's answer is not proper HTTP", True)
_UNSENDABLE: Final = Fault("provider_bad_request", "the request has no form in which this provider could get it", False)

# The first row that some error of the chain belongs to decides, so the special stand before the general.
_BY_CAUSE: Final[tuple[tuple[tuple[type[BaseException], ...], Fault], ...]] = (
    ((anthropic.CredentialsError,), NO_CREDENTIALS),
    ((httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError, aiohttp.ClientConnectorError), _UNREACHABLE),
    ((httpx2.UnsupportedProtocol, httpx2.InvalidURL, aiohttp.InvalidURL), BAD_ADDRESS),
    ((httpx2.TimeoutException, TimeoutError), _SILENT),
    ((httpx2.DecodingError, httpx2.TooManyRedirects, aiohttp.ClientResponseError), _NOT_HTTP),
)

_TYPE_OF_STATUS: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    408: "timeout_error",
    409: "conflict_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# Longer than any word or model name, shorter than a sentence.
_REPEATED_CHARS: Final = 24
_MAX_MESSAGE_CHARS: Final = 300
_KEY_LIKE: Final = re.compile(
    r"""\bsk-\S{6,} | \bbearer\s+\S{6,} | \b(?:api[-_ ]?key|token|secret|password)\b["':=\s]+\S{6,}""",
    re.IGNORECASE | re.VERBOSE,
)
_REDACTED: Final = "[redacted]"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def failure_of(error: BaseException, *, request: ProviderRequest, secrets: tuple[str, ...]) -> ProviderFailed:
    """What an error of the SDK, or of a library below it, means."""
    if isinstance(error, anthropic.APIStatusError):
        return _status_failure(error, request=request, secrets=secrets)
    if isinstance(error, UNSENDABLE):
        return _UNSENDABLE.failure(detail=type(error).__name__)
    chain = list(_chain(error))
    for kinds, fault in _BY_CAUSE:
        if any(isinstance(each, kinds) for each in chain):
            return fault.failure()
    return _DISCONNECTED.failure()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # Not the context: it may be an older failure, which the caller is just handling.
        error = error.__cause__


def _status_failure(
    error: anthropic.APIStatusError, *, request: ProviderRequest, secrets: tuple[str, ...]
) -> ProviderFailed:
    fault = fault_of(error.type)
    told = [f"HTTP {error.status_code}"]
    if fault is not None:
        told.append(str(error.type))
    else:
        default = "api_error" if error.status_code >= 500 else "invalid_request_error"
        fault = fault_of(_TYPE_OF_STATUS.get(error.status_code, default))
    assert fault is not None
    if error.request_id and _REQUEST_ID.fullmatch(error.request_id):
        told.append(f"request {error.request_id}")
    # Who asked must learn what to change; in all other cases the reason says enough.
    if fault.reason == "provider_bad_request" and (message := shown_message(error.api_message, request, secrets)):
        told.append(message)
    headers = error.response.headers
    should_retry = headers.get("x-should-retry")
    if should_retry in ("true", "false"):
        fault = fault._replace(retryable=should_retry == "true")
    return fault.failure(detail=", ".join(told), retry_after_s=retry_after_s(headers))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the provider wants us to wait, in seconds; None when it does not say.

    ``retry-after-ms`` in milliseconds, else ``retry-after`` in seconds or as a date (RFC 9110, 10.2.3). Not capped.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _number(value)
    if seconds is None:
        try:
            seconds = max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    return seconds


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def shown_message(message: object, request: ProviderRequest, secrets: tuple[str, ...]) -> str:
    """A provider's own message, as far as it may be shown: one line, no keys; empty when it repeats the request.

    Providers quote what they refuse. A viewer of the stream may see the error, but not what was asked.
    """
    if not isinstance(message, str):
        return ""
    line = " ".join(message.split())
    for secret in secrets:
        line = line.replace(secret, _REDACTED)
    line = _KEY_LIKE.sub(_REDACTED, line)[:_MAX_MESSAGE_CHARS]
    sent = "\n".join(
        " ".join(text.split())
        for part in (request.messages, request.system, request.tools, request.extra)
        for text in _texts(part)
    )
    windows = (line[at : at + _REPEATED_CHARS] for at in range(len(line) - _REPEATED_CHARS + 1))
    return "" if any(window in sent for window in windows) else line


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
