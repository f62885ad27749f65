"""``POST /v1/chat/completions``: this server as the ``base_url`` of the OpenAI SDKs.

Rules
1. Every model with a route here is available; the answer has the shape of this API, whichever provider gave it.
2. The API has no way to resume a stream. So the generation is stopped a few seconds after its client disconnects,
   unless another viewer watches. ``Broadcaster-On-Disconnect: wait`` selects the longer grace of other surfaces, and
   ``continue`` lets it run to its end. A client that repeats its ``Idempotency-Key`` gets the same answer: a snapshot,
   then live events.
3. A stopped generation is a completion that reports the stop under ``broadcaster``. A failed one is an error: in a
   stream its last block, else, and before the first content, its status.
4. A request that the only provider of a model cannot fulfil is refused at once, by the parameter's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Body, Response
from fastapi.responses import JSONResponse

from broadcaster.core.entry import Entry
from broadcaster.dialects.openai.own_fields import OPENAI, unmet
from broadcaster.dialects.openai.parameters import BadParameter
from broadcaster.dialects.openai_chat.encode import ChatDialect, whole_completion
from broadcaster.dialects.openai_chat.request import ChatRequest, parse_chat_request
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents.problem_shapes import json_content
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services
from broadcaster.web.surfaces.answering import answer, naming_headers, whole_or_streamed
from broadcaster.web.surfaces.openai_errors import failed_response, openai_error
from broadcaster.web.surfaces.sdk_request import FromSdk

_ANTHROPIC: Final = "anthropic"

routes = RouteTable(
    prefix="/v1/chat",
    tag="chat completions",
    description="This server as the `base_url` of the OpenAI SDKs.",
    errors=openai_error,
)

_ERRORS: Final = json_content(
    "An error in the shape of that API",
    required=["error"],
    properties={
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
)
_EXAMPLE: Final = {
    "model": "gpt-5.4-mini",
    "messages": [{"role": "user", "content": "Write a haiku about logs."}],
    "stream": True,
}


@routes.post(
    "/completions",
    summary="Start an answer by the OpenAI chat completions API",
    responses={
        200: whole_or_streamed("The completion; with `stream: true` its chunks"),
        "default": _ERRORS,
    },
)
async def create_chat_completion(
    caller: FromSdk, body: Annotated[dict[str, Any], Body(examples=[_EXAMPLE])]
) -> Response:
    """Point the `base_url` of an OpenAI SDK here: streaming, tools, reasoning and errors are as its users know."""
    parsed = _read(body, caller.here.services)
    generation = GenerationRequest(model=parsed.model, request=parsed.request)
    dialect = ChatDialect(
        include_usage=parsed.include_usage, hidden_tools=parsed.hidden_tools, custom_tools=parsed.custom_tools
    )
    return await answer(
        caller,
        generation,
        dialect=dialect,
        as_stream=parsed.stream,
        respond=partial(_completion, dialect=dialect, is_repeatable=caller.is_repeatable),
    )


def _read(body: dict[str, Any], services: Services) -> ChatRequest:
    """The parsed request. Raises BadParameter, UnknownModel."""
    parsed = parse_chat_request(
        body,
        max_tokens=services.default_max_tokens,
        unknown=services.unknown_parameters_for(body.get("model")),
        keeps_reasoning=services.keeps_reasoning_for(body.get("model")),
    )
    if {target.provider for target in services.routes.targets_for(parsed.model)} == {_ANTHROPIC}:
        name = unmet(parsed.request.get(OPENAI, {}))
        if name is not None:
            raise BadParameter(name, "the provider of this model cannot do that")
    return parsed


def _completion(meta: Meta, entries: Sequence[Entry], *, dialect: ChatDialect, is_repeatable: bool) -> Response:
    """The completion, or the error that it ended with."""
    completion = whole_completion(meta.id, entries, dialect=dialect)
    if completion is not None:
        return JSONResponse(completion, headers=naming_headers(meta, entries))
    return failed_response(meta, entries, is_repeatable=is_repeatable)
