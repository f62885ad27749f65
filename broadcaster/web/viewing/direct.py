"""Viewers that a front-end admits without its app: plain requests for a stream, which are most of a crowd that returns.

    request = direct.judge(scope)           # None: the app answers this request
    admitted = await direct.join(request)   # None: the app answers it after all

Rules
1. It admits, and does nothing else. A request that would be refused, or that has more than a path, a cursor and a
   credential, goes to the app, which reads it anew: until then nothing was counted, and nothing of it was kept. One
   exception is the rate of its tenant: a request counts before anything is read for it, and once less if the app
   answers it.
2. A viewer of a stream that this front-end follows waits at most for a turn of the loop with few arrivals. The first
   viewers of a stream wait for what they would wait for in the app: its meta, and the filling of its room. Where Redis
   does not answer in time, the app waits once more, and reports it.
3. It checks by the functions by which the layers of the app check (app.py), in their order. A response is equal to that
   of the app (tests/web/viewing/test_direct.py compares them).
4. It is for our own app alone: in a host's app a guard of the host stands before the route.

Measured (docs/benchmarks.md): such a viewer costs 0.5 to 0.7 × the CPU of one that comes by way of the app.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from starlette.types import Scope

from broadcaster.core.cursor import Cursor
from broadcaster.core.requests.priorities import PRIORITY_HEADER
from broadcaster.errors import BroadcasterError
from broadcaster.hub.places import Visitor
from broadcaster.hub.viewer import Viewer
from broadcaster.log.streams.reader import Meta
from broadcaster.observability.lines import showable
from broadcaster.observability.logs import get_logger
from broadcaster.observability.tracing.spans import Tracing
from broadcaster.web.documents.problems import GENERATION_ID_HEADER
from broadcaster.web.guards.callers import check_caller
from broadcaster.web.guards.refusal_log import RefusalLog
from broadcaster.web.guards.request import name_request, named_fields
from broadcaster.web.guards.request_counts import RequestCounts
from broadcaster.web.guards.request_log import RequestRecord
from broadcaster.web.guards.tokens.presented import NO_REFERRER, REFERRER_POLICY, take_query_tokens
from broadcaster.web.services import Mount, Services, tenant_of
from broadcaster.web.viewing.joining import join_stream
from broadcaster.web.viewing.sse import EVENT_STREAM_FIELDS
from broadcaster.web.viewing.viewer_report import ViewerReport

STATUS: Final = 200

_log = get_logger(__name__)

_OPERATION: Final = "stream_events"
_SURFACE: Final = "streams"
_ROUTE: Final = "/v1/streams/{stream_id}/events"
# Ids with other characters are written with escapes, which the app reads.
_PATH: Final = re.compile(r"/v1/streams/([A-Za-z0-9._~-]+)/events")
_CURSOR_HEADER: Final = b"last-event-id"
_GENERATION_ID: Final = GENERATION_ID_HEADER.lower().encode()
_NO_REFERRER: Final = (REFERRER_POLICY.encode(), NO_REFERRER.encode())
# Pages of other origins (cors.py), handshakes (request.py), bodies, and a priority, which must be one that there is.
_FOR_THE_APP: Final = frozenset(
    {b"origin", b"upgrade", b"sec-websocket-key", b"content-length", b"transfer-encoding", b"expect"}
    | {PRIORITY_HEADER.encode()}
)
_VARY: Final = (b"vary", b"Origin")

Admit = Callable[[Scope], Scope | None]
"""The guard of the app: the scope that stands behind it, or None for a request that it does not admit at once."""


class PlainRequest(NamedTuple):
    """A request that may watch its stream, if there is one."""

    path: str
    record: RequestRecord
    stream_id: str
    cursor: Cursor | None
    tenant: str
    visitor: Visitor
    request_id: bytes
    has_query_token: bool
    is_followed: bool  # its stream is, by this front-end


class Admitted(NamedTuple):
    """The viewer of a request, and the fields of its response, whose status is ``STATUS``."""

    viewer: Viewer
    fields: list[tuple[bytes, bytes]]


class DirectViewers:
    """See the module's text. ``admit``, ``counts``, ``refusals`` and ``tracing``: those of the app's layers.

    ``has_origins``: whether pages of other origins may call.
    """

    def __init__(
        self,
        mount: Mount,
        *,
        admit: Admit,
        counts: RequestCounts,
        refusals: RefusalLog,
        tracing: Tracing,
        has_origins: bool,
    ) -> None:
        self._mount = mount
        self._vary = [_VARY] if has_origins else []
        self._admit = admit
        self._counts = counts
        self._refusals = refusals
        self._tracing = tracing

    def judge(self, scope: Scope) -> PlainRequest | None:
        """Who wants to watch what; None: the app must answer this request. ``scope``: of a GET without a body."""
        services, path = self._mount.services, _PATH.fullmatch(scope["path"])
        if services is None or path is None or not _FOR_THE_APP.isdisjoint([name for name, _ in scope["headers"]]):
            return None
        try:
            return self._judge(scope, path[1], services)
        except BroadcasterError:
            return None
        except Exception as error:  # the app, which does the same, responds with 500
            _log.error("direct_viewer_crashed", exc_info=error)
            return None

    def _judge(self, scope: Scope, stream_id: str, services: Services) -> PlainRequest | None:
        has_query_token = take_query_tokens(scope)
        cursors = [value for name, value in scope["headers"] if name == _CURSOR_HEADER]
        if scope["query_string"] or len(cursors) > 1:
            return None
        request_id = name_request(scope)
        admitted = self._admit(scope)
        if admitted is None:
            return None
        scope["path_params"] = admitted["path_params"] = {"stream_id": stream_id}
        check_caller(admitted, _OPERATION)
        given = cursors[0].decode("latin-1") if cursors else ""
        cursor = Cursor.parse(given) if given else None
        visitor, tenant = services.visitor_of(admitted), tenant_of(admitted, None)
        is_followed = services.known_streams.recall(stream_id, tenant=tenant) is not None
        record = RequestRecord(scope, refusals=self._refusals, tracing=self._tracing)
        record.operation, record.surface, record.route = _OPERATION, _SURFACE, _ROUTE
        record.tenant, record.stream, record.status = tenant, showable(stream_id), STATUS
        return PlainRequest(
            scope["path"], record, stream_id, cursor, tenant, visitor, request_id, has_query_token, is_followed
        )

    def admits_at_once(self, request: PlainRequest) -> bool:
        """Whether ``join`` waits for nothing."""
        services = self._mount.services
        return services is not None and request.is_followed and services.hub.admits_at_once

    async def join(self, request: PlainRequest) -> Admitted | None:
        """The viewer, to be driven at once; None: the app answers the request."""
        services, tenant = self._mount.services, request.tenant
        if services is None or not services.rates.admits_request(tenant):
            return None
        services.rates.admit_request(tenant)
        try:
            admitted = await self._admit_viewer(request, services)
        except GeneratorExit:  # it would wait, and begins anew in a task
            services.rates.return_request(tenant)
            raise
        if admitted is None:
            services.rates.return_request(tenant)
        return admitted

    async def _admit_viewer(self, request: PlainRequest, services: Services) -> Admitted | None:
        tenant, visitor = request.tenant, request.visitor
        try:
            meta = await services.known_streams.find(request.stream_id, tenant=tenant)
            if not services.hub.admission.has_room(tenant, visitor=visitor):
                return None
            if visitor.caller is not None:  # it may have lost its right since the request was judged
                services.check_admitted(visitor.caller)
            with services.hub.reserve(tenant, visitor=visitor) as place:
                viewer = await join_stream(services, meta, cursor=request.cursor, place=place)
            return self._begin(request, viewer, meta) if isinstance(viewer, Viewer) else None
        except BroadcasterError:
            return None
        except Exception as error:
            _log.error("direct_viewer_crashed", exc_info=error)
            return None

    def _begin(self, request: PlainRequest, viewer: Viewer, meta: Meta) -> Admitted:
        """Count the response, and have its line written when the viewer leaves."""
        try:
            return self._response_of(request, viewer, meta)
        except BaseException:
            viewer.observer = None
            viewer.leave()
            raise

    def _response_of(self, request: PlainRequest, viewer: Viewer, meta: Meta) -> Admitted:
        ViewerReport.attach(viewer, request.record, meta=meta)
        self._counts.add(request.path, STATUS)
        own = [(_GENERATION_ID, meta.id.encode("latin-1"))] if meta.kind == "generation" else []
        fields = named_fields([*EVENT_STREAM_FIELDS, *own, *self._vary], request.request_id)
        if request.has_query_token:
            fields.append(_NO_REFERRER)
        return Admitted(viewer, fields)
