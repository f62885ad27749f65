"""``POST /agui``: AG-UI 1.0, for ``HttpAgent`` and whatever else speaks to agents by it.

    new HttpAgent({ url: "http://127.0.0.1:8000/agui" })

Rules
1. The answer is the stream of the run, from RUN_STARTED on, whatever ``Accept`` says. The client closes the connection
   to stop: a run that nobody watches any more is cancelled. ``POST /v1/generations/{id}/stop`` is sooner; the id is in
   the header ``Broadcaster-Generation-Id``.
2. The same ``Idempotency-Key`` and body give the same run: who lost its connection gets all of it again, in short.
3. The conversation that was sent is what a new attempt goes back to (dialects/ag_ui.py).
4. An error is ``{"error": …, "code": …}`` as ``application/json``, which the client parses into ``payload``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from fastapi import Body, Response

from broadcaster.dialects.ag_ui import AgUiDialect
from broadcaster.dialects.ag_ui_request import CannotAsk, model_of, request_of
from broadcaster.log.generations import GenerationRequest
from broadcaster.web.parameters import IdempotencyKey
from broadcaster.web.problem_shapes import ShapedError
from broadcaster.web.problems import Fault, InvalidRequest, problem_responses
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services, ServicesHere, Tenant
from broadcaster.web.surfaces.ag_ui_schemas import RunAgentInput
from broadcaster.web.surfaces.answering import started, stream

PATH: Final = "/agui"


def ag_ui_error(problem: Mapping[str, Any]) -> ShapedError:
    """Rule 4."""
    told = problem.get("detail") or problem.get("title") or problem["code"]
    return ShapedError(int(problem["status"]), {"error": told, "code": problem["code"]})


routes = RouteTable(prefix=PATH, tags=["ag-ui"], errors=ag_ui_error)


@routes.post(
    "",
    summary="Run an agent (AG-UI)",
    operation_id="run_agent",
    response_class=Response,
    responses={
        200: {
            "description": 'The events of the run, `data: {"type": …}` each',
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problem_responses(
            "invalid_request",
            "unknown_model",
            "unsupported_media_type",
            "idempotency_mismatch",
            "tenant_limit",
            "queue_full",
            "busy",
            "log_unavailable",
        ),
    },
)
async def run_agent(
    services: ServicesHere,
    tenant: Tenant,
    body: Annotated[RunAgentInput, Body()],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Asks the model that `forwardedProps.model` names with the conversation, and streams the run."""
    run = body.model_dump(mode="json", exclude_unset=True)
    wish = _wish(run, services)
    history = msgspec.json.encode([_without_null(message) for message in run["messages"]])
    dialect = AgUiDialect(thread_id=body.threadId, run_id=body.runId, history=history)
    async with started(services, wish, tenant=tenant, as_stream=True, idempotency_key=idempotency_key) as call:
        return await stream(services, call.meta, dialect=dialect, place=call.place)


def _wish(run: Mapping[str, Any], services: Services) -> GenerationRequest:
    """Raises InvalidRequest where something cannot be asked."""
    try:
        asked = request_of(run)
    except CannotAsk as fault:
        told = Fault("body", f"#{fault.pointer}", fault.detail)
        raise InvalidRequest(f"body #{fault.pointer}: {fault.detail}", faults=[told]) from None
    if not asked["messages"]:
        told = Fault("body", "#/messages", "no message is for a model")
        raise InvalidRequest(f"body #/messages: {told.detail}", faults=[told])
    if services.default_max_tokens is not None:
        asked.setdefault("max_tokens", services.default_max_tokens)
    # Not the run's id: a client that asks again with its Idempotency-Key calls it another run.
    asked["metadata"] = {"threadId": run["threadId"]}
    return GenerationRequest(model=model_of(run) or services.default_model, request=asked, on_abandon="cancel")


def _without_null(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as its client may be told of it: null is not for an optional field."""
    return {name: value for name, value in message.items() if value is not None}
