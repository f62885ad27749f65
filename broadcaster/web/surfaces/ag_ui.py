"""``POST /agui``: AG-UI 1.0, for ``HttpAgent`` and whatever else speaks to agents by it.

    new HttpAgent({ url: "http://127.0.0.1:8000/agui" })

Rules
1. The answer is the stream of the run, from RUN_STARTED on, whatever ``Accept`` says. A run outlives its connection:
   without viewers it is stopped after a grace, or not at all with ``forwardedProps.on_abandon: continue``.
   ``POST /v1/generations/{id}/stop`` stops it at once; the id is in the header ``Broadcaster-Generation-Id``.
2. Events have SSE ids. The same ``POST`` with ``Last-Event-ID`` starts nothing: it goes on behind that event of the run
   with this ``runId`` and ``threadId``. The same ``Idempotency-Key`` and body give the same run too, whole, in short.
3. The conversation that was sent is what a new attempt goes back to (dialects/ag_ui.py).
4. ``GET /agui?runId=…&offset=…`` replays a run and follows it, from ``-1``, the beginning, or behind an SSE id;
   ``Last-Event-ID`` wins. From the beginning the client gets the conversation that the run was asked with
   (MESSAGES_SNAPSHOT), what was written so far in one piece, then live events. This is what ``joinRun`` of
   ``@tanstack/ai-client`` sends.
5. The newest run of a ``runId`` is the one that is meant, within its tenant. The id is no credential.
6. An error is ``{"error": …, "code": …}`` as ``application/json``, which the client parses into ``payload``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import Body, Header, Query, Response

from broadcaster.core.cursor import Cursor
from broadcaster.dialects.ag_ui import AgUiDialect
from broadcaster.dialects.ag_ui_history import history_of
from broadcaster.dialects.ag_ui_request import CannotAsk, model_of, request_of
from broadcaster.errors import UnknownStream
from broadcaster.log.chats import Chat
from broadcaster.log.generations import GenerationRequest
from broadcaster.log.streams import Meta
from broadcaster.web.parameters import IdempotencyKey
from broadcaster.web.problem_shapes import ShapedError
from broadcaster.web.problems import Fault, InvalidRequest, problem_responses
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services, ServicesHere, Tenant
from broadcaster.web.surfaces.ag_ui_schemas import MAX_ID_CHARS, RunAgentInput
from broadcaster.web.surfaces.answering import started, stream

PATH: Final = "/agui"
_BEGINNING: Final = "-1"
_NO_RUN: Final = "no run of this thread has this runId (or it has expired)"


def ag_ui_error(problem: Mapping[str, Any]) -> ShapedError:
    """Rule 6."""
    told = problem.get("detail") or problem.get("title") or problem["code"]
    return ShapedError(int(problem["status"]), {"error": told, "code": problem["code"]})


_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": 'The events of the run, `data: {"type": …}` each; the last of an entry has its `id`',
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The cursor is the end's own: no more to come"},
}

LastEventId = Annotated[
    str, Header(alias="last-event-id", description="the last SSE id that was received: go on behind it")
]


routes = RouteTable(prefix=PATH, tags=["ag-ui"], errors=ag_ui_error)


@routes.post(
    "",
    summary="Run an agent (AG-UI)",
    operation_id="run_agent",
    response_class=Response,
    responses={
        **_STREAM,
        **problem_responses(
            "invalid_request",
            "bad_cursor",
            "unknown_stream",
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
    last_event_id: LastEventId = "",
) -> Response:
    """Asks the model that `forwardedProps.model` names with the conversation, and streams the run."""
    run = body.model_dump(mode="json", exclude_unset=True)
    history = msgspec.json.encode([_without_null(message) for message in run["messages"]])
    dialect = AgUiDialect(thread_id=body.threadId, run_id=body.runId, history=history, ids=True)
    if last_event_id:
        cursor = Cursor.parse(last_event_id)
        meta = await _find_run(services, body.runId, tenant=tenant, thread_id=body.threadId)
        return await stream(services, meta, dialect=dialect, cursor=cursor)
    wish = _wish(run, services, on_abandon=(body.forwardedProps and body.forwardedProps.on_abandon) or "cancel")
    async with started(services, wish, tenant=tenant, as_stream=True, idempotency_key=idempotency_key) as call:
        chat = Chat(created_ms=call.meta.created_ms, generation_id=call.meta.id)
        await services.chats.remember(_chat_of(body.runId), chat, tenant=tenant)
        return await stream(services, call.meta, dialect=dialect, place=call.place)


@routes.get(
    "",
    summary="Join a run (AG-UI)",
    operation_id="join_run",
    response_class=Response,
    responses={
        **_STREAM,
        **problem_responses(
            "invalid_request", "bad_cursor", "unknown_stream", "tenant_limit", "busy", "log_unavailable"
        ),
    },
)
async def join_run(
    services: ServicesHere,
    tenant: Tenant,
    run_id: Annotated[str, Query(alias="runId", min_length=1, max_length=MAX_ID_CHARS)],
    offset: Annotated[str, Query(description="-1: from the beginning; or an SSE id, to go on behind it")] = _BEGINNING,
    last_event_id: LastEventId = "",
) -> Response:
    """Replays a run that was started here, then follows it live. Starts nothing."""
    given = last_event_id or offset
    cursor = None if given == _BEGINNING else Cursor.parse(given)
    meta = await _find_run(services, run_id, tenant=tenant)
    dialect = AgUiDialect(
        thread_id=_thread_of(meta) or "",
        run_id=run_id,
        history=msgspec.json.encode(history_of(meta.request)),
        ids=True,
        is_joined=cursor is None,
    )
    return await stream(services, meta, dialect=dialect, cursor=cursor)


async def _find_run(services: Services, run_id: str, *, tenant: str, thread_id: str | None = None) -> Meta:
    """The newest run of this id, of this thread where one is given. Raises UnknownStream."""
    chat = await services.chats.latest(_chat_of(run_id), tenant=tenant)
    if chat is None:
        raise UnknownStream(_NO_RUN)
    meta = await services.generations.get(chat.generation_id, tenant=tenant)
    if thread_id not in (None, _thread_of(meta)):
        raise UnknownStream(_NO_RUN)
    return meta


def _chat_of(run_id: str) -> str:
    """Runs are remembered among chats, under a name of their own."""
    return f"agui-run:{run_id}"


def _thread_of(meta: Meta) -> str | None:
    thread_id = (meta.request.get("metadata") or {}).get("threadId")
    return thread_id if isinstance(thread_id, str) else None


def _wish(
    run: Mapping[str, Any], services: Services, *, on_abandon: Literal["continue", "cancel"]
) -> GenerationRequest:
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
    return GenerationRequest(model=model_of(run) or services.default_model, request=asked, on_abandon=on_abandon)


def _without_null(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message as its client may be told of it: null is not for an optional field."""
    return {name: value for name, value in message.items() if value is not None}
