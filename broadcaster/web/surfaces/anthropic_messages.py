"""``POST /v1/messages``: this server as the ``base_url`` of the Anthropic SDKs.

Rules
1. Every model that has a route here can be asked; the answer comes in the API's words, whoever gave it.
2. The API has no way to come back to a stream. So the generation is stopped a few seconds after its client disconnects,
   unless another viewer watches; ``Broadcaster-On-Disconnect: wait`` asks for the longer grace of other surfaces. A
   client that sends the same ``Idempotency-Key`` again gets the same answer from its beginning, in short, then live.
3. A generation that was stopped is a message with the stop reason ``cancelled``, or with the header
   ``Broadcaster-Cancelled-As: error`` an error, for clients that know no other reasons than the API's; one that failed
   is an error: in a stream its last event, else the status that belongs to its type.
4. ``anthropic-version`` and ``anthropic-beta`` reach a provider of this wire; no other header reaches any provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Body, Header, Request, Response
from fastapi.responses import JSONResponse

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.passed_headers import PASSED_HEADERS, with_headers
from broadcaster.core.refusals import refusal_of
from broadcaster.dialects.anthropic_encode import AnthropicDialect, Stop
from broadcaster.dialects.anthropic_message import STATUS_OF_TYPE, message_of
from broadcaster.dialects.anthropic_request import ThreadsUnsupported, read_request
from broadcaster.dialects.anthropic_words import error
from broadcaster.log.generations import GenerationRequest
from broadcaster.log.streams import Meta
from broadcaster.web.parameters import IdempotencyKey, OnDisconnect
from broadcaster.web.problem_shapes import ShapedError
from broadcaster.web.problems import GENERATION_ID_HEADER
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import ServicesHere, Tenant
from broadcaster.web.surfaces.answering import FAILED_FOR_GOOD, retry_after, started, stream, whole, whole_or_streamed

PATH: Final = "/v1/messages"

_NO_RETRY: Final[Mapping[str, str]] = {"x-should-retry": "false"}
"""The SDKs come again by themselves after 408, 409, 429 and 5xx, unless they are told that it is of no use."""

_TYPE_OF_STATUS: Final = {status: type for type, status in STATUS_OF_TYPE.items()}
_SHAPES: Final[Mapping[str, tuple[int, str]]] = {
    "unknown_model": (404, "not_found_error"),
    "busy": (529, "overloaded_error"),
    "queue_full": (529, "overloaded_error"),
}
"""Problems whose status here is another than their own."""


def shape_error(problem: Mapping[str, Any]) -> ShapedError:
    """A problem document as the API's error."""
    status, type = _SHAPES.get(problem["code"], (problem["status"], None))
    if type is None:
        type = _type_of(status)
    return ShapedError(status, error(type, problem["detail"]), {} if problem["retry"] else _NO_RETRY)


def _type_of(status: int) -> str:
    return _TYPE_OF_STATUS.get(status, "invalid_request_error" if status < 500 else "api_error")


routes = RouteTable(prefix="/v1", tags=["messages"], errors=shape_error)

_ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}


@routes.post(
    "/messages",
    summary="Ask for an answer in the words of the Anthropic Messages API",
    operation_id="create_message",
    response_class=JSONResponse,
    responses={
        200: whole_or_streamed("The message; with `stream: true` its events"),
        "default": {
            "description": "An error in the shape of that API",
            "content": {"application/json": {"schema": _ERROR_SCHEMA}},
        },
    },
)
async def create_message(
    *,
    request: Request,
    services: ServicesHere,
    tenant: Tenant,
    body: Annotated[
        dict[str, Any],
        Body(
            examples=[
                {
                    "model": "claude-sonnet-4-5",
                    "max_tokens": 200,
                    "messages": [{"role": "user", "content": "Write a haiku about logs."}],
                    "stream": True,
                }
            ]
        ),
    ],
    idempotency_key: IdempotencyKey = None,
    on_disconnect: OnDisconnect = "stop",
    cancelled_as: Annotated[
        Stop, Header(alias="Broadcaster-Cancelled-As", description="how an answer ends that was stopped")
    ] = "cancelled",
) -> Response:
    """Point the `base_url` of an Anthropic SDK here: streaming, tools, thinking and errors are as its users know."""
    try:
        asked = read_request(body, drops_unknown=services.unknown_parameters == "drop")
    except ThreadsUnsupported as refusal:
        refused = error("invalid_request_error", refusal.detail, details=refusal.details)
        return JSONResponse(refused, status_code=refusal.status, headers=_NO_RETRY)
    stored = with_headers(asked.request, {name: ",".join(request.headers.getlist(name)) for name in PASSED_HEADERS})
    wish = GenerationRequest(model=asked.model, request=stored, on_abandon="cancel")
    dialect = AnthropicDialect(stop=cancelled_as)
    async with started(
        services,
        wish,
        tenant=tenant,
        as_stream=asked.stream,
        stops_on_disconnect=on_disconnect == "stop",
        idempotency_key=idempotency_key,
    ) as call:
        if asked.stream:
            unstreamed = partial(_message, call.meta, dialect=dialect, is_repeatable=idempotency_key is None)
            return await stream(
                services, call.meta, dialect=dialect, place=call.place, request=request, refused=unstreamed
            )
        entries = await whole(services, request, call)
    return _message(call.meta, entries, dialect=dialect, is_repeatable=idempotency_key is None)


def _message(meta: Meta, entries: Sequence[Entry], *, dialect: AnthropicDialect, is_repeatable: bool) -> Response:
    """The message, or the error that it ended with; ``is_repeatable``: see `failure` in openai_errors.py."""
    said = message_of(entries, stream_id=meta.id, dialect=dialect)
    headers = {GENERATION_ID_HEADER: meta.id}
    if said["type"] == "message":
        return JSONResponse(said, headers=headers)
    end = ev.read_event(entries[-1].event)
    status = STATUS_OF_TYPE[said["error"]["type"]]
    can_succeed = not (isinstance(end, ev.Error) and end.code in FAILED_FOR_GOOD)
    if (refusal := refusal_of(end)) is not None:
        status, can_succeed = refusal.status, refusal.retryable
        type = refusal.type if refusal.type in STATUS_OF_TYPE else _type_of(status)
        said = error(type, refusal.message or said["error"]["message"])
        headers |= retry_after(refusal.retry_after_s)
    if not (is_repeatable and can_succeed):
        headers |= _NO_RETRY
    return JSONResponse(said, status_code=status, headers=headers)
