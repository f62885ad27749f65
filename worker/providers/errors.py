"""Every way a call can fail → ProviderFailed with a stable reason, and a text that is safe to show.

    provider_rate_limited  429            the provider's rate limit; ``retry_after_s`` if it said when
    provider_overloaded    529            on the OpenAI wires 503 too
    provider_error         other 5xx, 409 an error of its own
    provider_timeout       408, 504       or silence longer than the read timeout, before or after the headers
    provider_auth          401, 402, 403  or no credentials at all, or an account without credit
    provider_bad_request   other 4xx      or a request that cannot even be written down
    provider_unreachable                  no connection: name, refusal, TLS, connect timeout
    provider_disconnected                 the connection broke, before or after the headers
    provider_truncated                    the body ended properly, the answer did not
    provider_bad_data                     what came is not the protocol

What the error's body calls it (``type``, ``code``) wins over the status.

Below an SDK there are two libraries (httpx2 over aiohttp), and each of the three wraps some errors of the one below
and lets others pass, so the whole chain of causes is looked at, not the outermost error. No SDK is imported here: an
``Sdk`` says what one calls its errors, and a worker loads only those it uses.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import aiohttp
import httpx2

from broadcaster.dialects.faults import BAD_REQUEST, Fault
from broadcaster.errors import ProviderFailed, ProviderRefusal
from worker.providers.base import ProviderRequest

UNSENDABLE: Final = (TypeError, ValueError)
"""What an SDK and the libraries below it raise when a request has no form on the wire."""

TRUNCATED: Final = Fault("provider_truncated", "the provider's answer ended without its terminal event", True)
NO_STREAM: Final = Fault("provider_bad_data", "the provider's answer is not an event stream", True)
SILENT: Final = Fault("provider_timeout", "the provider said nothing for too long", True)
ENCODED: Final = Fault(
    "provider_bad_data", "the provider's answer has a content coding, which the request had refused", True
)

_TRANSPORT_ERRORS: Final = (httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError)
"""What the libraries below an SDK raise when a call fails (TimeoutError is an OSError)."""

_DISCONNECTED: Final = Fault("provider_disconnected", "the connection to the provider broke", True)
_UNREACHABLE: Final = Fault("provider_unreachable", "the provider cannot be reached", True)
_NOT_HTTP: Final = Fault("provider_bad_data", "the provider's answer is not proper HTTP", True)
_UNSENDABLE: Final = Fault("provider_bad_request", "the request has no form in which this provider could get it", False)

_BAD_ADDRESS: Final = (httpx2.UnsupportedProtocol, httpx2.InvalidURL, aiohttp.InvalidURL)
# The first row that some error of the chain belongs to decides, so the special stand before the general, and aiohttp,
# which saw the socket, before httpx2: below OpenAI's SDK a cut before the headers is called a ConnectTimeout.
_BY_CAUSE: Final[tuple[tuple[tuple[type[BaseException], ...], Fault], ...]] = (
    ((aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError), _UNREACHABLE),
    ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError), _DISCONNECTED),
    ((httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError), _UNREACHABLE),
    ((httpx2.TimeoutException, TimeoutError), SILENT),
    ((httpx2.DecodingError, httpx2.TooManyRedirects, aiohttp.ClientResponseError), _NOT_HTTP),
)

# Longer than any word or model name, shorter than a sentence.
_REPEATED_CHARS: Final = 24
_MAX_MESSAGE_CHARS: Final = 1000
_KEY_LIKE: Final = re.compile(
    r"""\bsk-\S{6,} | \bbearer\s+\S{6,} | \b(?:api[-_ ]?key|token|secret|password)\b["':=\s]+\S{6,}""",
    re.IGNORECASE | re.VERBOSE,
)
_UNSUPPORTED_INPUT: Final = re.compile(
    r"""\b(?:image|audio|video|file|multimodal)s?\b .{0,40} \bnot\s+support | """
    r"""\bnot\s+support\w*\b .{0,40} \b(?:image|audio|video|file|vision|multimodal) | """
    r"""\bmissing\s+data\s+required\s+for\s+image\s+input\b""",
    re.IGNORECASE | re.VERBOSE,
)
_REDACTED: Final = "[redacted]"
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-\[\]]{1,100}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Told(NamedTuple):
    """What an error answer says: its meaning, the known word it uses (safe to show), the provider's own words."""

    fault: Fault
    word: str | None
    message: object
    type: object = None
    code: object = None
    param: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """What one SDK raises. ``told`` reads a ``status_error``; a ``credentials`` error means ``no_credentials``."""

    root: type[Exception]
    status_error: type[Exception]
    told: Callable[[Any], Told]
    credentials: tuple[type[Exception], ...] = ()
    no_credentials: Fault


class Failures:
    """What the errors of one SDK, and of the libraries below it, mean to one request.

    ``address_from`` names where the server's base URL was set, ``secrets`` are the keys that no text may hold.
    """

    def __init__(self, sdk: Sdk, request: ProviderRequest, *, address_from: str, secrets: tuple[str, ...]) -> None:
        self._sdk = sdk
        self._request = request
        self._address_from = address_from
        self._secrets = secrets
        self.errors = (sdk.root, *_TRANSPORT_ERRORS)
        """What may be raised when a call fails."""

    def of(self, error: BaseException) -> ProviderFailed:
        """The failure to raise for it. Raise it outside of the ``except``: the SDK's text repeats the answer."""
        if isinstance(error, self._sdk.status_error):
            return self._of_status(error)
        if isinstance(error, UNSENDABLE):
            return _UNSENDABLE.failure(detail=type(error).__name__)
        chain = list(_chain(error))
        if any(isinstance(each, self._sdk.credentials) for each in chain):
            return self._sdk.no_credentials.failure()
        if any(isinstance(each, _BAD_ADDRESS) for each in chain):
            return bad_address(self._address_from)
        for kinds, fault in _BY_CAUSE:
            if any(isinstance(each, kinds) for each in chain):
                return fault.failure()
        return _DISCONNECTED.failure()

    def _of_status(self, error: Any) -> ProviderFailed:
        said = self._sdk.told(error)
        fault, word, message = said.fault, said.word, shown_message(said.message, self._request, self._secrets)
        # Some servers (llama.cpp, Ollama) answer an image for a model of text with 500: no retry would help.
        if fault.reason == "provider_error" and isinstance(message, str) and _UNSUPPORTED_INPUT.search(message):
            fault = BAD_REQUEST
        details = [f"HTTP {error.status_code}", *([word] if word is not None else [])]
        if error.request_id and _REQUEST_ID.fullmatch(error.request_id):
            details.append(f"request {error.request_id}")
        # Who asked must learn what to change; in all other cases the reason says enough.
        if fault.reason == "provider_bad_request" and message:
            details.append(message)
        headers = error.response.headers
        should_retry = headers.get("x-should-retry")
        if should_retry in ("true", "false"):
            fault = fault._replace(retryable=should_retry == "true")
        type, code, param = (_shown_name(name, self._secrets) for name in (said.type, said.code, said.param))
        refusal = ProviderRefusal(error.status_code, type=type, code=code, param=param, message=message or None)
        return fault.failure(detail=", ".join(details), retry_after_s=retry_after_s(headers), refusal=refusal)


def bad_address(address_from: str) -> ProviderFailed:
    """The failure of a base URL that is none; ``address_from`` names where it was set."""
    return ProviderFailed(f"{address_from} is not a URL of a server", reason="provider_unreachable")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # Not the context: it may be an older failure, which the caller is just handling.
        error = error.__cause__


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


def _shown_name(name: object, secrets: tuple[str, ...]) -> str | None:
    """A type, a code or a parameter as the provider names it; None where it is no name."""
    is_name = isinstance(name, str) and _NAME.fullmatch(name) and not any(secret in name for secret in secrets)
    return name if is_name and isinstance(name, str) and not _KEY_LIKE.search(name) else None


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
