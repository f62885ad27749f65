"""``/ds/{path}``: the operations of Durable Streams 1.0 (docs/durable-streams.md).

Rules
1. A stream of the path ``a/b`` is the stream ``a:b`` of every other route: same rights, same bounds, same lists.
2. Only streams that were created here are written here. Every other stream of the tenant is read as JSON messages.
3. Forks and subscriptions are answered with 501.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path, Request, Response

from broadcaster.core.cursor import START
from broadcaster.dialects.durable.contents import DurableContent, format_tag
from broadcaster.dialects.durable.frames import DurableFrames
from broadcaster.dialects.durable.headers import id_of_path, read_cursor
from broadcaster.dialects.durable.offsets import LivePlace, format_offset, parse_offset
from broadcaster.errors import InvalidInput
from broadcaster.hub.viewer import Viewer
from broadcaster.log.feeds.durable_streams import DurableCode
from broadcaster.log.streams.reader import Meta
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.routes.durable.live import DurableEventStream, wait_for_content
from broadcaster.web.routes.durable.reading import DurablePiece, find_place, read_piece
from broadcaster.web.routes.durable.responses import (
    GUARDS,
    append_response,
    content_of,
    content_type_of,
    live_cursor,
    not_supported,
    read_only,
    state_headers,
)
from broadcaster.web.routes.durable.writing import read_append, read_creation
from broadcaster.web.services import Services
from broadcaster.web.viewing.joining import join_stream

StreamPath = Annotated[str, Path(description="1 to 128 of A-Z a-z 0-9 _ . : - and /, which counts as a colon")]

_RESERVED: Final = "__ds"
_FORK: Final = ("stream-forked-from", "stream-fork-offset", "stream-fork-sub-offset")
_SSE_HEADERS: Final = {"cache-control": "no-cache, no-store, no-transform"}

routes = RouteTable(prefix="/ds", tag="durable-streams", takes_bytes=True)


@routes.put("/{stream_path:path}", include_in_schema=False)
async def create_durable_stream(*, request: Request, here: Here, stream_path: StreamPath) -> Response:
    """Create a stream, with its first content, closed if that is all; or find it as it was created."""
    if _is_reserved(stream_path):
        return not_supported("subscriptions")
    if any(name in request.headers for name in _FORK):
        return not_supported("forks")
    services, tenant, _ = here
    config, content = await read_creation(services, request)
    stream_id = id_of_path(stream_path)
    with services.rates.appending(tenant, len(content.events)) as counted:
        created = await services.durable.create(stream_id, config, tenant=tenant, content=content)
        counted.is_new = created.is_new
    headers = {**state_headers(created.tail, is_closed=content.closes), "content-type": config.content_type}
    if not created.is_new:
        return Response(headers=headers)
    if services.record is not None:
        services.record.created(stream_id, kind="feed")
    return Response(status_code=201, headers={**headers, "location": _location_of(request)})


def _location_of(request: Request) -> str:
    """The whole URL, which the protocol requires, as the client has it: a proxy that ends TLS names its scheme.

    Any client may send this header: the response goes to itself alone.
    """
    scheme = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    secure = {"scheme": "https"} if scheme == "https" else {}
    return str(request.url.replace(query="", **secure))


@routes.post("/{stream_path:path}", include_in_schema=False)
async def append_durable_stream(*, request: Request, here: Here, stream_path: StreamPath) -> Response:
    """Append, close, or both in one step."""
    if _is_reserved(stream_path):
        return not_supported("subscriptions")
    services, tenant, _ = here
    content = await read_append(services, request)
    with services.rates.appending(tenant, len(content.events)) as counted:
        outcome = await services.durable.append(id_of_path(stream_path), content, tenant=tenant)
        counted.is_new = outcome.code is DurableCode.APPENDED
    return append_response(outcome, content)


@routes.head("/{stream_path:path}", include_in_schema=False)
async def head_durable_stream(*, here: Here, stream_path: StreamPath) -> Response:
    """The content type, the tail, how long it is kept, and whether it is closed."""
    services, tenant, _ = here
    meta = await services.feeds.get(id_of_path(stream_path), tenant=tenant)
    place = await find_place(services, meta, LivePlace.NOW)
    headers = {**state_headers(place.next, is_closed=place.is_closed), "content-type": content_type_of(meta)}
    if meta.durable is not None and meta.durable.ttl_s is not None:
        headers["stream-ttl"] = str(meta.durable.ttl_s)
    if meta.durable is not None and meta.durable.expires_at is not None:
        headers["stream-expires-at"] = meta.durable.expires_at
    return Response(headers=headers)


@routes.delete("/{stream_path:path}", include_in_schema=False)
async def delete_durable_stream(*, here: Here, stream_path: StreamPath) -> Response:
    """Delete a stream; one may be created anew under its path at once."""
    if _is_reserved(stream_path):
        return not_supported("subscriptions")
    services, tenant, _ = here
    stream_id = id_of_path(stream_path)
    meta = await services.feeds.get(stream_id, tenant=tenant)
    if meta.durable is None:
        return read_only()
    await services.feeds.delete(stream_id, tenant=tenant)
    return Response(status_code=204, headers=GUARDS)


@routes.get("/{stream_path:path}", include_in_schema=False)
async def read_durable_stream(*, request: Request, here: Here, stream_path: StreamPath) -> Response:
    """Read from an offset: what is there, the next that comes (long-poll), or all that comes (sse)."""
    if _is_reserved(stream_path):
        return not_supported("subscriptions")
    services, tenant, _ = here
    offset, live = _single(request, "offset"), _single(request, "live")
    if live not in (None, "long-poll", "sse"):
        raise InvalidInput("live: long-poll or sse")
    if live is not None and offset is None:
        raise InvalidInput(f"offset: live={live} needs one; -1 is the beginning")
    place = START if offset is None else parse_offset(offset)
    cursor = live_cursor(read_cursor(_single(request, "cursor")))
    meta = await services.feeds.get(id_of_path(stream_path), tenant=tenant)
    await services.durable.touch(meta)
    if live == "sse":
        at = await find_place(services, meta, place)
        return await _follow(services, meta, at, cursor=cursor)
    if isinstance(place, LivePlace):
        piece = await find_place(services, meta, place)
    else:
        piece = await read_piece(services, meta, place)
    if live == "long-poll":
        if not (piece.pieces or piece.is_closed):
            piece = await wait_for_content(services, request, meta, after=piece)
        return _piece_response(meta, piece, cursor=cursor)
    if isinstance(place, LivePlace):
        return _piece_response(meta, piece)
    start, end = format_offset(place), format_offset(piece.next)
    tag = format_tag(meta.created_ms, start, end, is_closed=piece.is_closed)
    return _piece_response(meta, piece, tag=tag, known=request.headers.get("if-none-match", ""))


def _piece_response(
    meta: Meta, piece: DurablePiece, *, cursor: str | None = None, tag: str | None = None, known: str = ""
) -> Response:
    """``cursor``: of a long poll. ``tag`` and ``known``: the ETag, and those that the client has."""
    is_whole = piece.is_at_end
    headers = state_headers(piece.next, is_closed=piece.is_closed and is_whole)
    if is_whole:
        headers["stream-up-to-date"] = "true"
    if cursor is not None:
        headers["stream-cursor"] = cursor
        if not piece.pieces:
            return Response(status_code=204, headers=headers)
    if tag is not None:
        headers["etag"] = tag
        if tag in [each.strip().removeprefix("W/") for each in known.split(",")]:
            return Response(status_code=304, headers=headers)
    return Response(piece.body, headers={**headers, "content-type": content_type_of(meta)})


async def _follow(services: Services, meta: Meta, at: DurablePiece, *, cursor: str) -> Response:
    content = content_of(meta)
    headers = {**GUARDS, **_SSE_HEADERS}
    if content is DurableContent.BYTES:
        headers["stream-sse-data-encoding"] = "base64"
    frames = DurableFrames(content, at=at.next, cursor=cursor)
    viewer = await join_stream(services, meta, cursor=None if at.seen == START else at.seen)
    if isinstance(viewer, Viewer):
        return DurableEventStream(viewer, frames, headers=headers, meta=meta)
    return Response(frames.take(is_at_end=True, is_closed=True), media_type=None, headers=_as_event_stream(headers))


def _as_event_stream(headers: dict[str, str]) -> dict[str, str]:
    return {**headers, "content-type": "text/event-stream"}


def _single(request: Request, name: str) -> str | None:
    """A parameter of the query. Raises InvalidInput for one that is sent twice."""
    given = request.query_params.getlist(name)
    if len(given) > 1:
        raise InvalidInput(f"{name}: send it once")
    return given[0] if given else None


def _is_reserved(path: str) -> bool:
    return path == _RESERVED or path.startswith(f"{_RESERVED}/")
