"""Every way a call can fail → ProviderFailed with a stable reason and a text that viewers may see.

    provider_rate_limited  429            the provider's rate limit; ``retry_after_s`` if the response has one
    provider_overloaded    529            on the OpenAI wires 503 too
    provider_error         other 5xx, 409 an error of its own
    provider_timeout       408, 504       or silence longer than the read timeout, before or after the headers
    provider_auth          401, 402, 403  or no credentials at all, or an account without credit
    provider_bad_request   other 4xx      or a request that cannot be serialised
    provider_unreachable   3xx            no connection: name, refusal, TLS, connect timeout, an unusable proxy
    provider_disconnected                 the connection broke, before or after the headers
    provider_truncated                    the body ended properly, but the answer is incomplete
    provider_bad_data                     the response does not follow the protocol

The ``type`` and ``code`` in the error's body take precedence over the status.

Below an SDK there are two libraries (httpx2 over aiohttp). Each of the three wraps some errors of the one below and
passes on others, so the whole chain of causes is checked, not only the outermost error. No SDK is imported here: an
``Sdk`` describes the errors of one, and a worker loads only the SDKs that it uses.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import aiohttp
import httpx2

from broadcaster.core.providers.refusals import TOO_LONG
from broadcaster.core.providers.request_ids import showable_id
from broadcaster.dialects.errors import BAD_REQUEST, DISCONNECTED, SILENT, ProviderFault
from broadcaster.errors import ProviderFailed, ProviderRefusal
from worker.providers.base import ProviderRequest

UNSENDABLE: Final = (TypeError, ValueError)
"""What an SDK and the libraries below it raise for a request that cannot be serialised."""

NO_STREAM: Final = ProviderFault("provider_bad_data", "the provider's answer is not an event stream", True)
ENCODED: Final = ProviderFault(
    "provider_bad_data", "the provider's answer has a content coding, which the request did not allow", True
)

_TRANSPORT_ERRORS: Final = (httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError)
"""What the libraries below an SDK raise when a call fails (TimeoutError is an OSError)."""

_UNREACHABLE: Final = ProviderFault("provider_unreachable", "the provider cannot be reached", True)
_REDIRECTED: Final = ProviderFault(
    "provider_unreachable", "the provider's base URL redirects elsewhere; name the final address", False
)
_NOT_HTTP: Final = ProviderFault("provider_bad_data", "the provider's answer is not valid HTTP", True)
_UNSENDABLE: Final = ProviderFault("provider_bad_request", "the request cannot be sent to this provider", False)

_BAD_ADDRESS: Final = (httpx2.UnsupportedProtocol, httpx2.InvalidURL, aiohttp.InvalidURL)
# The first row that matches an error of the chain decides. Special errors come before general ones, and aiohttp, which
# saw the socket, before httpx2: below OpenAI's SDK a cut before the headers is called a ConnectTimeout.
_BY_CAUSE: Final[tuple[tuple[tuple[type[BaseException], ...], ProviderFault], ...]] = (
    ((aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError), _UNREACHABLE),
    ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError), DISCONNECTED),
    ((httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError), _UNREACHABLE),
    ((httpx2.TimeoutException, TimeoutError), SILENT),
    ((httpx2.DecodingError, httpx2.TooManyRedirects, aiohttp.ClientResponseError), _NOT_HTTP),
)

# Longer than any word or model name, shorter than a sentence.
_REPEATED_CHARS: Final = 24
# Any stretch of _REPEATED_CHARS contains a whole block, wherever it begins among consecutive blocks.
_BLOCK_CHARS: Final = _REPEATED_CHARS // 2
_MAX_MESSAGE_CHARS: Final = 1000
_KEY_LIKE: Final = re.compile(
    r"""\b(?:sk-|gsk_|csk-|nvapi-|AIza)\S{6,} | \bhf_[a-z0-9]{20,} | \bbearer\s+\S{6,}
    | (?P<label> \b(?:api[-_ ]?key|token|secret|password)\b (?:\s+provided)? ["']?
    (?: \s*[:=]["'\s]* | \s+["']? (?!(?-i:[a-z_]+)["'(),.:;]*(?:\s|$)) )) (?![\d.,]+(?:\s|$)) \S{6,}""",
    re.IGNORECASE | re.VERBOSE,
)
"""A key that begins as those of known providers do (OpenAI, Anthropic, Groq, Cerebras, NVIDIA, Google, Hugging Face),
or that follows words such as ``Incorrect API key provided``, which clients search for. A plain word or a number after
them is not a key."""
_UNSUPPORTED_INPUT: Final = re.compile(
    r"""\b(?:image|audio|video|file|multimodal)s?\b .{0,40} \bnot\s+support | """
    r"""\bnot\s+support\w*\b .{0,40} \b(?:image|audio|video|file|vision|multimodal) | """
    r"""\bmissing\s+data\s+required\s+for\s+image\s+input\b""",
    re.IGNORECASE | re.VERBOSE,
)
_TOO_LONG: Final = re.compile(
    r"""prompt\ is\ too\ long | exceeds?\ (?:the\ )?(?:available\ )?context\ (?:limit|size|window|length)
    | maximum\ context\ length | exceeds\ the\ maximum\ number\ of\ tokens\ allowed""",
    re.IGNORECASE | re.VERBOSE,
)
"""The messages of servers for a request beyond the model's context (Anthropic, llama.cpp, vLLM, Gemini)."""
_REDACTED: Final = "[redacted]"
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-\[\]]{1,100}")


class ParsedError(NamedTuple):
    """An error response: its meaning, its known code (viewers may see it), and the provider's own message and names."""

    fault: ProviderFault
    known_code: str | None
    message: object
    type: object = None
    code: object = None
    param: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """One SDK: how it is called, and what it raises.

    ``own_headers``, and those in ``headers_variable``, are for the SDK's own server; ``omit`` leaves one out. The paths
    of calls that are passed on begin with ``passed_path``. ``id_header`` of a response has the id of its request.
    ``parse`` reads a ``status_error``; a ``credentials`` error means ``no_credentials``.
    """

    client: Callable[..., Any]
    http_client: type[httpx2.AsyncClient]
    url_variable: str
    headers_variable: str
    own_headers: tuple[str, ...] = ()
    omit: object
    passed_path: str = "/"
    id_header: str
    takes_headers: bool = False
    root: type[Exception]
    status_error: type[Exception]
    parse: Callable[[Any], ParsedError]
    credentials: tuple[type[Exception], ...] = ()
    no_credentials: ProviderFault


class Failures:
    """What the errors of one SDK, and of the libraries below it, mean to one request.

    ``address_from`` names the source of the server's base URL; ``secrets`` are the keys that no text may contain.
    """

    def __init__(self, sdk: Sdk, request: ProviderRequest, *, address_from: str, secrets: tuple[str, ...]) -> None:
        self._sdk = sdk
        self._request = request
        self._address_from = address_from
        self._secrets = secrets
        self.errors = (sdk.root, *_TRANSPORT_ERRORS)
        """The errors that a failed call may raise."""

    def of(self, error: BaseException) -> ProviderFailed:
        """The failure to raise for it. Raise it outside the ``except``: the SDK's text quotes the response."""
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
        return DISCONNECTED.failure()

    def safe_id(self, value: str | None) -> str | None:
        """The id of the request in the provider's header; None if it is not an id, or may contain a key."""
        id = showable_id(value)
        is_safe = id is not None and not any(secret in id for secret in self._secrets) and not _KEY_LIKE.search(id)
        return id if is_safe else None

    @contextmanager
    def naming(self, request_id: str | None) -> Iterator[None]:
        """Add the id of its request to a failure that leaves this block."""
        try:
            yield
        except ProviderFailed as failure:
            failure.request_id = request_id
            raise

    def _of_status(self, error: Any) -> ProviderFailed:
        parsed = self._sdk.parse(error)
        fault = parsed.fault if error.status_code >= 400 else _REDIRECTED
        message = safe_message(parsed.message, self._request, self._secrets)
        # Some servers (llama.cpp, Ollama) answer 500 to an image for a text model: no retry would help.
        if fault.reason == "provider_error" and isinstance(message, str) and _UNSUPPORTED_INPUT.search(message):
            fault = BAD_REQUEST
        details = [f"HTTP {error.status_code}", *([parsed.known_code] if parsed.known_code is not None else [])]
        request_id = self.safe_id(error.request_id)
        if request_id is not None:
            details.append(f"request {request_id}")
        # The caller must know what to change in a bad request. For other failures the reason is enough.
        if fault.reason == "provider_bad_request" and message:
            details.append(message)
        headers = error.response.headers
        should_retry = headers.get("x-should-retry")
        if should_retry in ("true", "false"):
            fault = fault._replace(retryable=should_retry == "true")
        type, code, param = (_safe_name(name, self._secrets) for name in (parsed.type, parsed.code, parsed.param))
        if code is None and fault.reason == "provider_bad_request" and _TOO_LONG.search(str(parsed.message)):
            code = TOO_LONG
        refusal = ProviderRefusal(error.status_code, type=type, code=code, param=param, message=message or None)
        failure = fault.failure(detail=", ".join(details), retry_after_s=retry_after_s(headers), refusal=refusal)
        failure.request_id = request_id
        return failure


def bad_address(address_from: str) -> ProviderFailed:
    """The failure for an invalid base URL; ``address_from`` names its source."""
    return ProviderFailed(f"{address_from} is not a URL of a server", reason="provider_unreachable")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        # Not the context: it may be an older failure that the caller is handling.
        error = error.__cause__


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The pause that the provider requests, in seconds; None if it requests none.

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


def safe_message(message: object, request: ProviderRequest, secrets: tuple[str, ...]) -> str:
    """A provider's own message as viewers may see it: one line, without keys; empty if it quotes the request.

    Providers quote what they refuse. A viewer of the stream may see the error, but not the request.
    """
    if not isinstance(message, str):
        return ""
    safe = " ".join(message.split())
    for secret in secrets:
        safe = safe.replace(secret, _REDACTED)
    safe = _KEY_LIKE.sub(rf"\g<label>{_REDACTED}", safe)[:_MAX_MESSAGE_CHARS]
    sent = (text for part in (request.messages, request.system, request.tools, request.extra) for text in _texts(part))
    return "" if _repeats(safe, sent) else safe


def _repeats(message: str, texts: Iterable[str]) -> bool:
    """Whether the message and one of the texts, each on one line, share _REPEATED_CHARS in a row.

    One pass over each text, because a request may have megabytes: each block is checked, and the text around a block
    that the message also contains.
    """
    blocks, windows = _stretches(message, _BLOCK_CHARS), _stretches(message, _REPEATED_CHARS)
    for text in texts if windows else ():
        one_line = " ".join(text.split())
        for at in range(0, len(one_line), _BLOCK_CHARS):
            if one_line[at : at + _BLOCK_CHARS] in blocks:
                around = one_line[max(0, at + _BLOCK_CHARS - _REPEATED_CHARS) : at + _REPEATED_CHARS]
                if not windows.isdisjoint(_stretches(around, _REPEATED_CHARS)):
                    return True
    return False


def _stretches(text: str, chars: int) -> set[str]:
    return {text[at : at + chars] for at in range(len(text) - chars + 1)}


def _safe_name(name: object, secrets: tuple[str, ...]) -> str | None:
    """A type, a code or a parameter as the provider names it; None if it is not a name."""
    is_name = isinstance(name, str) and _NAME.fullmatch(name) and not any(secret in name for secret in secrets)
    return name if is_name and isinstance(name, str) and not _KEY_LIKE.search(name) else None


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value that is long enough to be quoted, and every member's name that is not a plain name."""
    if isinstance(value, str):
        if len(value) >= _REPEATED_CHARS:
            yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if not _NAME.fullmatch(name):
                yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
