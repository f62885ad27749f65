"""``/v1/generations``: ask for an answer, look at it, wait for it, stop it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Body, Header, Path, Query, Request, Response

from broadcaster.hub.resolve import Finished
from broadcaster.log.generations import GenerationRequest
from broadcaster.log.streams import Meta
from broadcaster.web import schemas
from broadcaster.web.problems import problem_responses
from broadcaster.web.routes.streams import stream_events
from broadcaster.web.services import Services, ServicesHere, Tenant
from broadcaster.web.sse import GENERATION_ID_HEADER
from broadcaster.web.views import read_whole, show_state, show_view

LISTED_AT_MOST: Final = 100
# How long a caller who hung up may go unnoticed, while it waits for a result.
LOOK_UP_S: Final = 5.0
DISCARDED_AT_ONCE: Final = 256 * 2**10

GenerationId = Annotated[str, Path(description="the id that POST /v1/generations returned")]

router = APIRouter(prefix="/v1/generations", tags=["generations"])


@router.post(
    "",
    status_code=202,
    response_model=schemas.GenerationState,
    summary="Ask for an answer",
    operation_id="create_generation",
    responses={
        202: {
            "description": "A worker takes it within moments. A repeated Idempotency-Key gives the same generation.",
            "headers": {
                "Location": {"schema": {"type": "string"}},
                GENERATION_ID_HEADER: {"schema": {"type": "string"}},
            },
        },
        200: {
            "description": "With `stream: true` and `Accept: text/event-stream`: the stream itself",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problem_responses(
            "invalid_request",
            "unknown_model",
            "body_too_large",
            "unsupported_media_type",
            "idempotency_mismatch",
            "queue_full",
            "log_unavailable",
        ),
    },
)
async def create_generation(
    *,
    request: Request,
    response: Response,
    services: ServicesHere,
    tenant: Tenant,
    body: Annotated[schemas.GenerationBody, Body()],
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=schemas.MAX_IDEMPOTENCY_KEY_CHARS,
            description="the same key and body again give the same generation, for a day",
        ),
    ] = None,
) -> schemas.GenerationState | Response:
    """Starts a generation that outlives this request: nobody has to stay connected for it to go on."""
    created = await services.generations.create(_wish(body, services), tenant=tenant, idempotency_key=idempotency_key)
    headers = {"Location": f"/v1/generations/{created.id}"}
    if not created.created:
        headers["Idempotent-Replayed"] = "true"
    meta = await services.generations.get(created.id, tenant=tenant)
    if body.stream and "text/event-stream" in request.headers.get("accept", ""):
        return await stream_events(services, meta, cursor=None, headers=headers)
    response.headers.update({**headers, GENERATION_ID_HEADER: created.id})
    return (await _show_states(services, [meta]))[0]


def _wish(body: schemas.GenerationBody, services: Services) -> GenerationRequest:
    model = body.model or services.default_model
    services.routes.provider_for(model)  # raises UnknownModel
    wish = {
        "messages": body.conversation(),
        "system": body.system,
        "max_tokens": body.max_tokens or services.default_max_tokens,
        "temperature": body.temperature,
        "tools": body.tools,
        "metadata": body.metadata or None,
    }
    return GenerationRequest(
        model=model,
        request={name: value for name, value in wish.items() if value is not None},
        on_worker_loss=body.on_worker_loss,
        on_abandon=body.on_abandon,
        retention_s=body.retention_s,
    )


@router.get(
    "",
    summary="What runs",
    operation_id="list_generations",
    responses=problem_responses("log_unavailable"),
)
async def list_generations(services: ServicesHere, tenant: Tenant) -> schemas.GenerationList:
    """The caller's open generations, newest first, without their answers."""
    metas = await services.generations.list(tenant=tenant, limit=LISTED_AT_MOST)
    return schemas.GenerationList(generations=await _show_states(services, metas))


@router.get(
    "/{generation_id}",
    summary="One generation and its answer so far",
    operation_id="get_generation",
    response_model=schemas.GenerationView | schemas.GenerationState,
    responses=problem_responses("unknown_stream", "invalid_request", "log_unavailable"),
)
async def get_generation(
    *,
    request: Request,
    services: ServicesHere,
    tenant: Tenant,
    generation_id: GenerationId,
    wait_s: Annotated[
        float, Query(ge=0, allow_inf_nan=False, description="answer when it is over, or after so many seconds")
    ] = 0,
    parts: Annotated[bool, Query(description="false: without the answer, prompt and usage; much cheaper")] = True,
) -> schemas.GenerationState:
    """Status, attempt, usage, viewers, and the text and parts so far; `wait_s` waits for the end without SSE."""
    meta = await services.generations.get(generation_id, tenant=tenant)
    if wait_s > 0 and not meta.is_over:
        await _wait_for_end(services, request, meta=meta, wait_s=min(wait_s, services.long_poll_timeout_s))
        meta = await services.generations.get(generation_id, tenant=tenant)
    if not parts:
        return (await _show_states(services, [meta]))[0]
    (viewers,) = await count_viewers(services, [meta.id])
    return show_view(meta, await read_whole(services.streams, meta.id), viewers=viewers)


@router.post(
    "/{generation_id}/stop",
    status_code=202,
    summary="Stop it",
    operation_id="stop_generation",
    responses=problem_responses("unknown_stream", "log_unavailable", "stop_not_durable"),
)
async def stop_generation(
    services: ServicesHere, tenant: Tenant, generation_id: GenerationId
) -> schemas.GenerationState:
    """Asks for the end; the stream then ends with `abort`. Stopping again, or what is over, changes nothing."""
    await services.generations.stop(generation_id, tenant=tenant)
    meta = await services.generations.get(generation_id, tenant=tenant)
    return (await _show_states(services, [meta]))[0]


async def _show_states(services: Services, metas: Sequence[Meta]) -> list[schemas.GenerationState]:
    if not metas:
        return []
    ids = [meta.id for meta in metas]
    tails = await services.streams.tails(ids)
    viewers = await count_viewers(services, ids)
    return [
        show_state(meta, last=tail.last, viewers=count) for meta, tail, count in zip(metas, tails, viewers, strict=True)
    ]


async def count_viewers(services: Services, ids: Sequence[str]) -> list[int]:
    """Viewers over all front-ends; those here are known at once, while presence is told every few seconds."""
    here = services.hub.viewers()
    counts = await services.presence.count(ids)
    return [max(count, here.get(each, 0)) for each, count in zip(ids, counts, strict=True)]


async def _wait_for_end(services: Services, request: Request, *, meta: Meta, wait_s: float) -> None:
    """Watch the live tail, reading nothing of it, until the stream is over, the time is, or the caller is gone."""
    deadline = time.monotonic() + wait_s
    (tail,) = await services.streams.tails([meta.id])
    viewer = await services.hub.join(meta.id, cursor=tail.last, timeout_s=services.log_timeout_s)
    if isinstance(viewer, Finished):
        return
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            if viewer.pull(DISCARDED_AT_ONCE):
                continue
            if viewer.is_over:
                return
            if not await viewer.wait(min(left_s, LOOK_UP_S)) and await request.is_disconnected():
                return
    finally:
        viewer.leave()
