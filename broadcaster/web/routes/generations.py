"""``/v1/generations``: start an answer, read it, wait for it, stop it, delete it.

A caller can wait for the end without a stream: by ``stream: false``, ``?wait_s=`` and ``Prefer: wait=`` at the
creation, and by ``?wait_s=`` at a read. If time or a drain ends the waiting early, the generation continues, and the
response is its state. A caller that stays, to stream or to wait, takes a viewer's place before its generation is
created: without a place it is refused, and nothing is created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, NamedTuple, TypeVar

from fastapi import Body, Header, Path, Query, Request, Response

from broadcaster.errors import Busy, LogUnavailable, UnknownModel
from broadcaster.hub.places import Place
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents import schemas
from broadcaster.web.documents.parameters import LISTED, IdempotencyKey, ListedStatus, PageBefore, PageSize
from broadcaster.web.documents.problems import (
    CREATION_CODES,
    GENERATION_ID_HEADER,
    InvalidRequest,
    RequestFault,
    error_response,
    problem_responses,
)
from broadcaster.web.documents.views import generation_state, read_view
from broadcaster.web.guards.callers import may_watch
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.routes.streams import stream_events
from broadcaster.web.services import Services
from broadcaster.web.viewing.generation_requests import count_viewers, generation_request
from broadcaster.web.viewing.joining import EXPIRED, check_kept, created_meta, has_beginning
from broadcaster.web.viewing.waiting import preferred_wait_s, wait_for_end

GenerationId = Annotated[str, Path(description="the id that POST /v1/generations returned")]

_View = TypeVar("_View", bound=schemas.ListedGeneration)

routes = RouteTable(prefix="/v1/generations", tag="generations")


@routes.post(
    "",
    status_code=202,
    response_model=schemas.GenerationView | schemas.GenerationState,
    summary="Start an answer",
    responses={
        202: {
            "model": schemas.GenerationState,
            "description": "A worker takes it within moments; or the wait is over before it is. A repeated "
            "Idempotency-Key returns the same generation.",
            "headers": {
                "Location": {"schema": {"type": "string"}},
                GENERATION_ID_HEADER: {"schema": {"type": "string"}},
                "Idempotent-Replayed": {"schema": {"const": "true"}, "description": "an earlier call had started it"},
                "Preference-Applied": {"schema": {"type": "string"}, "description": "`Prefer: wait=` was honoured"},
            },
        },
        200: {
            "model": schemas.GenerationView,
            "description": "With `stream: false`: it is over, this is the result. With `stream: true`: the stream",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problem_responses(*CREATION_CODES, "webhook_not_allowed", "metadata_too_large"),
    },
)
async def create_generation(
    *,
    request: Request,
    response: Response,
    here: Here,
    body: Annotated[schemas.GenerationBody, Body()],
    idempotency_key: IdempotencyKey = None,
    wait_s: Annotated[
        float | None, Query(ge=0, allow_inf_nan=False, description="wait so long for the result, then return 202")
    ] = None,
    prefer: Annotated[str, Header(description="`wait=10`: the same as `wait_s` (RFC 7240)")] = "",
) -> schemas.GenerationState | Response:
    """Starts a generation that outlives this request: it continues without a connected client."""
    services, tenant, base = here
    wait = _Wait.of(body, wait_s=wait_s, prefer=prefer, services=services)
    try:
        generation = generation_request(body, services)
    except UnknownModel:
        # A problem repeats nothing of the request.
        raise UnknownModel("no route serves this model; GET /v1/models lists those of this server") from None
    stays = bool(body.stream) or wait.seconds > 0
    with services.reserve(tenant, waits=not body.stream) if stays else nullcontext() as place:
        created = await services.create(generation, tenant=tenant, idempotency_key=idempotency_key, is_watched=stays)
        headers = {"Location": f"{base}/v1/generations/{created.id}"}
        if not created.created:
            headers["Idempotent-Replayed"] = "true"
        try:
            with services.expected(created.id):
                meta = await created_meta(services, created, tenant=tenant)
                if body.stream:
                    return await stream_events(services, meta, cursor=None, headers=headers, place=place)
                response.headers.update({**headers, **wait.headers, GENERATION_ID_HEADER: created.id})
                if place is not None:
                    meta = await _waited_for(services, request, meta=meta, wait_s=wait.seconds, place=place)
            if wait.is_requested and meta.is_over:
                response.status_code = 200
                view = await _show_view(services, meta, base=base)
                if view.error is None:  # an error is a result without its log
                    await check_kept(services, is_whole=await has_beginning(services, meta.id), detail=EXPIRED)
                return view
            return await _show_state(services, meta, base=base)
        except LogUnavailable as error:
            # It was started: without its id, the caller could only start another one.
            refusal = error_response(error)
            refusal.headers.update({**headers, GENERATION_ID_HEADER: created.id})
            return refusal


class _Wait(NamedTuple):
    """Whether the caller waits for the result, how long, and the response headers about it."""

    is_requested: bool
    seconds: float
    headers: Mapping[str, str]

    @classmethod
    def of(cls, body: schemas.GenerationBody, *, wait_s: float | None, prefer: str, services: Services) -> _Wait:
        """The query wins over the preference, and both over the longest wait of ``stream: false``."""
        if body.stream and wait_s is not None:
            fault = RequestFault("query", "wait_s", "wait_s and stream: true exclude each other: leave out one of them")
            raise InvalidRequest(fault.detail, faults=[fault])
        longest_s = services.long_poll_timeout_s
        preferred_s = preferred_wait_s(prefer)
        if wait_s is not None:
            return cls(True, services.bounded_wait_s(wait_s), {})
        if preferred_s is not None and not body.stream:
            applied_s = services.bounded_wait_s(preferred_s)
            return cls(True, applied_s, {"Preference-Applied": f"wait={applied_s:.0f}"})
        is_requested = body.stream is False
        return cls(is_requested, longest_s if is_requested else 0, {})


async def _waited_for(services: Services, request: Request, *, meta: Meta, wait_s: float, place: Place) -> Meta:
    """The meta once the generation is over, or as it is at the end of the time or at a drain."""
    if meta.is_over:
        return meta
    try:
        await wait_for_end(services, request, generation_id=meta.id, wait_s=wait_s, place=place)
    except LogUnavailable:
        raise
    except Busy:
        return meta  # it was started: the caller must learn its id
    return await services.generations.get(meta.id, tenant=meta.tenant)


@routes.get(
    "",
    summary="Your generations",
    responses=problem_responses("invalid_request", "log_unavailable"),
)
async def list_generations(
    here: Here,
    status: ListedStatus = "all",
    limit: PageSize = LISTED,
    before: PageBefore = None,
) -> schemas.GenerationPage:
    """The caller's newest generations without their answers: a thousand at most, as long as they are stored."""
    services, tenant, base = here
    listed = await services.lists.page(
        tenant, which=status, limit=limit, before=None if before is None else int(before)
    )
    return schemas.GenerationPage(
        generations=await _show_each(services, listed.metas, form=schemas.ListedGeneration, base=base),
        next_before=None if listed.next_before is None else str(listed.next_before),
    )


@routes.get(
    "/{generation_id}",
    summary="One generation and its answer so far",
    response_model=schemas.GenerationView | schemas.GenerationState,
    responses=problem_responses("unknown_stream", "invalid_request", "tenant_limit", "busy", "log_unavailable"),
)
async def get_generation(
    *,
    request: Request,
    here: Here,
    generation_id: GenerationId,
    wait_s: Annotated[
        float, Query(ge=0, allow_inf_nan=False, description="respond once it is over, or after so many seconds")
    ] = 0,
    parts: Annotated[bool, Query(description="false: without the answer, prompt and usage; much cheaper")] = True,
) -> schemas.GenerationState:
    """Status, attempt, usage, viewers, and the text and parts so far; `wait_s` waits for the end without SSE."""
    services, tenant, base = here
    meta = await services.generations.get(generation_id, tenant=tenant)
    if wait_s > 0 and not meta.is_over:
        wait_s = services.bounded_wait_s(wait_s)
        del meta  # its request may be large, and the wait may be long
        with services.reserve(tenant, waits=True) as place:
            await wait_for_end(services, request, generation_id=generation_id, wait_s=wait_s, place=place)
        meta = await services.generations.get(generation_id, tenant=tenant)
    if not parts:
        return await _show_state(services, meta, base=base)
    return await _show_view(services, meta, base=base)


@routes.delete(
    "/{generation_id}",
    status_code=204,
    response_class=Response,
    summary="Delete it",
    responses=problem_responses("unknown_stream", "stop_pending", "log_unavailable"),
)
async def delete_generation(here: Here, generation_id: GenerationId) -> Response:
    """Stops it, waits for its end, and deletes request and answer; its Idempotency-Key then starts a new generation.

    Its viewers get the end; later ones get 404. Repeating the deletion is 204 for an hour, then 404.
    """
    services, tenant, _ = here
    await services.generations.delete(generation_id, tenant=tenant, timeout_s=services.delete_timeout_s)
    return Response(status_code=204)


@routes.post(
    "/{generation_id}/stop",
    status_code=202,
    response_model=schemas.GenerationState | schemas.StoppedGeneration,
    summary="Stop it",
    responses=problem_responses("unknown_stream", "unsupported_media_type", "log_unavailable", "stop_not_durable"),
)
async def stop_generation(
    here: Here, generation_id: GenerationId
) -> schemas.GenerationState | schemas.StoppedGeneration:
    """Requests the end; the stream then ends with `abort`. A repeated stop, or one after the end, changes nothing.

    A caller without the right to watch gets the outcome alone.
    """
    services, tenant, base = here
    await services.generations.stop(generation_id, tenant=tenant)
    meta = await services.generations.get(generation_id, tenant=tenant)
    if not await may_watch(services, generation_id):
        return schemas.StoppedGeneration(**generation_state(meta, last=None, viewers=0, base=base))
    return await _show_state(services, meta, base=base)


async def _show_state(services: Services, meta: Meta, *, base: str) -> schemas.GenerationState:
    return (await _show_each(services, [meta], form=schemas.GenerationState, base=base))[0]


async def _show_each(services: Services, metas: Sequence[Meta], *, form: type[_View], base: str) -> list[_View]:
    if not metas:
        return []
    ids = [meta.id for meta in metas]
    ends = await services.streams.listed_ends(ids)
    viewers = await count_viewers(services, ids)
    return [
        form(**generation_state(meta, last=end.last, viewers=count, base=base))
        for meta, end, count in zip(metas, ends, viewers, strict=True)
    ]


async def _show_view(services: Services, meta: Meta, *, base: str) -> schemas.GenerationView:
    (viewers,) = await count_viewers(services, [meta.id])
    return await read_view(services.reader, meta, viewers=viewers, base=base)
