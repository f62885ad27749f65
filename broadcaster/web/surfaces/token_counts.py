"""``POST /v1/messages/count_tokens`` and ``POST /v1/responses/input_tokens``: the count of tokens in a request.

Rules
1. The first provider of the model's route counts, where its API can (core/requests/passed_calls.py). The request is
   passed to it unchanged, with ``anthropic-version`` and ``anthropic-beta`` for the Messages wire.
2. For every other provider the front-end estimates the count by the size of the texts, and the response has the header
   ``Broadcaster-Estimated: input_tokens``. A request that builds on an earlier response is estimated too: the provider
   does not know that response.
3. A count that no worker has begun after ``BROADCASTER_COUNT_WAIT_S`` is refused as overloaded, and deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import Body, Request, Response
from fastapi.responses import JSONResponse

from broadcaster.core.entry import Entry
from broadcaster.core.events import encode_event
from broadcaster.core.providers.metering import estimated_request_tokens
from broadcaster.core.requests.passed_calls import COUNT_TOKENS, INPUT_TOKENS, targets_answering
from broadcaster.core.requests.passed_headers import PASSED_HEADERS, with_headers
from broadcaster.dialects.anthropic.encode import AnthropicDialect
from broadcaster.dialects.anthropic.request import check_model
from broadcaster.dialects.openai.parameters import WRONG_TYPE, BadParameter
from broadcaster.dialects.openai_responses.ids import reference_of
from broadcaster.dialects.openai_responses.input import NO_TURNS
from broadcaster.dialects.passed.encode import whole_body
from broadcaster.errors import Busy, InvalidInput
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.streams.reader import Meta
from broadcaster.observability.limits import limit_reached
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Arrival, Services
from broadcaster.web.surfaces import anthropic_messages, passed_calls
from broadcaster.web.surfaces.answering import naming_headers, started, undo, whole
from broadcaster.web.surfaces.openai_errors import failure, openai_error, openai_error_response
from broadcaster.web.surfaces.openai_responses_stored import earlier_turns, with_referenced_items

ESTIMATED_HEADER: Final = "Broadcaster-Estimated"

_ESTIMATED: Final = {ESTIMATED_HEADER: "input_tokens"}
_COUNTED_OF_MESSAGES: Final = ("system", "messages", "tools")
_COUNTED_OF_RESPONSES: Final = ("instructions", "tools", "text")
_NO_WORKER: Final = "no worker has begun to count within {:g} s (COUNT_WAIT_S); try again later"
_COUNT: Final = {
    "description": "The count",
    "headers": {
        ESTIMATED_HEADER: {"schema": {"type": "string"}, "description": "input_tokens: the count is an estimate"}
    },
}

messages_routes = RouteTable(
    prefix="/v1",
    tag="token counts of messages",
    description="The tokens of a Messages request: counted by its provider, or estimated.",
    errors=anthropic_messages.shape_error,
)
responses_routes = RouteTable(
    prefix="/v1",
    tag="token counts of responses",
    description="The tokens of a Response's input: counted by its provider, or estimated.",
    errors=openai_error,
)


@messages_routes.post(
    f"/{COUNT_TOKENS}",
    summary="The tokens of a Messages request",
    responses={200: _COUNT, **passed_calls.ERRORS},
)
async def count_message_tokens(
    *,
    request: Request,
    here: Here,
    body: Annotated[
        dict[str, Any], Body(examples=[{"model": "claude-sonnet-5-5", "messages": [{"role": "user", "content": "Hi"}]}])
    ],
) -> Response:
    """By the model's provider where it speaks this API, else estimated."""
    model: Any = body.get("model")
    check_model("model", model)
    if not isinstance(body.get("messages"), list):
        raise InvalidInput("messages: Input should be a list")
    if not _is_counted_by(here.services, COUNT_TOKENS, model):
        return _estimate(*(body.get(name) for name in _COUNTED_OF_MESSAGES))
    generation = passed_calls.call_request(COUNT_TOKENS, body, model=model)
    passed = {name: ",".join(request.headers.getlist(name)) for name in PASSED_HEADERS}
    generation = replace(generation, request=with_headers(generation.request, passed))
    return await _count(here, request, generation, failed=_messages_failure)


@responses_routes.post(
    f"/{INPUT_TOKENS}",
    summary="The tokens of a Response's input",
    responses={200: _COUNT, **passed_calls.ERRORS},
)
async def count_response_tokens(
    *,
    request: Request,
    here: Here,
    body: Annotated[dict[str, Any], Body(examples=[{"model": "gpt-5.4-mini", "input": "Hi"}])],
) -> Response:
    """By the model's provider where it is OpenAI's Responses API, else estimated."""
    services, tenant, _ = here
    model = passed_calls.model_in({"model": services.default_model} if body.get("model") is None else body)
    earlier = await _earlier(services, body, tenant=tenant)
    if earlier is not None or not _is_counted_by(services, INPUT_TOKENS, model):
        parts = [body.get("input") if earlier is None else earlier, *(body.get(name) for name in _COUNTED_OF_RESPONSES)]
        return _estimate(*parts, object="response.input_tokens")
    generation = passed_calls.call_request(INPUT_TOKENS, body, model=model)
    return await _count(here, request, generation, failed=_responses_failure)


def _messages_failure(meta: Meta, entries: Sequence[Entry]) -> Response:
    end = Entry(entries[-1].epoch, entries[-1].seq, encode_event(passed_calls.failed_end(entries)))
    return anthropic_messages.message_response(meta, [end], dialect=AnthropicDialect(), is_repeatable=True)


def _responses_failure(meta: Meta, entries: Sequence[Entry]) -> Response:
    end = passed_calls.failed_end(entries)
    problem = failure(end, is_repeatable=True)
    return openai_error_response(problem, code=end.code, headers=naming_headers(meta, entries))


def _estimate(*parts: Any, **fields: str) -> Response:
    """Rule 2: the count of these parts of the request, beside ``fields``."""
    return JSONResponse({**fields, "input_tokens": estimated_request_tokens(*parts)}, headers=_ESTIMATED)


def _is_counted_by(services: Services, call: str, model: str) -> bool:
    """Rule 1. Raises UnknownModel."""
    return bool(targets_answering(call, services.routes.targets_for(model)[:1], services.provider_calls))


async def _earlier(services: Services, body: Mapping[str, Any], *, tenant: str) -> list[Any] | None:
    """The whole input, where it builds on earlier responses (rule 2). Raises BadParameter."""
    previous, items = body.get("previous_response_id"), body.get("input")
    if previous is not None and not isinstance(previous, str):
        raise BadParameter("previous_response_id", "must be a text", api_code=WRONG_TYPE)
    listed = items if isinstance(items, list) else [items]
    if previous is None and not any(reference_of(item) for item in listed):
        return None
    earlier = NO_TURNS if previous is None else await earlier_turns(services, previous, tenant=tenant)
    return [*earlier.heads, *earlier.messages, *await with_referenced_items(services, listed, tenant=tenant)]


async def _count(
    here: Arrival,
    request: Request,
    generation: GenerationRequest,
    *,
    failed: Callable[[Meta, Sequence[Entry]], Response],
) -> Response:
    """The provider's count, or the error that ``failed`` makes of the entries. Raises what ``_run`` raises."""
    meta, entries = await _run(here, request, generation)
    if (body := whole_body(entries)) is not None:
        response = Response(body, media_type="application/json", headers=naming_headers(meta, entries))
    else:
        response = failed(meta, entries)
    response.background = passed_calls.forgetting(here.services, meta)
    return response


async def _run(here: Arrival, request: Request, generation: GenerationRequest) -> tuple[Meta, Sequence[Entry]]:
    """The call and its entries, once it is over. Raises Busy (rule 3), and what ``started`` and ``whole`` raise."""
    services, tenant, _ = here
    async with started(here, generation, as_stream=False, stops_on_disconnect=True) as call:
        try:
            async with asyncio.timeout(services.count_wait_s):
                return call.meta, await whole(services, request, call)
        except TimeoutError:
            meta = await services.generations.get(call.meta.id, tenant=tenant)
            is_begun = meta.status != "queued"
        if is_begun:
            return call.meta, await whole(services, request, call)
    # Outside of the block, which names its generation in every error: this one is deleted.
    limit_reached("COUNT_WAIT_S")
    refusal = Busy(_NO_WORKER.format(services.count_wait_s))
    await undo(services, call.meta.id, refusal, tenant=tenant)
    raise refusal
