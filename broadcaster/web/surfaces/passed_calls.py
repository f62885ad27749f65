"""``POST /v1/embeddings`` and ``POST /v1/completions``: calls that are passed to the provider of the model.

Rules
1. A call is a generation that its worker sends in one request (core/requests/passed_calls.py): queue, limits, retries,
   keys and stops are those of every generation. It is not listed, and it is deleted after its response; a stream, and a
   call with an Idempotency-Key, is stored for a minute.
2. Body and response are the provider's, unchanged, and so is a refusal. Here only ``model`` and ``stream`` are read.
3. A model without a provider for the call is refused at once.
4. A client cannot resume a call through its API: the call is stopped a few seconds after its client disconnects, as on
   chat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Body, Response
from starlette.background import BackgroundTask

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.requests.passed_calls import COMPLETIONS, EMBEDDINGS, KEPT_S, passed_request, targets_answering
from broadcaster.dialects.openai.parameters import MISSING, WRONG_TYPE, BadParameter, RequestFields
from broadcaster.dialects.passed.encode import PassedDialect, whole_body
from broadcaster.errors import BroadcasterError
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents.problems import CREATION_CODES, problem_responses
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services
from broadcaster.web.surfaces.answering import UNDO_S, answer, naming_headers, whole_or_streamed
from broadcaster.web.surfaces.openai_errors import failure, openai_error, openai_error_response
from broadcaster.web.surfaces.sdk_request import FromSdk, SdkRequest

ERRORS: Final = problem_responses(*CREATION_CODES)

_STOPPED: Final = "the call was stopped before its end"
_OLDER: Final = "the version of the worker that ran this call does not support it; upgrade the workers"

routes = RouteTable(
    prefix="/v1",
    tag="passed calls",
    description="Embeddings and legacy completions, passed to the provider of the model unchanged.",
    errors=openai_error,
)


@routes.post(
    f"/{EMBEDDINGS}",
    summary="Embeddings, by the provider of the model",
    responses={200: {"description": "The provider's response"}, **ERRORS},
)
async def create_embeddings(
    caller: FromSdk,
    body: Annotated[dict[str, Any], Body(examples=[{"model": "text-embedding-3-small", "input": "a log"}])],
) -> Response:
    """Body and response are passed on unchanged."""
    return await _pass_on(caller, EMBEDDINGS, body, as_stream=False)


@routes.post(
    f"/{COMPLETIONS}",
    summary="Legacy completions, by the provider of the model",
    responses={200: whole_or_streamed("The completion; with `stream: true` its chunks"), **ERRORS},
)
async def create_completion(
    caller: FromSdk,
    body: Annotated[dict[str, Any], Body(examples=[{"model": "local", "prompt": "A log is", "stream": True}])],
) -> Response:
    """Body, response and the chunks of a stream are passed on unchanged."""
    return await _pass_on(caller, COMPLETIONS, body, as_stream=body.get("stream") is True)


async def _pass_on(caller: SdkRequest, call: str, body: Mapping[str, Any], *, as_stream: bool) -> Response:
    """The provider's response to this call, or the error. Raises BadParameter, and what ``answer`` raises."""
    services = caller.here.services
    generation = _generation_request(services, call, body)
    responding = partial(_response, services, is_repeatable=caller.is_repeatable)
    return await answer(caller, generation, dialect=PassedDialect(), as_stream=as_stream, respond=responding)


def _generation_request(services: Services, call: str, body: Mapping[str, Any]) -> GenerationRequest:
    """The generation that this call is. Raises BadParameter, UnknownModel."""
    model = model_in(body)
    if not isinstance(body.get("stream"), bool | None):
        raise BadParameter("stream", "must be true or false", api_code=WRONG_TYPE)
    if not targets_answering(call, services.routes.targets_for(model), services.provider_calls):
        raise BadParameter(
            "model", f"no provider of this model serves /v1/{call}; route it to a server of the OpenAI API"
        )
    return call_request(call, body, model=model)


def model_in(body: Mapping[str, Any]) -> str:
    """The model of a body that must name one. Raises BadParameter."""
    model = RequestFields(body).model()
    if not model:
        raise BadParameter("model", "is missing", api_code=MISSING)
    return model


def call_request(call: str, body: Mapping[str, Any], *, model: str) -> GenerationRequest:
    """The generation that a call is (rule 1)."""
    request = passed_request(call, body)
    return GenerationRequest(model=model, request=request, on_abandon="cancel", retention_s=KEPT_S)


def failed_end(entries: Sequence[Entry]) -> ev.Error:
    """The ending of a call without a response."""
    match ev.read_event(entries[-1].event):
        case ev.Error() as error:
            return error
        case ev.Abort():
            return ev.Error(error_text=_STOPPED, code="stopped")
        case _:
            return ev.Error(error_text=_OLDER, code="outdated_worker")


def forgetting(services: Services, meta: Meta) -> BackgroundTask:
    """Delete the call once its response is sent; at worst it expires."""

    async def forget() -> None:
        with suppress(BroadcasterError):
            await services.generations.delete(meta.id, tenant=meta.tenant, timeout_s=UNDO_S)

    return BackgroundTask(forget)


def _response(services: Services, meta: Meta, entries: Sequence[Entry], *, is_repeatable: bool) -> Response:
    """The provider's response, or the error."""
    headers = naming_headers(meta, entries)
    if (body := whole_body(entries)) is not None:
        response = Response(body, media_type="application/json", headers=headers)
    else:
        end = failed_end(entries)
        problem = failure(end, is_repeatable=is_repeatable and end.code != "stopped")
        response = openai_error_response(problem, code=end.code, headers=headers)
    if is_repeatable:
        response.background = forgetting(services, meta)
    return response
