"""``/v1/streams/{id}``: feeds for background jobs (create, append, close, delete), and how any stream stands.

Rules
1. An append is taken whole or not at all, and each refusal has its own code.
2. Everything may be sent again: creation and end by what they say, an append by its ``Idempotency-Key``. A creation
   sent again renews the lease of a feed that was given one.
3. An event is checked before it is in the log: what a viewer's client throws on must not come from us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, cast

from fastapi import Body, Header, Path, Response
from pydantic import WithJsonSchema

from broadcaster.core.publishing import MAX_EVENTS_PER_APPEND, encode_end, encode_published
from broadcaster.core.stream_ids import GENERATION_PREFIX
from broadcaster.errors import InvalidEvent, InvalidInput
from broadcaster.log.feeds import FeedConfig
from broadcaster.log.streams import Meta
from broadcaster.web import feed_schemas as schemas
from broadcaster.web.problems import MAX_LISTED_FAULTS, Fault, InvalidEvents, InvalidRequest, problem_responses
from broadcaster.web.route_table import RouteTable
from broadcaster.web.routes.generations import count_viewers
from broadcaster.web.schemas import MAX_IDEMPOTENCY_KEY_CHARS, Status
from broadcaster.web.services import Base, Services, ServicesHere, Tenant

REPLAYED: Final = "Idempotent-Replayed"

StreamId = Annotated[str, Path(description="the feed's id, chosen by who creates it")]

routes = RouteTable(prefix="/v1/streams", tags=["streams"])


@routes.put(
    "/{stream_id}",
    status_code=201,
    response_model=schemas.StreamState,
    summary="Create a feed",
    operation_id="create_stream",
    responses={
        201: {"description": "It is open", "headers": {"Location": {"schema": {"type": "string"}}}},
        200: {"description": "It was there, with this configuration", "model": schemas.StreamState},
        **problem_responses(
            "invalid_request", "stream_exists", "metadata_too_large", "unsupported_media_type", "log_unavailable"
        ),
    },
)
async def create_stream(
    *,
    response: Response,
    services: ServicesHere,
    tenant: Tenant,
    base: Base,
    stream_id: Annotated[str, Path(description=f"any id that does not begin with {GENERATION_PREFIX}")],
    body: Annotated[schemas.FeedBody | None, Body()] = None,
) -> schemas.StreamState:
    """Opens a stream that anybody who knows its id appends to. Creating it again in the same way changes nothing, but
    says that a writer lives (`lease_s`)."""
    wish = body or schemas.FeedBody()
    config = FeedConfig(
        retention_s=wish.retention_s,
        max_events=wish.max_events,
        max_bytes=wish.max_bytes,
        on_full=wish.on_full,
        metadata=wish.metadata,
        lease_s=wish.lease_s,
    )
    try:
        is_new = await services.feeds.create(stream_id, config, tenant=tenant)
    except InvalidInput as error:
        if error.code != InvalidInput.code:
            raise
        field = error.detail.partition(" ")[0]
        is_of_body = field in schemas.FeedBody.model_fields
        place = Fault("body", f"#/{field}", error.detail) if is_of_body else Fault("path", "stream_id", error.detail)
        raise InvalidRequest(error.detail, faults=[place]) from error
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"{base}/v1/streams/{stream_id}"
    return await _show(services, await services.feeds.get(stream_id, tenant=tenant), base=base)


@routes.get(
    "/{stream_id}",
    summary="How a stream stands",
    operation_id="get_stream",
    responses=problem_responses("unknown_stream", "log_unavailable"),
)
async def get_stream(
    services: ServicesHere,
    tenant: Tenant,
    base: Base,
    stream_id: Annotated[str, Path(description="the generation's or feed's id")],
) -> schemas.StreamState:
    """Kind, status, what is held, and who watches. A feed whose lease has lapsed is ended by this look."""
    return await _show(services, await services.feeds.get(stream_id, tenant=tenant), base=base)


@routes.post(
    "/{stream_id}/events",
    response_model=schemas.AppendedView,
    summary="Append to a feed",
    operation_id="append_events",
    responses={
        200: {"description": "All are in the log, in this order, with nothing of another writer in between"},
        **problem_responses(
            "invalid_event",
            "invalid_request",
            "unknown_stream",
            "stream_closed",
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
    services: ServicesHere,
    tenant: Tenant,
    stream_id: StreamId,
    body: Annotated[Any, WithJsonSchema(schemas.EVENTS_SCHEMA), Body()],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=MAX_IDEMPOTENCY_KEY_CHARS,
            description="the same key and body again give the same ids, for ten minutes (on a crowded feed 90 s)",
        ),
    ] = None,
) -> schemas.AppendedView:
    """One event or an array of them, all or none. Each gets the next number, whoever else appends."""
    events = _checked_events(body)
    services.rates.admit_append(tenant, len(events))
    taken = await services.feeds.append(stream_id, events, tenant=tenant, idempotency_key=idempotency_key)
    if not taken.is_new:
        response.headers[REPLAYED] = "true"
    return schemas.AppendedView(
        ids=[str(cursor) for cursor in taken.ids], last_id=str(taken.last), last_seq=taken.last.seq
    )


@routes.post(
    "/{stream_id}/close",
    summary="End a feed",
    operation_id="close_stream",
    responses=problem_responses(
        "invalid_request",
        "invalid_event",
        "unknown_stream",
        "stream_closed",
        "event_too_large",
        "unsupported_media_type",
        "log_unavailable",
    ),
)
async def close_stream(
    *,
    services: ServicesHere,
    tenant: Tenant,
    base: Base,
    stream_id: StreamId,
    body: Annotated[Any, WithJsonSchema(schemas.END_SCHEMA), Body()] = None,
) -> schemas.StreamState:
    """Appends the terminal event: `finish` (also without a body), `error` or `abort`. The same end again is fine."""
    end = _checked({} if body is None else body, encode_end, place="#")
    if isinstance(end, Fault):
        raise _refusal([end])
    await services.feeds.close(stream_id, end, tenant=tenant)
    return await _show(services, await services.feeds.get(stream_id, tenant=tenant), base=base)


@routes.delete(
    "/{stream_id}",
    status_code=204,
    response_class=Response,
    summary="Delete a feed",
    operation_id="delete_stream",
    responses=problem_responses("unknown_stream", "log_unavailable"),
)
async def delete_stream(services: ServicesHere, tenant: Tenant, stream_id: StreamId) -> Response:
    """Ends it with `abort` unless it is over, and forgets it; its tenant may use the id again after an hour.

    Who watches it gets the end; who comes later gets 404. Deleting again is 204 for an hour, then 404.
    """
    await services.feeds.delete(stream_id, tenant=tenant)
    return Response(status_code=204)


def _checked_events(body: Any) -> list[bytes]:
    """Every event's bytes. Raises InvalidEvents with the place of each fault."""
    if not isinstance(body, list):
        outcomes = [_checked(body, encode_published, place="#")]
    elif 1 <= len(body) <= MAX_EVENTS_PER_APPEND:
        outcomes = [_checked(each, encode_published, place=f"#/{at}") for at, each in enumerate(body)]
    else:
        outcomes = [Fault("body", "#", f"an append has 1 to {MAX_EVENTS_PER_APPEND} events")]
    faults = [outcome for outcome in outcomes if isinstance(outcome, Fault)]
    if faults:
        raise _refusal(faults)
    return [outcome for outcome in outcomes if isinstance(outcome, bytes)]


def _checked(value: Any, encode: Callable[..., bytes], *, place: str) -> bytes | Fault:
    try:
        return encode(value, is_writable=True)  # it comes from a body
    except InvalidEvent as error:
        return Fault("body", place + error.pointer, error.detail)


def _refusal(faults: list[Fault]) -> InvalidEvents:
    first, more = faults[0], f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidEvents(f"{first.part} {first.place}: {first.detail}{more}", faults=faults[:MAX_LISTED_FAULTS])


async def _show(services: Services, meta: Meta, *, base: str) -> schemas.StreamState:
    (tail,) = await services.streams.tails([meta.id])
    first = await services.streams.first(meta.id)
    (viewers,) = await count_viewers(services, [meta.id])
    newest = tail.last or meta.terminal_id
    return schemas.StreamState(
        id=meta.public_id,
        kind=meta.kind,
        status=cast(Status, meta.status),
        first_seq=0 if first is None else first.seq,
        last_seq=0 if newest is None else newest.seq,
        last_id=None if newest is None else str(newest),
        created_at=meta.created_ms / 1000,
        ended_at=None if meta.ended_ms is None else meta.ended_ms / 1000,
        metadata=meta.request.get("metadata") or {},
        events_url=f"{base}/v1/streams/{meta.public_id}/events",
        lease_s=None if meta.lease_ms is None else meta.lease_ms / 1000,
        viewers=viewers,
    )
