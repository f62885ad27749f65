"""``POST /v1/messages``: this server as the ``base_url`` of the Anthropic SDKs.

Rules
1. Every model with a route here is available; the answer has the shape of this API, whichever provider gave it.
2. The API has no way to resume a stream. So the generation is stopped a few seconds after its client disconnects,
   unless another viewer watches. ``Broadcaster-On-Disconnect: wait`` selects the longer grace of other surfaces, and
   ``continue`` lets it run to its end. A client that repeats its ``Idempotency-Key`` gets the same answer: a snapshot,
   then live events.
3. A stopped generation is a message with the stop reason ``cancelled``, or with the header
   ``Broadcaster-Cancelled-As: error`` an error, for clients that know only the API's own reasons. A failed one is an
   error: in a stream its last event, else the status of its type.
4. ``anthropic-version`` and ``anthropic-beta`` reach a provider of this wire; no other header reaches any provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Body, Header, Response
from fastapi.responses import JSONResponse

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.providers.refusals import TOO_LONG, StoredRefusal, refusal_of
from broadcaster.core.requests.passed_headers import PASSED_HEADERS, with_headers
from broadcaster.dialects.anthropic.answer import STATUS_OF_TYPE, message_of
from broadcaster.dialects.anthropic.encode import AnthropicDialect, Stop
from broadcaster.dialects.anthropic.encode_tables import error
from broadcaster.dialects.anthropic.request import ThreadsUnsupported, read_request
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents.problem_shapes import ShapedError, json_content
from broadcaster.web.documents.problems import CodedResponse
from broadcaster.web.route_table import RouteTable
from broadcaster.web.surfaces.answering import FAILED_FOR_GOOD, answer, naming_headers, retry_after, whole_or_streamed
from broadcaster.web.surfaces.sdk_request import FromSdk

_NO_RETRY: Final[Mapping[str, str]] = {"x-should-retry": "false"}
"""The SDKs retry by themselves after 408, 409, 429 and 5xx, unless this header forbids it."""

_TYPE_OF_STATUS: Final = {status: type for type, status in STATUS_OF_TYPE.items()}
_SHAPES: Final[Mapping[str, tuple[int, str]]] = {
    "unknown_model": (404, "not_found_error"),
    "busy": (529, "overloaded_error"),
    "queue_full": (529, "overloaded_error"),
}
"""Problems whose status differs here from their own."""


def shape_error(problem: Mapping[str, Any]) -> ShapedError:
    """A problem document as the API's error."""
    status, type = _SHAPES.get(problem["code"]) or (problem["status"], _type_of(problem["status"]))
    return ShapedError(status, error(type, problem["detail"]), {} if problem["retry"] else _NO_RETRY)


def _type_of(status: int) -> str:
    return _TYPE_OF_STATUS.get(status, "invalid_request_error" if status < 500 else "api_error")


_TOO_LONG_HERE: Final = ("prompt is too long", "exceed context limit")
"""The API's own texts for a request that is too long: clients recognize it only by them (LangChain, litellm)."""
_GENERIC: Final = frozenset({"invalid_request_error", "api_error"})
"""Types that OpenAI gives to refusals of many statuses: here the status decides."""


def _refused(refusal: StoredRefusal, document: Mapping[str, Any]) -> dict[str, Any]:
    """A provider's refusal as the API's error; ``document`` is the error without it."""
    own = refusal.type if refusal.type in STATUS_OF_TYPE and refusal.type not in _GENERIC else None
    message = refusal.message or document["message"]
    if refusal.code == TOO_LONG and not any(text in message for text in _TOO_LONG_HERE):
        message = f"{_TOO_LONG_HERE[0]}: {message}"
    return error(own or _TYPE_OF_STATUS.get(refusal.status, document["type"]), message)


routes = RouteTable(
    prefix="/v1/messages",
    tag="messages",
    description="The Anthropic Messages API: point its SDKs' `base_url` here.",
    errors=shape_error,
)

_ERRORS: Final = json_content(
    "An error in the shape of that API",
    required=["type", "error"],
    properties={
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
)
_EXAMPLE: Final = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "Write a haiku about logs."}],
    "stream": True,
}


@routes.post(
    "",
    summary="Start an answer by the Anthropic Messages API",
    responses={
        200: whole_or_streamed("The message; with `stream: true` its events"),
        "default": _ERRORS,
    },
)
async def create_message(
    *,
    caller: FromSdk,
    body: Annotated[dict[str, Any], Body(examples=[_EXAMPLE])],
    cancelled_as: Annotated[
        Stop, Header(alias="Broadcaster-Cancelled-As", description="the ending of an answer that was stopped")
    ] = "cancelled",
) -> Response:
    """Point the `base_url` of an Anthropic SDK here: streaming, tools, thinking and errors are as its users know."""
    try:
        parsed = read_request(body, drops_unknown=caller.here.services.unknown_parameters == "drop")
    except ThreadsUnsupported as refusal:
        refused = error("invalid_request_error", refusal.detail, details=refusal.details)
        return CodedResponse(refused, code="invalid_request", status_code=refusal.status, headers=_NO_RETRY)
    passed = {name: ",".join(caller.http.headers.getlist(name)) for name in PASSED_HEADERS}
    generation = GenerationRequest(model=parsed.model, request=with_headers(parsed.request, passed))
    dialect = AnthropicDialect(stop=cancelled_as)
    return await answer(
        caller,
        generation,
        dialect=dialect,
        as_stream=parsed.stream,
        respond=partial(message_response, dialect=dialect, is_repeatable=caller.is_repeatable),
    )


def message_response(
    meta: Meta, entries: Sequence[Entry], *, dialect: AnthropicDialect, is_repeatable: bool
) -> Response:
    """The message, or the error that it ended with; ``is_repeatable``: see `failure` in openai_errors.py."""
    document: Mapping[str, Any] = message_of(entries, stream_id=meta.id, dialect=dialect)
    headers = naming_headers(meta, entries)
    if document["type"] == "message":
        return JSONResponse(document, headers=headers)
    end = ev.read_event(entries[-1].event)
    status = STATUS_OF_TYPE[document["error"]["type"]]
    can_succeed = not (isinstance(end, ev.Error) and end.code in FAILED_FOR_GOOD)
    if (refusal := refusal_of(end)) is not None:
        status, can_succeed = refusal.status, refusal.retryable
        document = _refused(refusal, document["error"])
        headers |= retry_after(refusal.retry_after_s)
    if not (is_repeatable and can_succeed):
        headers |= _NO_RETRY
    code = end.code if isinstance(end, ev.Error) else "provider_failed"
    return CodedResponse(document, code=code, status_code=status, headers=headers)
