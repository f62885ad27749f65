"""One line in the log about each request: a pure ASGI layer, and the record that the layers inside it complete.

Rules
1. A request has exactly one line: ``request_ended``; ``request_refused`` if the response is an error, or sends a viewer
   away; ``viewer_ended`` if its response is a viewer's, written when the viewer leaves. That may be long after the
   app has returned (server/socket_driver.py). A client that leaves while it waits for its response is not refused. The
   creation of a stream has a line of its own.
2. A line holds no query (``?token=`` is a key), no header but the request id, and nothing of a body. A path that no
   route of an API matches is cut, and left out if it has other characters than a URL.
3. Requests for health, metrics and the page are logged at debug.
4. In a host's app there is no such layer: the host logs its requests. Viewers and creations have their lines there too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from broadcaster.core.access.callers import CALLER_KEY, Caller
from broadcaster.core.requests.origins import Origin, TraceContext
from broadcaster.observability import genai_attributes as names
from broadcaster.observability.lines import CreatedStream, EndedRequest, RefusedRequest, RequestLine, showable
from broadcaster.observability.logs import get_logger
from broadcaster.observability.tracing.spans import UNTRACED, Attributes, Tracing
from broadcaster.web.guards.refusal_log import RefusalLog

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_RECORD: Final = "broadcaster.record"
_QUIET_OPERATIONS: Final = frozenset({"health", "readiness"})
_QUIET_PATHS: Final = re.compile(r"/|/metrics|/openapi\.json|/(console|docs)(/.*)?|/favicon\.\w+")
_SHOWABLE_PATH: Final = re.compile(r"[\x21-\x7e]+")
# Names of keys have spaces, and issuers write subjects as `auth0|1`. No quote, no backslash: neither can end its field.
_SHOWABLE_CALLER: Final = re.compile(r"[ !#-&(-\[\]-~]{1,64}", re.ASCII)
_MAX_PATH: Final = 100
_SERVER_FAULT: Final = 500
CLIENT_LEFT: Final = 499
"""The status in log and counts of a request whose client disconnected while it waited for its response."""
_TRACE_PARENT: Final = b"traceparent"
_TRACE_HEADERS: Final = (_TRACE_PARENT, b"tracestate")

_log = get_logger(__name__)
_LineT = TypeVar("_LineT", bound=RequestLine)


def showable_caller(name: str) -> str | None:
    """The name of a key, or the subject of a token, as far as it may stand in the log."""
    return name if _SHOWABLE_CALLER.fullmatch(name) else None


class RequestFacts(NamedTuple):
    """The fields of a line that many requests share, named as in ``RequestLine``."""

    method: str | None
    operation: str | None
    surface: str | None
    path: str | None
    tenant: str | None
    caller: str | None

    def fill(self, line: RequestLine) -> None:
        """Set them."""
        for name, value in zip(self._fields, self, strict=True):
            setattr(line, name, value)


@lru_cache(maxsize=1024)
def _shared(*facts: str | None) -> RequestFacts:
    """One object for all requests with these facts: thousands of viewers keep it."""
    return RequestFacts(*facts)


class RequestRecord:
    """The line that the log will have about one request. The layers inside set what they learn."""

    __slots__ = (
        "_refusals",
        "_scope",
        "begun_at",
        "code",
        "has_viewer",
        "operation",
        "route",
        "span",
        "status",
        "stream",
        "surface",
        "tenant",
        "tracing",
    )

    def __init__(self, scope: Scope, *, refusals: RefusalLog | None = None, tracing: Tracing = UNTRACED) -> None:
        self._scope = scope
        self._refusals = refusals
        self.tracing = tracing
        self.span = tracing.begin(_method_of(scope), parent=_trace_of(scope), kind="server")
        self.begun_at = time.monotonic()
        self.status: int | None = None
        self.code: str | None = None
        self.operation: str | None = None
        self.route: str | None = None
        self.surface: str | None = None
        self.stream: str | None = None
        self.tenant: str | None = None
        self.has_viewer = False

    @property
    def age_s(self) -> float:
        """Seconds since its head."""
        return time.monotonic() - self.begun_at

    @property
    def origin(self) -> Origin:
        """Where the streams come from that the request creates."""
        state = self._scope.get("state") or {}
        return Origin(showable(state.get("request_id")), self.surface, self.span.context)

    @property
    def refusal_counts(self) -> Mapping[str, int]:
        """Refusals by code since the start of the front-end; empty in a host's app, which has no log of them."""
        return {} if self._refusals is None else self._refusals.counts

    @property
    def facts(self) -> RequestFacts:
        """What its line shares with those of many other requests."""
        caller: Caller | None = self._scope.get(CALLER_KEY)
        name = None if caller is None else showable_caller(caller.name)
        path = None
        if self.operation is None and _SHOWABLE_PATH.fullmatch(given := self._scope["path"][:_MAX_PATH]):
            path = given
        return _shared(_method_of(self._scope), self.operation, self.surface, path, self.tenant, name)

    @property
    def request_id(self) -> str | None:
        """As in ``x-request-id``."""
        state: dict[str, Any] = self._scope.get("state") or {}
        return showable(state.get("request_id"))

    @property
    def trace_id(self) -> str | None:
        """The trace that the request belongs to."""
        return None if self.span.context is None else self.span.context.trace_id

    def fill(self, line: _LineT) -> _LineT:
        """Set the fields that all lines of the request share."""
        self.facts.fill(line)
        line.stream, line.request_id, line.trace_id = self.stream, self.request_id, self.trace_id
        return line

    def end(self) -> None:
        """The app has returned: write the request's line, unless a viewer will (rule 1)."""
        if self.has_viewer:
            return
        is_error = self.status is not None and self.status >= 400 and self.status != CLIENT_LEFT
        code = self.code or (f"http_{self.status}" if is_error else None)
        is_quiet = self._is_quiet()
        if not is_quiet:
            self.span.end(self.span_attributes(), name=self.span_name, error=code if self._is_fault else None)
        if code is not None and not is_quiet:
            self.refuse(code)
            return
        line = self.fill(EndedRequest(status=self.status, duration_s=self.age_s))
        write = _log.debug if is_quiet else _log.info if self.status is not None else _log.warning
        write(line.event, **line.values())

    @property
    def span_name(self) -> str:
        """Method and route, as HTTP conventions have it."""
        method = _method_of(self._scope)
        return f"{method} {self.route}" if self.route else str(method)

    @property
    def _is_fault(self) -> bool:
        """Whether the span of the request has failed: a 4xx is the client's fault, not the server's."""
        return self.status is None or not 200 < self.status < _SERVER_FAULT

    def span_attributes(self) -> Attributes:
        """The attributes of the request's span, beside those of its end."""
        return {
            names.METHOD: _method_of(self._scope),
            names.ROUTE: self.route,
            names.STATUS: self.status,
            names.SURFACE: self.surface,
            names.TENANT: self.tenant,
            names.STREAM: self.stream,
        }

    def refuse(self, code: str) -> None:
        """Write that it was refused, within the bound of such lines."""
        line = self.fill(RefusedRequest(status=self.status, code=code, duration_s=self.age_s))
        if self._refusals is not None:
            self._refusals.add(line)

    def created(self, stream_id: str, *, kind: str, model: str | None = None, is_repeat: bool = False) -> None:
        """The request has created this stream, or repeats the request that has."""
        self.stream = stream_id
        line = self.fill(CreatedStream(kind=kind, model=showable(model), is_repeat=is_repeat or None))
        _log.info(line.event, **line.values())

    def _is_quiet(self) -> bool:
        if self.operation is not None:
            return self.operation in _QUIET_OPERATIONS
        path = self._scope["path"].removeprefix(self._scope.get("root_path", ""))
        return self.status is not None and self.status < 400 and _QUIET_PATHS.fullmatch(path) is not None


def record_of(scope: Scope) -> RequestRecord:
    """The record of this request; a host's app has none until here."""
    record: RequestRecord | None = scope.get(_RECORD)
    if record is None:
        record = scope[_RECORD] = RequestRecord(scope)
    return record


def _method_of(scope: Scope) -> str:
    """The method; a handshake of a WebSocket, which some servers hand over as such, has none."""
    return str(scope.get("method", "GET"))


def _trace_of(scope: Scope) -> TraceContext | None:
    """The trace that the caller has begun."""
    if not any(name == _TRACE_PARENT for name, _ in scope["headers"]):
        return None
    found: dict[bytes, list[str]] = {name: [] for name in _TRACE_HEADERS}
    for name, value in scope["headers"]:
        if name in found:
            found[name].append(value.decode("latin-1"))
    parents, states = found.values()
    return TraceContext.parse(parents, states)


class RequestLog:
    """Writes the line of each request, and ends its span. It stands inside the layer that names requests."""

    def __init__(self, app: ASGIApp, *, refusals: RefusalLog, tracing: Tracing = UNTRACED) -> None:
        self._app = app
        self._refusals = refusals
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope[_RECORD] = RequestRecord(scope, refusals=self._refusals, tracing=self._tracing)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            record.end()
