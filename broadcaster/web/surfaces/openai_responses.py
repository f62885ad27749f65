"""``/v1/responses``: the Responses API of OpenAI, as its SDKs call it.

Rules
1. A Response is a generation; its id is the generation's behind ``resp_``, and both are taken.
2. ``background`` outlives its caller. Without it the generation is stopped when it has had no viewer for the grace of
   abandonment, because ``GET`` can still read it; with ``store: false`` soon after its client disconnects, as on chat.
3. A stream is resumed by number: ``starting_after`` gives exactly the events behind it. Without one, who comes late
   gets a short opening instead of everything. A number ahead of an open response is waited for, then answered with 503:
   Redis may have lost the event, and its worker sends it again. Once the response is complete, it is 400.
4. What was cancelled ends in the events as ``response.incomplete`` with status ``cancelled``; the header
   ``Broadcaster-Cancelled-As: completed`` asks for the words that the SDK's stream helper reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Header, Path, Query, Request, Response
from starlette.responses import JSONResponse

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.openai_chat_refusal import Refused
from broadcaster.dialects.openai_responses_ask import ask_of
from broadcaster.dialects.openai_responses_encode import Cancel
from broadcaster.dialects.openai_responses_object import response_id, stream_id_of
from broadcaster.errors import Busy
from broadcaster.hub.resolve import Finished
from broadcaster.hub.transcribed import TranscribedViewer
from broadcaster.log.generations import GenerationRequest
from broadcaster.log.streams import Meta
from broadcaster.web.joining import join_stream
from broadcaster.web.parameters import IdempotencyKey, OnDisconnect
from broadcaster.web.problems import GENERATION_ID_HEADER, Fault, InvalidRequest, problem_responses
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services, ServicesHere, Tenant
from broadcaster.web.sse import EventStreamResponse
from broadcaster.web.surfaces.answering import started, stream, whole
from broadcaster.web.surfaces.openai_errors import failure, is_refusal, openai_error
from broadcaster.web.surfaces.openai_responses_reading import (
    answered,
    check_kept,
    dialect_of,
    earlier_messages,
    entries_of,
    input_items,
    is_background,
    response_of,
    shown_response,
    with_referenced_items,
)
from broadcaster.web.waiting import wait_for_end

PATH: Final = "/v1/responses"
TAG: Final = "openai responses"
# How long a cancel waits for the end: a stop reaches the provider at once, and the terminal event follows.
CANCEL_WAIT_S: Final = 5.0
LISTED: Final = 20
LISTED_AT_MOST: Final = 100

ResponseId = Annotated[str, Path(alias="response_id", description="the id of a Response, or of its generation")]
CancelledAs = Annotated[
    Cancel, Header(alias="Broadcaster-Cancelled-As", description="the event that ends what was cancelled")
]


routes = RouteTable(prefix=PATH, tags=[TAG], errors=openai_error)

_JSON_OR_STREAM: Final = {
    "description": "The Response; with `stream` its events",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "headers": {GENERATION_ID_HEADER: {"schema": {"type": "string"}}},
}


@routes.post(
    "",
    response_model=None,
    summary="Ask for an answer, as with OpenAI",
    operation_id="create_response",
    responses={
        200: _JSON_OR_STREAM,
        **problem_responses(
            "invalid_request",
            "unknown_model",
            "metadata_too_large",
            "unsupported_media_type",
            "idempotency_mismatch",
            "tenant_limit",
            "queue_full",
            "busy",
            "log_unavailable",
        ),
    },
)
async def create_response(
    *,
    request: Request,
    services: ServicesHere,
    tenant: Tenant,
    body: Annotated[dict[str, Any], Body(description="`ResponseCreateParams` of the openai package")],
    idempotency_key: IdempotencyKey = None,
    on_disconnect: OnDisconnect = "stop",
    cancelled_as: CancelledAs = "incomplete",
) -> Response:
    """Starts a generation of any model this server routes; `background`, `stream`, or neither."""
    try:
        wish, stream_wanted, background = await _wish(services, body, tenant=tenant)
    except Refused as refusal:
        return _refused(refusal)
    async with started(
        services,
        wish,
        tenant=tenant,
        as_stream=stream_wanted,
        in_background=background,
        stops_on_disconnect=on_disconnect == "stop" and not background and body.get("store") is False,
        idempotency_key=idempotency_key,
    ) as call:
        meta = call.meta
        if stream_wanted:
            refused = partial(_failed, meta, is_repeatable=idempotency_key is None)
            return await stream(
                services,
                meta,
                dialect=dialect_of(meta, cancel=cancelled_as),
                place=call.place,
                request=None if background else request,
                refused=refused,
            )
        if background:
            return await shown_response(services, meta, await entries_of(services, meta))
        entries = await whole(services, request, call)
    end = ev.read_event(entries[-1].event)
    if is_refusal(end) and not (await response_of(services, meta, entries))["output"]:
        # Nothing was said: an SDK raises for it as it does for what is refused at once.
        return _failed(meta, entries, is_repeatable=idempotency_key is None)
    return await shown_response(services, meta, entries)


def _failed(meta: Meta, entries: Sequence[Entry], *, is_repeatable: bool) -> Response:
    """The error of a generation that failed without output."""
    end = ev.read_event(entries[-1].event)
    return _error(failure(end, is_repeatable=is_repeatable), {GENERATION_ID_HEADER: meta.id})


async def _wish(services: Services, body: Mapping[str, Any], *, tenant: str) -> tuple[GenerationRequest, bool, bool]:
    """What is asked for, whether as a stream, and whether in the background. Raises Refused."""
    ask = ask_of(body, unknown=services.unknown_parameters_for(body.get("model") or services.default_model))
    model = ask.model or services.default_model
    earlier = []
    if ask.previous_response_id is not None:
        earlier = await earlier_messages(services, ask.previous_response_id, tenant=tenant)
    ask = replace(ask, items=await with_referenced_items(services, ask.items, tenant=tenant))
    wish = GenerationRequest(
        model=model,
        request=ask.wish(earlier=earlier, max_tokens=services.default_max_tokens, model=model),
        on_abandon="continue" if ask.background else "cancel",
    )
    return wish, ask.stream, ask.background


@routes.get(
    "/{response_id}",
    response_model=None,
    summary="A Response as it stands, or its events",
    operation_id="get_response",
    responses={
        200: _JSON_OR_STREAM,
        **problem_responses("unknown_stream", "invalid_request", "tenant_limit", "busy", "log_unavailable"),
    },
)
async def get_response(
    *,
    services: ServicesHere,
    tenant: Tenant,
    id: ResponseId,
    is_stream: Annotated[bool, Query(alias="stream", description="true: its events")] = False,
    starting_after: Annotated[
        int | None, Query(ge=-1, description="only the events with a higher sequence number")
    ] = None,
    cancelled_as: CancelledAs = "incomplete",
) -> Response:
    """Status, output so far, usage; with `stream` its events, from any number on."""
    meta = await services.generations.get(stream_id_of(id), tenant=tenant)
    if not is_stream:
        return await shown_response(services, meta, await entries_of(services, meta))
    if starting_after is None:
        return await stream(services, meta, dialect=dialect_of(meta, cancel=cancelled_as))
    return await _resumed(services, meta, starting_after=starting_after, cancel=cancelled_as)


async def _resumed(services: Services, meta: Meta, *, starting_after: int, cancel: Cancel) -> Response:
    """Rule 3. Raises InvalidRequest for a number that no event of a complete response has, LogUnavailable before."""
    await check_kept(services, meta)
    viewer = await join_stream(services, meta, cursor=None, encoder=dialect_of(meta, cancel=cancel), with_prelude=False)
    assert not isinstance(viewer, Finished)  # never without a cursor
    if isinstance(viewer, TranscribedViewer):
        try:
            newest = await viewer.begin_after(starting_after, timeout_s=services.log_timeout_s)
            if starting_after > newest:
                detail = f"the newest event has the number {newest}"
                raise InvalidRequest(detail, faults=[Fault("query", "starting_after", detail)])
        except BaseException:
            viewer.leave()
            raise
    return EventStreamResponse(viewer, generation_id=meta.id)


@routes.post(
    "/{response_id}/cancel",
    response_model=None,
    summary="Stop a background Response",
    operation_id="cancel_response",
    responses=problem_responses("unknown_stream", "invalid_request", "log_unavailable", "stop_not_durable"),
)
async def cancel_response(
    *,
    request: Request,
    services: ServicesHere,
    tenant: Tenant,
    id: ResponseId,
) -> Response:
    """Stops it, from whatever front-end; cancelling again, or what is over, changes nothing."""
    meta = await services.generations.get(stream_id_of(id), tenant=tenant)
    if not is_background(meta):
        raise InvalidRequest("only a response with background: true can be cancelled; close its connection instead")
    await services.generations.stop(meta.id, tenant=tenant)
    meta = await services.generations.get(meta.id, tenant=tenant)
    if not meta.is_over:
        # A caller without a place is not shown the end, but the generation is stopped all the same.
        with suppress(Busy), services.hub.reserve(tenant, waits=True) as place:
            await wait_for_end(services, request, generation_id=meta.id, wait_s=CANCEL_WAIT_S, place=place)
        meta = await services.generations.get(meta.id, tenant=tenant)
    return await shown_response(services, meta, await entries_of(services, meta))


@routes.delete(
    "/{response_id}",
    response_model=None,
    summary="Delete a Response",
    operation_id="delete_response",
    responses=problem_responses("unknown_stream", "stop_pending", "log_unavailable"),
)
async def delete_response(
    services: ServicesHere,
    tenant: Tenant,
    id: ResponseId,
) -> Response:
    """Stops it, waits for its end, and forgets request and answer."""
    stream_id = stream_id_of(id)
    await services.generations.delete(stream_id, tenant=tenant, timeout_s=services.delete_timeout_s)
    told = {"id": response_id(stream_id), "object": "response", "deleted": True}
    return JSONResponse(told, headers={GENERATION_ID_HEADER: stream_id})


@routes.get(
    "/{response_id}/input_items",
    response_model=None,
    summary="What a Response was asked",
    operation_id="list_response_input_items",
    responses=problem_responses("unknown_stream", "invalid_request", "log_unavailable"),
)
async def list_input_items(
    *,
    services: ServicesHere,
    tenant: Tenant,
    id: ResponseId,
    order: Annotated[Literal["asc", "desc"], Query(description="desc: the newest first")] = "desc",
    limit: Annotated[int, Query(ge=1, le=LISTED_AT_MOST)] = LISTED,
    after: Annotated[str | None, Query(description="the id of the last item of the page before")] = None,
) -> Response:
    """The input items, with those of the responses it builds on; without the system prompt."""
    meta = await services.generations.get(stream_id_of(id), tenant=tenant)
    items = input_items(meta) if order == "asc" else input_items(meta)[::-1]
    if after is not None:
        places = [at for at, item in enumerate(items) if item["id"] == after]
        if not places:
            detail = "no item of this response has this id"
            raise InvalidRequest(detail, faults=[Fault("query", "after", detail)])
        items = items[places[0] + 1 :]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return answered({"object": "list", "data": page, **ends, "has_more": len(items) > limit}, meta)


def _refused(refusal: Refused) -> Response:
    """400 in the words of the API, by the parameter's name."""
    return _error(
        {"status": refusal.status, "code": refusal.word, "detail": refusal.detail, "param": refusal.param}, {}
    )


def _error(problem: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    status, told, own = openai_error(problem)
    return JSONResponse(told, status_code=status, headers={**own, **headers})
