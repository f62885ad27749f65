"""``/v1/responses``: the Responses API of OpenAI, for its SDKs.

Rules
1. A Response is a generation; its id is ``resp_`` and the generation's id, and both are accepted.
2. A ``background`` response outlives its caller. Any other is stopped when it has had no viewer for the grace of
   abandonment, because ``GET`` can still read it; with ``store: false`` soon after its client disconnects, as on chat.
3. A stream is resumed by number: ``starting_after`` gives exactly the events after it. Without a number, a late joiner
   gets a snapshot instead of all events. For a number ahead of an open response the server waits, then returns 503:
   Redis may have lost the event, and its worker sends it again. Once the response is complete, it is 400.
4. A cancelled response ends with ``response.incomplete`` and the status ``cancelled``; the header
   ``Broadcaster-Cancelled-As: completed`` selects the event that the SDK's stream helper reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Header, Path, Query, Request, Response
from starlette.responses import JSONResponse

from broadcaster.core import events as ev
from broadcaster.dialects.openai_responses.answer import response_id, stream_id_of
from broadcaster.dialects.openai_responses.encode import Cancel
from broadcaster.dialects.openai_responses.input import NO_TURNS
from broadcaster.dialects.openai_responses.request import parse_responses_request
from broadcaster.errors import Busy
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.viewer import Viewer
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents import problems
from broadcaster.web.documents.problems import InvalidRequest, RequestFault, problem_responses
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services
from broadcaster.web.surfaces import openai_responses_stored as stored
from broadcaster.web.surfaces.answering import NAMING_HEADERS, naming_headers, started, stream, streamed, whole
from broadcaster.web.surfaces.openai_errors import failed_response, is_refusal, openai_error
from broadcaster.web.surfaces.sdk_request import FromSdk
from broadcaster.web.viewing.joining import check_kept, has_beginning, join_stream
from broadcaster.web.viewing.waiting import wait_for_end

# The wait of a cancel for the end: a stop reaches the provider at once, and the terminal event follows.
CANCEL_WAIT_S: Final = 5.0
LISTED: Final = 20
LISTED_AT_MOST: Final = 100

ResponseId = Annotated[str, Path(alias="response_id", description="the id of a Response, or of its generation")]
CancelledAs = Annotated[
    Cancel, Header(alias="Broadcaster-Cancelled-As", description="the event that ends what was cancelled")
]

routes = RouteTable(
    prefix="/v1/responses",
    tag="openai responses",
    description="The Responses API of OpenAI: its SDKs work with this server as their `base_url`.",
    errors=openai_error,
)

_JSON_OR_STREAM: Final = {
    "description": "The Response; with `stream` its events",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "headers": NAMING_HEADERS,
}


@routes.post(
    "",
    summary="Start an answer, as with OpenAI",
    responses={
        200: _JSON_OR_STREAM,
        **problem_responses(*problems.CREATION_CODES, "metadata_too_large"),
    },
)
async def create_response(
    caller: FromSdk,
    body: Annotated[dict[str, Any], Body(description="`ResponseCreateParams` of the openai package")],
    cancelled_as: CancelledAs = "incomplete",
) -> Response:
    """Starts a generation of any model this server routes; `background`, `stream`, or neither."""
    services, tenant, _ = caller.here
    generation, stream_wanted, background = await _generation_request(services, body, tenant=tenant)
    if not background:
        generation = replace(generation, on_abandon=caller.on_abandon)
    async with started(
        caller.here,
        generation,
        as_stream=stream_wanted,
        in_background=background,
        stops_on_disconnect=caller.stops_on_disconnect and not background and body.get("store") is False,
        idempotency_key=caller.idempotency_key,
    ) as call:
        meta = call.meta
        if stream_wanted:
            refused = partial(failed_response, meta, is_repeatable=caller.is_repeatable)
            return await stream(
                services,
                meta,
                dialect=stored.dialect_of(meta, cancel=cancelled_as),
                place=call.place,
                request=None if background else caller.http,
                refused=refused,
            )
        if background:
            return await stored.current_response(services, meta, await stored.entries_of(services, meta))
        entries = await whole(services, caller.http, call)
    end = ev.read_event(entries[-1].event)
    if is_refusal(end) and not (await stored.response_of(services, meta, entries))["output"]:
        # Without output an SDK raises, as it does for a request that is refused at once.
        return failed_response(meta, entries, is_repeatable=caller.is_repeatable)
    return await stored.current_response(services, meta, entries)


async def _generation_request(
    services: Services, body: Mapping[str, Any], *, tenant: str
) -> tuple[GenerationRequest, bool, bool]:
    """The request, whether it wants a stream, and whether it runs in the background. Raises BadParameter."""
    parsed = parse_responses_request(
        body, unknown=services.unknown_parameters_for(body.get("model") or services.default_model)
    )
    model = parsed.model or services.default_model
    earlier = NO_TURNS
    if parsed.previous_response_id is not None:
        earlier = await stored.earlier_turns(services, parsed.previous_response_id, tenant=tenant)
    parsed = replace(parsed, items=await stored.with_referenced_items(services, parsed.items, tenant=tenant))
    generation = GenerationRequest(
        model=model,
        request=parsed.stored(earlier=earlier, max_tokens=services.default_max_tokens, model=model),
    )
    return generation, parsed.stream, parsed.background


@routes.get(
    "/{response_id}",
    summary="A Response so far, or its events",
    responses={
        200: _JSON_OR_STREAM,
        **problem_responses("unknown_stream", "invalid_request", "tenant_limit", "busy", "log_unavailable"),
    },
)
async def get_response(
    *,
    here: Here,
    id: ResponseId,
    is_stream: Annotated[bool, Query(alias="stream", description="true: its events")] = False,
    starting_after: Annotated[
        int | None, Query(ge=-1, description="only the events with a higher sequence number")
    ] = None,
    cancelled_as: CancelledAs = "incomplete",
) -> Response:
    """Status, output so far, usage; with `stream` its events, from any number on."""
    services, tenant, _ = here
    meta = await services.generations.get(stream_id_of(id), tenant=tenant)
    if not is_stream:
        return await stored.current_response(services, meta, await stored.entries_of(services, meta))
    if starting_after is None:
        return await stream(services, meta, dialect=stored.dialect_of(meta, cancel=cancelled_as))
    return await _resumed(services, meta, starting_after=starting_after, cancel=cancelled_as)


async def _resumed(services: Services, meta: Meta, *, starting_after: int, cancel: Cancel) -> Response:
    """Rule 3. Raises InvalidRequest for a number that no event of a complete response has, LogUnavailable before."""
    if meta.is_over:
        await check_kept(services, is_whole=await has_beginning(services, meta.id), detail=stored.NOT_STORED)
    viewer = await join_stream(
        services, meta, cursor=None, dialect=stored.dialect_of(meta, cancel=cancel), with_snapshot=False
    )
    assert not isinstance(viewer, Finished)  # never without a cursor
    if isinstance(viewer, Viewer):
        try:
            newest = await viewer.begin_after(starting_after, timeout_s=services.log_timeout_s)
            if starting_after > newest:
                detail = f"the newest event has the number {newest}"
                raise InvalidRequest(detail, faults=[RequestFault("query", "starting_after", detail)])
        except BaseException:
            viewer.leave()
            raise
    return streamed(viewer, meta)


@routes.post(
    "/{response_id}/cancel",
    summary="Stop a background Response",
    responses=problem_responses("unknown_stream", "invalid_request", "log_unavailable", "stop_not_durable"),
)
async def cancel_response(request: Request, here: Here, id: ResponseId) -> Response:
    """Stops it, from any front-end; a repeated cancel, or one after the end, changes nothing."""
    services, tenant, _ = here
    meta = await services.generations.get(stream_id_of(id), tenant=tenant)
    if not stored.is_background(meta):
        raise InvalidRequest("only a response with background: true can be cancelled; close its connection instead")
    await services.generations.stop(meta.id, tenant=tenant)
    meta = await services.generations.get(meta.id, tenant=tenant)
    if not meta.is_over:
        # Without a place the caller does not see the end, but the generation is stopped.
        with suppress(Busy), services.reserve(tenant, waits=True) as place:
            await wait_for_end(services, request, generation_id=meta.id, wait_s=CANCEL_WAIT_S, place=place)
        meta = await services.generations.get(meta.id, tenant=tenant)
    return await stored.current_response(services, meta, await stored.entries_of(services, meta))


@routes.delete(
    "/{response_id}",
    summary="Delete a Response",
    responses=problem_responses("unknown_stream", "stop_pending", "log_unavailable"),
)
async def delete_response(here: Here, id: ResponseId) -> Response:
    """Stops it, waits for its end, and deletes request and answer."""
    services, tenant, _ = here
    stream_id = stream_id_of(id)
    await services.generations.delete(stream_id, tenant=tenant, timeout_s=services.delete_timeout_s)
    document = {"id": response_id(stream_id), "object": "response", "deleted": True}
    return JSONResponse(document, headers={problems.GENERATION_ID_HEADER: stream_id})


@routes.get(
    "/{response_id}/input_items",
    summary="The input of a Response",
    operation_id="list_response_input_items",
    responses=problem_responses("unknown_stream", "invalid_request", "log_unavailable"),
)
async def list_input_items(
    *,
    here: Here,
    id: ResponseId,
    order: Annotated[Literal["asc", "desc"], Query(description="desc: the newest first")] = "desc",
    limit: Annotated[int, Query(ge=1, le=LISTED_AT_MOST)] = LISTED,
    after: Annotated[str | None, Query(description="the id of the last item of the page before")] = None,
) -> Response:
    """The input items, with those of the responses it builds on; without the system prompt."""
    services, tenant, _ = here
    meta = await services.generations.get(stream_id_of(id), tenant=tenant)
    items = stored.input_items(meta) if order == "asc" else stored.input_items(meta)[::-1]
    if after is not None:
        places = [at for at, item in enumerate(items) if item["id"] == after]
        if not places:
            detail = "no item of this response has this id"
            raise InvalidRequest(detail, faults=[RequestFault("query", "after", detail)])
        items = items[places[0] + 1 :]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return JSONResponse(
        {"object": "list", "data": page, **ends, "has_more": len(items) > limit}, headers=naming_headers(meta, ())
    )
