"""``POST /v1/chat/completions``: this server as the ``base_url`` of the OpenAI SDKs.

Rules
1. Every model that has a route here can be asked; the answer comes in the API's words, whoever gave it.
2. The API has no way to come back to a stream. So the generation is stopped a few seconds after its client disconnects,
   unless another viewer watches; ``Broadcaster-On-Disconnect: wait`` asks for the longer grace of other surfaces. A
   client that sends the same ``Idempotency-Key`` again gets the same answer from its beginning, in short, then live.
3. A generation that was stopped is a completion that says so under ``broadcaster``; one that failed is an error: in a
   stream its last block, else, and before the first content, the status that belongs to it.
4. What the only provider of a model cannot do is refused at once, by the parameter's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Body, Request, Response
from fastapi.responses import JSONResponse

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.openai_chat import ChatDialect, whole_completion
from broadcaster.dialects.openai_chat_messages import OPENAI
from broadcaster.dialects.openai_chat_refusal import Refused
from broadcaster.dialects.openai_chat_request import ChatAsk, chat_ask
from broadcaster.dialects.openai_only import unmet
from broadcaster.log.generations import GenerationRequest
from broadcaster.log.streams import Meta
from broadcaster.web.parameters import IdempotencyKey, OnDisconnect
from broadcaster.web.problems import GENERATION_ID_HEADER
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services, ServicesHere, Tenant
from broadcaster.web.surfaces.answering import started, stream, whole, whole_or_streamed
from broadcaster.web.surfaces.openai_errors import failure, openai_error

PATH: Final = "/v1/chat"
"""Below it, errors have this API's shape."""

_ANTHROPIC: Final = "anthropic"

routes = RouteTable(prefix="/v1", tags=["chat completions"], errors=openai_error)

_ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_ERRORS: Final = {
    "description": "An error in the shape of that API",
    "content": {"application/json": {"schema": _ERROR_SCHEMA}},
}
_EXAMPLE: Final = {
    "model": "gpt-5-mini",
    "messages": [{"role": "user", "content": "Write a haiku about logs."}],
    "stream": True,
}


@routes.post(
    "/chat/completions",
    summary="Ask for an answer in the words of the OpenAI chat completions API",
    operation_id="create_chat_completion",
    response_class=JSONResponse,
    responses={
        200: whole_or_streamed("The completion; with `stream: true` its chunks"),
        "default": _ERRORS,
    },
)
async def create_chat_completion(
    *,
    request: Request,
    services: ServicesHere,
    tenant: Tenant,
    body: Annotated[dict[str, Any], Body(examples=[_EXAMPLE])],
    idempotency_key: IdempotencyKey = None,
    on_disconnect: OnDisconnect = "stop",
) -> Response:
    """Point the `base_url` of an OpenAI SDK here: streaming, tools, reasoning and errors are as its users know."""
    try:
        asked = _read(body, services)
    except Refused as refusal:
        return _error({"status": 400, "code": refusal.word, "detail": refusal.detail, "param": refusal.param})
    wish = GenerationRequest(model=asked.model, request=asked.request, on_abandon="cancel")
    async with started(
        services,
        wish,
        tenant=tenant,
        as_stream=asked.stream,
        stops_on_disconnect=on_disconnect == "stop",
        idempotency_key=idempotency_key,
    ) as call:
        if asked.stream:
            dialect = ChatDialect(include_usage=asked.include_usage, hidden_tools=asked.hidden_tools)
            refused = partial(_completion, call.meta, asked=asked, is_repeatable=idempotency_key is None)
            return await stream(
                services, call.meta, dialect=dialect, place=call.place, request=request, refused=refused
            )
        entries = await whole(services, request, call)
    return _completion(call.meta, entries, asked=asked, is_repeatable=idempotency_key is None)


def _read(body: dict[str, Any], services: Services) -> ChatAsk:
    """What the body asks for. Raises Refused, UnknownModel."""
    unknown = services.unknown_parameters_for(body.get("model"))
    asked = chat_ask(body, max_tokens=services.default_max_tokens, unknown=unknown)
    if {target.provider for target in services.routes.targets_for(asked.model)} == {_ANTHROPIC}:
        name = unmet(asked.request.get(OPENAI, {}))
        if name is not None:
            raise Refused(name, "the provider of this model cannot do that")
    return asked


def _completion(meta: Meta, entries: Sequence[Entry], *, asked: ChatAsk, is_repeatable: bool) -> Response:
    """The completion, or the error that it ended with."""
    headers = {GENERATION_ID_HEADER: meta.id}
    completion = whole_completion(meta.id, entries, hidden_tools=asked.hidden_tools)
    if completion is not None:
        return JSONResponse(completion, headers=headers)
    problem = failure(ev.read_event(entries[-1].event), is_repeatable=is_repeatable)
    return _error(problem, headers=headers)


def _error(problem: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> Response:
    shaped = openai_error(problem)
    return JSONResponse(shaped.body, status_code=shaped.status, headers={**shaped.headers, **(headers or {})})
