"""``/v1/streams/{id}``: feeds for background jobs (create, append, close, delete), and the state of any stream.

Rules
1. An append is taken whole or not at all, and each refusal has its own code.
2. Every request may be repeated: creation and end because they are the same, an append by its ``Idempotency-Key``. A
   repeated creation renews the lease of a feed that has one. A creation with ``if_exists`` has a random owner, or one
   named by its ``Idempotency-Key``: so no other creation is the same, however equal the rest is.
3. The ``ETag`` of a creation names it. A writer that sends it back (``If-Match``) is refused once another creation has
   replaced its feed; without it, every append to the id is admitted.
4. An event is checked before it is in the log: viewers' clients throw on malformed events.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import Body, Header, Path, Query, Response
from pydantic import WithJsonSchema

from broadcaster.core.cursor import Cursor
from broadcaster.core.requests.options import IfExists
from broadcaster.core.requests.progress import JobProgress
from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND, encode_end, encode_published
from broadcaster.core.requests.stream_ids import GENERATION_PREFIX
from broadcaster.errors import InvalidEvent, InvalidInput, StreamExists, UnknownStream
from broadcaster.log.feeds.feeds import FeedConfig
from broadcaster.log.streams.reader import ListedEnd, Meta
from broadcaster.web.documents import feed_schemas as schemas
from broadcaster.web.documents.parameters import LISTED, ListedStatus, PageBefore, PageSize
from broadcaster.web.documents.problems import InvalidEvents, InvalidRequest, RequestFault, problem_responses
from broadcaster.web.documents.schemas import MAX_IDEMPOTENCY_KEY_CHARS
from broadcaster.web.documents.views import (
    content_type_of,
    listed_stream,
    metadata_of,
    read_content,
    stream_state,
    webhook_of,
)
from broadcaster.web.guards.callers import may_watch
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Arrival
from broadcaster.web.viewing.generation_requests import count_viewers

REPLAYED: Final = "Idempotent-Replayed"

_OWNER_BYTES: Final = 16
# A proxy that compresses a response makes its tag a weak one.
_TAG: Final = re.compile(r'(?:W/)?"([0-9a-f]{32})"')
_TAG_HEADER: Final[dict[str, Any]] = {
    "schema": {"type": "string"},
    "description": "names this creation: appends that send it as If-Match are refused once another has replaced it",
}

IfMatch = Annotated[
    str | None,
    Header(
        description="the `ETag` of the feed's creation: 412 `stream_replaced` once another creation has the id. "
        "Without it, the feed that has the id takes the events"
    ),
]
StreamId = Annotated[str, Path(description="the feed's id, chosen by its creator")]

routes = RouteTable(prefix="/v1/streams", tag="streams")


@routes.put(
    "/{stream_id}",
    status_code=201,
    summary="Create a feed",
    responses={
        201: {
            "description": "It is open. With `if_exists`: this request, or an earlier one with its Idempotency-Key, "
            "has created it",
            "headers": {
                "Location": {"schema": {"type": "string"}},
                "ETag": _TAG_HEADER,
                REPLAYED: {"schema": {"const": "true"}, "description": "an earlier request had created it"},
            },
        },
        200: {
            "description": "It exists already, with this configuration; or it was joined (`if_exists=join`), and has "
            "no `ETag`",
            "headers": {"Location": {"schema": {"type": "string"}}, "ETag": _TAG_HEADER},
            "model": schemas.StreamView,
        },
        **problem_responses(
            "invalid_request",
            "stream_exists",
            "metadata_too_large",
            "webhook_not_allowed",
            "tenant_limit",
            "busy",
            "unsupported_media_type",
            "log_unavailable",
        ),
    },
)
async def create_stream(
    *,
    response: Response,
    here: Here,
    stream_id: Annotated[str, Path(description=f"any id that does not begin with {GENERATION_PREFIX}")],
    body: Annotated[schemas.FeedBody | None, Body()] = None,
    if_exists: Annotated[
        IfExists | None,
        Query(
            description="what a stream of this id means. Without it, a feed of the same configuration is this feed, "
            "and any other a 409. With it the feed has one creator: `fail`: any stream is a 409; `replace`: the newest "
            "content wins, viewers get an `attempt` event, and the caller also needs the right to delete; `join`: the "
            "stream that is there is returned with 200, and the caller also needs the right to watch"
        ),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_IDEMPOTENCY_KEY_CHARS,
            description="with `if_exists`: the same key and body are one creation, so that it can be repeated",
        ),
    ] = None,
) -> schemas.StreamView:
    """Opens a stream for all writers of the tenant that know its id. Repeating the same creation only renews the lease
    (`lease_s`)."""
    services, tenant, base = here
    owner = None if if_exists is None else idempotency_key or secrets.token_hex(_OWNER_BYTES)
    config = FeedConfig(**(body or schemas.FeedBody()).model_dump(exclude_none=True), owner=owner)
    try:
        is_new = await services.feeds.create(stream_id, config, tenant=tenant, replaces=if_exists == "replace")
    except StreamExists as taken:
        if if_exists != "join":
            raise
        response.status_code = 200
        response.headers["Location"] = f"{base}/v1/streams/{stream_id}"
        return await _show_joined(here, stream_id, taken)
    except InvalidInput as error:
        if error.code != InvalidInput.code:
            raise
        field = error.detail.partition(" ")[0]
        place = ("body", f"#/{field}") if field in schemas.FeedBody.model_fields else ("path", "stream_id")
        raise InvalidRequest(error.detail, faults=[RequestFault(*place, error.detail)]) from error
    response.status_code = 201 if is_new or if_exists is not None else 200
    response.headers["Location"] = f"{base}/v1/streams/{stream_id}"  # an id that was checked: headers are Latin-1
    response.headers["ETag"] = f'"{config.digest()}"'
    if not is_new and if_exists is not None:
        response.headers[REPLAYED] = "true"
    if is_new and services.record is not None:
        services.record.created(stream_id, kind="feed")
    return await _show(here, stream_id)


@routes.get(
    "",
    summary="Your streams",
    responses=problem_responses("invalid_request", "log_unavailable"),
)
async def list_streams(
    here: Here,
    status: ListedStatus = "all",
    limit: PageSize = LISTED,
    before: PageBefore = None,
) -> schemas.StreamPage:
    """The caller's newest generations and feeds, a thousand of each kind at most, as long as they are stored.

    A feed that a program of an earlier version has created is listed once a program of this version writes to it.
    """
    services, tenant, base = here
    listed = await services.lists.page(
        tenant, which=status, limit=limit, before=None if before is None else int(before), with_feeds=True
    )
    ends = await services.streams.listed_ends([meta.id for meta in listed.metas], with_progress=True)
    shown = [await _unlapsed(here, meta, end) for meta, end in zip(listed.metas, ends, strict=True)]
    viewers = await count_viewers(services, [meta.id for meta, _ in shown])
    return schemas.StreamPage(
        streams=[
            schemas.ListedStreamView(
                **listed_stream(meta, last=last, viewers=count, base=base, progress=_progress_of(meta, end))
            )
            for (meta, last), end, count in zip(shown, ends, viewers, strict=True)
        ],
        next_before=None if listed.next_before is None else str(listed.next_before),
    )


def _progress_of(meta: Meta, end: ListedEnd) -> JobProgress | None:
    """Of a running feed alone."""
    return end.progress if meta.kind == "feed" and not meta.is_over and meta.durable is None else None


async def _unlapsed(here: Arrival, meta: Meta, end: ListedEnd) -> tuple[Meta, Cursor | None]:
    """The feed as it is once it was ended, if its lease has lapsed: a dead writer's feed must not look alive."""
    if meta.kind != "feed" or meta.is_over or meta.lease_ms is None or end.leased:
        return meta, end.last
    services, tenant, _ = here
    try:
        now = await services.feeds.get(meta.public_id, tenant=tenant)
    except UnknownStream:  # it was deleted or has expired since the list was read
        return meta, end.last
    return now, now.terminal_id or end.last


@routes.get(
    "/{stream_id}",
    summary="The state of a stream, and its content",
    response_model=schemas.StreamContentView | schemas.StreamView,
    responses=problem_responses("unknown_stream", "invalid_request", "tenant_limit", "busy", "log_unavailable"),
)
async def get_stream(
    here: Here,
    stream_id: Annotated[str, Path(description="the generation's or feed's id")],
    parts: Annotated[bool, Query(description="true: with its text, reasoning and parts so far")] = False,
) -> schemas.StreamView:
    """Kind, status, bounds, and the count of viewers. This request ends a feed whose lease has lapsed."""
    state = await _show(here, stream_id)
    if not parts:
        return state
    services, tenant, _ = here
    meta = await services.feeds.get(stream_id, tenant=tenant)
    content = await read_content(services.reader, meta.id)
    return schemas.StreamContentView(**state.model_dump(), **content)


@routes.post(
    "/{stream_id}/events",
    summary="Append to a feed",
    responses={
        200: {"description": "All are in the log, in this order, with nothing of another writer in between"},
        **problem_responses(
            "invalid_event",
            "invalid_request",
            "unknown_stream",
            "stream_closed",
            "stream_replaced",
            "stream_full",
            "event_too_large",
            "body_too_large",
            "unsupported_media_type",
            "idempotency_mismatch",
            "rate_limited",
            "log_unavailable",
        ),
    },
)
async def append_events(
    *,
    response: Response,
    here: Here,
    stream_id: StreamId,
    body: Annotated[Any, WithJsonSchema(schemas.EVENTS_SCHEMA), Body()],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_IDEMPOTENCY_KEY_CHARS,
            description="the same key and body return the same ids, for ten minutes (on a crowded feed 90 s)",
        ),
    ] = None,
    if_match: IfMatch = None,
) -> schemas.AppendedView:
    """One event or an array of events, all or nothing. Each gets the next number, also with other writers."""
    services, tenant, _ = here
    events, creation = _checked_events(body), _creation_of(if_match)
    with services.rates.appending(tenant, len(events)) as counted:
        taken = await services.feeds.append(
            stream_id, events, tenant=tenant, idempotency_key=idempotency_key, creation=creation
        )
        counted.is_new = taken.is_new
    if not taken.is_new:
        response.headers[REPLAYED] = "true"
    return schemas.AppendedView(
        ids=[str(cursor) for cursor in taken.ids], last_id=str(taken.last), last_seq=taken.last.seq
    )


@routes.post(
    "/{stream_id}/close",
    response_model=schemas.StreamView | schemas.ClosedFeed,
    summary="End a feed",
    responses=problem_responses(
        "invalid_request",
        "invalid_event",
        "unknown_stream",
        "stream_closed",
        "stream_replaced",
        "event_too_large",
        "unsupported_media_type",
        "log_unavailable",
    ),
)
async def close_stream(
    *,
    here: Here,
    stream_id: StreamId,
    body: Annotated[Any, WithJsonSchema(schemas.END_SCHEMA), Body()] = None,
    if_match: IfMatch = None,
) -> schemas.StreamView | schemas.ClosedFeed:
    """Appends the terminal event: `finish` (also without a body), `error` or `abort`. The same end may be repeated.

    A caller without the right to watch gets the outcome alone.
    """
    services = here.services
    (end,) = _encoded({"#": {} if body is None else body}, encode_end)
    await services.feeds.close(stream_id, end, tenant=here.tenant, creation=_creation_of(if_match))
    if not await may_watch(services, stream_id):
        meta = await services.feeds.get(stream_id, tenant=here.tenant)
        return schemas.ClosedFeed(kind="feed", **stream_state(meta, last=None, viewers=0, base=here.base))
    return await _show(here, stream_id)


@routes.delete(
    "/{stream_id}",
    status_code=204,
    response_class=Response,
    summary="Delete a feed",
    responses=problem_responses("unknown_stream", "log_unavailable"),
)
async def delete_stream(here: Here, stream_id: StreamId) -> Response:
    """Ends it with `abort` unless it is over, and deletes it; its tenant may reuse the id after an hour.

    Its viewers get the end; later ones get 404. Repeating the deletion is 204 for an hour, then 404.
    """
    await here.services.feeds.delete(stream_id, tenant=here.tenant)
    return Response(status_code=204)


def _creation_of(if_match: str | None) -> str:
    """The creation that a writer names; empty: any. Raises InvalidRequest."""
    if if_match is None:
        return ""
    tag = _TAG.fullmatch(if_match.strip())
    if tag is None:
        raise InvalidRequest.of(RequestFault("header", "if-match", "send the ETag of the feed's creation, unchanged"))
    return tag[1]


def _checked_events(body: Any) -> list[bytes]:
    """Every event's bytes. Raises InvalidEvents with the place of each fault."""
    if not isinstance(body, list):
        return _encoded({"#": body}, encode_published)
    if not 1 <= len(body) <= MAX_EVENTS_PER_APPEND:
        raise InvalidEvents.of(RequestFault("body", "#", f"an append has 1 to {MAX_EVENTS_PER_APPEND} events"))
    return _encoded({f"#/{at}": each for at, each in enumerate(body)}, encode_published)


def _encoded(values: Mapping[str, Any], encode: Callable[..., bytes]) -> list[bytes]:
    """The bytes of these values, by their places in the body. Raises InvalidEvents."""
    encoded, faults = [], []
    for place, value in values.items():
        try:
            encoded.append(encode(value, is_writable=True))  # it comes from a body
        except InvalidEvent as error:
            faults.append(RequestFault("body", place + error.pointer, error.detail))
    if faults:
        raise InvalidEvents.of(*faults)
    return encoded


async def _show_joined(here: Arrival, stream_id: str, taken: StreamExists) -> schemas.StreamView:
    """The stream that is there. Raises ``taken`` for one that was deleted within the hour."""
    try:
        return await _show(here, stream_id)
    except UnknownStream as error:
        raise taken from error


async def _show(here: Arrival, stream_id: str) -> schemas.StreamView:
    services, tenant, base = here
    meta = await services.feeds.get(stream_id, tenant=tenant)
    (tail,) = await services.streams.tails([meta.id])
    first = await services.streams.first(meta.id)
    (viewers,) = await count_viewers(services, [meta.id])
    return schemas.StreamView(
        **stream_state(meta, last=tail.last, viewers=viewers, base=base) | {"webhook": webhook_of(meta)},
        kind=meta.kind,
        content_type=content_type_of(meta),
        first_seq=0 if first is None else first.seq,
        metadata=metadata_of(meta),
        lease_s=None if meta.lease_ms is None else meta.lease_ms / 1000,
    )
