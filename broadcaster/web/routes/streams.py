"""``/v1/streams/{id}/events`` and ``/ws``: the events of a stream, from any point, live.

Rules
1. Only a request that can never succeed gets an error status (400, 404). A temporary failure (overload, drain, a Redis
   that does not respond) is sent inside a 200 with ``retry``: an EventSource never reconnects after another status.
2. A stream with no more events is a 204, on which an EventSource stops. A WebSocket is closed with 1000: a page cannot
   see the status of a handshake.
3. Over a WebSocket the native dialect alone is served, one event a message. A request that is no handshake passes the
   same checks, and then gets 426: so a page whose handshake failed learns why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from fastapi import Header, Path, Query, Request, Response
from starlette.types import Scope

from broadcaster.core.cursor import Cursor
from broadcaster.core.requests.priorities import PRIORITY_HEADER
from broadcaster.dialects import DIALECTS, MESSAGES, NATIVE, NATIVE_SNAPSHOT, SNAPSHOT_MESSAGES, Dialect
from broadcaster.errors import Busy
from broadcaster.hub.places import Place
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents.problem_table import UnknownDialect
from broadcaster.web.documents.problems import GENERATION_ID_HEADER, problem_response, problem_responses
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Arrival, Services, tenant_of
from broadcaster.web.viewing.handshake import handshake_of
from broadcaster.web.viewing.joining import find_stream, join_stream
from broadcaster.web.viewing.sse import EventStreamResponse
from broadcaster.web.viewing.websocket import WebSocketResponse

_CURSOR_HEADER: Final = b"last-event-id"
# The grammar of `Cursor.parse`, for the OpenAPI document.
_CURSOR: Final = {"pattern": "^((0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19}))?$"}
_UPGRADE: Final = {"upgrade": "websocket", "connection": "upgrade"}
_NO_HANDSHAKE: Final = (
    "open this path as a WebSocket (a proxy in between must pass Upgrade and Connection on), or read the events as "
    "server-sent events at the same path with /events in place of /ws"
)
# A body, and a priority, which must be one that there is.
_READ_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding", PRIORITY_HEADER.encode()})


StreamId = Annotated[str, Path(description="the generation's or feed's id")]
LastEventId = Annotated[
    str, Header(description="the last event seen; wins over `after`; empty: no cursor", json_schema_extra=_CURSOR)
]
After = Annotated[
    str, Query(description="the same cursor, for clients that cannot send headers", json_schema_extra=_CURSOR)
]
WaitS = Annotated[float, Query(ge=0, allow_inf_nan=False, description="wait for a stream that is not created yet")]
ReplayMode = Annotated[
    Literal["events", "snapshot"] | None,
    Query(
        description="what a late joiner gets: every event (default of `native`), or one short opening with the "
        "same content (default of the others; natively one `hub.snapshot`)"
    ),
]


class _PlainFollow:
    """``follow`` for what an EventSource sends: no query, no body, one cursor at most."""

    def fits(self, scope: Scope) -> bool:
        """See Shortcut."""
        if scope["method"] != "GET" or scope["query_string"]:
            return False
        names = [name for name, _ in scope["headers"]]
        return names.count(_CURSOR_HEADER) <= 1 and _READ_HEADERS.isdisjoint(names)

    async def answer(self, services: Services, scope: Scope) -> Response:
        """See Shortcut."""
        given = next((value for name, value in scope["headers"] if name == _CURSOR_HEADER), b"")
        return await follow(
            request=Request(scope),
            here=Arrival(services, tenant_of(scope, None), base=""),
            stream_id=scope["path_params"]["stream_id"],
            last_event_id=given.decode("latin-1"),
        )


routes = RouteTable(prefix="/v1/streams", tag="streams")


@routes.get(
    "/{stream_id}/events",
    shortcut=_PlainFollow(),
    summary="Follow a stream",
    operation_id="stream_events",
    response_class=Response,
    responses={
        200: {
            "description": "Entries (`id: <epoch>-<seq>`, `data: <event>`) and the hub's notices (`event: hub.*`)",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: hub.hello\nretry: 1432\ndata: {"id":"gen_01","status":"running"}\n\n'
                    'id: 1795230000000-1\ndata: {"type":"text-delta","id":"0","delta":"Hello"}\n\n',
                }
            },
        },
        204: {"description": "The cursor is the terminal event's own: there are no more events"},
        **problem_responses("invalid_request", "bad_cursor", "unknown_dialect", "unknown_stream"),
    },
)
async def follow(
    *,
    request: Request,
    here: Here,
    stream_id: StreamId,
    last_event_id: LastEventId = "",
    after: After = "",
    dialect: Annotated[
        str, Query(description="the encoding of the stream", json_schema_extra={"enum": [*DIALECTS]})
    ] = NATIVE.name,
    wait_s: WaitS = 0,
    replay: ReplayMode = None,
) -> Response:
    """Replays what comes after the cursor, then follows live, until the one terminal event.

    Closing the connection stops nothing but the watching. A lost one is resumed with `Last-Event-ID`, which every
    `EventSource` sends by itself.
    """
    services, tenant, _ = here
    given = last_event_id or after
    cursor = Cursor.parse(given) if given else None
    chosen = DIALECTS.get(dialect)
    if chosen is None:
        raise UnknownDialect(f"no such dialect; served: {', '.join(DIALECTS)}")
    if chosen is NATIVE and replay == "snapshot":
        chosen = NATIVE_SNAPSHOT
    try:
        services.rates.admit_request(tenant)
        wait_s = services.bounded_wait_s(wait_s)
        meta = await find_stream(services, stream_id, tenant=tenant, wait_s=wait_s, request=request)
        return await stream_events(services, meta, cursor=cursor, dialect=chosen, with_snapshot=replay != "events")
    except Busy as error:
        return EventStreamResponse(services.hub.refuse(error, dialect=chosen))


async def stream_events(
    services: Services,
    meta: Meta,
    *,
    cursor: Cursor | None,
    dialect: Dialect = NATIVE,
    headers: Mapping[str, str] | None = None,
    with_snapshot: bool = True,
    place: Place | None = None,
) -> Response:
    """The response that streams a generation or feed after ``cursor``. Temporary failures raise nothing (rule 1)."""
    try:
        viewer = await join_stream(
            services, meta, cursor=cursor, dialect=dialect, with_snapshot=with_snapshot, place=place
        )
    except Busy as error:
        viewer = services.hub.refuse(error, dialect=dialect)
    if isinstance(viewer, Finished):
        return Response(status_code=204, headers=headers)
    named = {GENERATION_ID_HEADER: meta.id} if meta.kind == "generation" else {}
    return EventStreamResponse(viewer, headers={**named, **(headers or {})}, meta=meta)


@routes.websocket(
    "/{stream_id}/ws",
    summary="Follow a stream over a WebSocket",
    operation_id="stream_ws",
    response_class=Response,
    responses={
        101: {
            "description": "The events of `/events` as text messages, one each: "
            '`{"id": "<epoch>-<seq>", "data": <event>}`, and notices as `{"event": "hub.…", "data": …}`'
        },
        **problem_responses("invalid_request", "bad_cursor", "unknown_stream", "websocket_required"),
    },
)
async def follow_over_websocket(
    *,
    request: Request,
    here: Here,
    stream_id: StreamId,
    last_event_id: LastEventId = "",
    after: After = "",
    dialect: Annotated[Literal["native"], Query(description="a WebSocket carries the native dialect")] = "native",
    wait_s: WaitS = 0,
    replay: ReplayMode = None,
) -> Response:
    """The same stream for networks that hold server-sent events back: replay after the cursor, then live.

    The last message before the close is the terminal event, or `hub.bye` with the reason. The client sends nothing.
    """
    services, tenant, _ = here
    is_handshake = handshake_of(request.scope) is not None
    given = last_event_id or after
    cursor = Cursor.parse(given) if given else None
    chosen = SNAPSHOT_MESSAGES if replay == "snapshot" else MESSAGES
    try:
        services.rates.admit_request(tenant)
        wait_s = services.bounded_wait_s(wait_s)
        meta = await find_stream(services, stream_id, tenant=tenant, wait_s=wait_s, request=request)
        if not is_handshake:
            return problem_response("websocket_required", _NO_HANDSHAKE, headers=_UPGRADE)
        viewer = await join_stream(services, meta, cursor=cursor, dialect=chosen, with_snapshot=replay != "events")
    except Busy as error:
        if not is_handshake:
            raise
        return WebSocketResponse(services.hub.refuse(error, dialect=chosen))
    if isinstance(viewer, Finished):
        return WebSocketResponse(Refused(StopReason.TERMINAL, b""))
    named = {GENERATION_ID_HEADER: meta.id} if meta.kind == "generation" else {}
    return WebSocketResponse(viewer, hold=services.hold, headers=named, meta=meta)
