"""``POST /agui``: AG-UI 1.0, for ``HttpAgent`` and other clients of that protocol.

    new HttpAgent({ url: "http://127.0.0.1:8000/agui" })

Rules
1. The response is the stream of the run, from RUN_STARTED on, whatever ``Accept`` names. A run outlives its connection:
   without viewers it is stopped after a grace, or not at all with ``forwardedProps.on_abandon: continue``.
   ``POST /v1/generations/{id}/stop`` stops it at once; the id is in the header ``Broadcaster-Generation-Id``.
2. Events have SSE ids. The same ``POST`` with ``Last-Event-ID`` starts nothing: it resumes after that event of the run
   with this ``runId`` and ``threadId``. After the id ``0-0`` it joins the run, as in rule 4, with the messages that it
   sent. The same ``Idempotency-Key`` and body return the same run too, from its beginning, as a snapshot.
3. A new attempt goes back to the conversation that was sent (dialects/ag_ui/encode.py).
4. ``GET /agui?runId=…&offset=…`` replays a run and follows it, from ``-1``, the beginning, or after an SSE id;
   ``Last-Event-ID`` wins. From the beginning the client gets the run's conversation (MESSAGES_SNAPSHOT), the answer so
   far in one piece, then live events. ``joinRun`` of ``@tanstack/ai-client`` sends this request.
5. ``GET /agui?threadId=…`` is about the newest run of a thread. With ``Accept: text/event-stream`` it joins the run,
   for ``connect`` of ``@ag-ui/client``. Otherwise it returns the run's name, for ``hydrate`` of
   ``@tanstack/ai-client``, which then joins it; also when the run is over, because that client gets its messages by
   joining.
6. A response that ends before its run (a drain) ends with RUN_ERROR. TanStack AI resumes after a plain end, and not
   after an error, so it gets none: ``X-Run-Id`` identifies its ``POST``, ``offset`` its ``GET``.
7. A ``runId`` stands for its newest run, within its tenant. The id is not a credential.
8. An error is ``{"error": …, "code": …}`` as ``application/json``, which the client parses into ``payload``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import Body, Header, Query, Response
from fastapi.responses import JSONResponse

from broadcaster.dialects.ag_ui.encode import AgUiDialect, Received
from broadcaster.dialects.ag_ui.history import history_of
from broadcaster.dialects.ag_ui.request import UnsupportedInput, model_of, request_of
from broadcaster.errors import UnknownStream
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.lists.chats import Chat
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents.parameters import IdempotencyKey
from broadcaster.web.documents.problem_shapes import plain_error
from broadcaster.web.documents.problems import CREATION_CODES, InvalidRequest, RequestFault, problem_responses
from broadcaster.web.guards.callers import check_watches
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services
from broadcaster.web.surfaces.ag_ui_schemas import MAX_ID_CHARS, RunAgentInput
from broadcaster.web.surfaces.answering import started, stream

_BEGINNING: Final = "-1"
_EVENT_STREAM: Final = "text/event-stream"
_NO_RUN: Final = "no run of this thread has this runId (or it has expired)"


_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": 'The events of the run, `data: {"type": …}` each; the last of an entry has its `id`',
        "content": {_EVENT_STREAM: {"schema": {"type": "string"}}},
    },
    204: {"description": "The cursor is the terminal event's own: there are no more events"},
}

_JOINED: Final[dict[str, Any]] = {
    "description": f"{_STREAM[200]['description']}; to `threadId` without `Accept: {_EVENT_STREAM}`: the run's name",
    "content": {**_STREAM[200]["content"], "application/json": {"schema": {"type": "object"}}},
}

LastEventId = Annotated[
    str, Header(alias="last-event-id", description="the last SSE id that was received: resume after it")
]

routes = RouteTable(prefix="/agui", tag="ag-ui", description="AG-UI: `HttpAgent` works unchanged.", errors=plain_error)


@routes.post(
    "",
    summary="Run an agent (AG-UI)",
    response_class=Response,
    responses={
        **_STREAM,
        **problem_responses(*CREATION_CODES, "bad_cursor", "unknown_stream"),
    },
)
async def run_agent(
    here: Here,
    body: Annotated[RunAgentInput, Body()],
    idempotency_key: IdempotencyKey = None,
    last_event_id: LastEventId = "",
    x_run_id: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Sends the conversation to the model that `forwardedProps.model` names, and streams the run."""
    services, tenant, _ = here
    run = body.model_dump(mode="json", exclude_unset=True)
    history = msgspec.json.encode([_without_null(message) for message in run["messages"]])
    dialect = _dialect(body.threadId, body.runId, history, resumes_itself=x_run_id is not None)
    if last_event_id:
        check_watches(services.visitor.caller, None)
        received = Received.parse(last_event_id)
        meta = await _find_run(services, body.runId, tenant=tenant, thread_id=body.threadId)
        return await _resume(services, meta, dialect=dialect, received=received)
    generation = _generation_request(
        run, services, on_abandon=(body.forwardedProps and body.forwardedProps.on_abandon) or "cancel"
    )
    async with started(here, generation, as_stream=True, idempotency_key=idempotency_key) as call:
        chat = Chat(created_ms=call.meta.created_ms, generation_id=call.meta.id, run_id=body.runId)
        for name in (_chat_of(body.runId), _chat_of_thread(body.threadId)):
            await services.chats.remember(name, chat, tenant=tenant, retention_ms=call.meta.retention_ms)
        return await stream(services, call.meta, dialect=dialect, place=call.place)


@routes.get(
    "",
    summary="Join a run, or get the name of the one to join (AG-UI)",
    response_class=Response,
    responses={
        **_STREAM,
        200: _JOINED,
        **problem_responses(
            "invalid_request", "bad_cursor", "unknown_stream", "tenant_limit", "busy", "log_unavailable"
        ),
    },
)
async def join_run(
    here: Here,
    run_id: Annotated[str | None, Query(alias="runId", min_length=1, max_length=MAX_ID_CHARS)] = None,
    thread_id: Annotated[
        str | None,
        Query(alias="threadId", min_length=1, max_length=MAX_ID_CHARS, description="without runId: its newest run"),
    ] = None,
    offset: Annotated[
        str | None, Query(description="-1: from the beginning (the default); or an SSE id, to resume after it")
    ] = None,
    last_event_id: LastEventId = "",
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Replays a run that was started here, then follows it live; or returns the name of a thread's newest run."""
    services, tenant, _ = here
    if run_id is None:
        run_id = await _newest_run(services, thread_id, tenant=tenant)
        if _EVENT_STREAM not in accept:
            return JSONResponse({"messages": [], "activeRun": run_id and {"runId": run_id}, "interrupts": None})
        if run_id is None:
            raise UnknownStream("this thread has no run here (or it has expired)")
    given = last_event_id or offset or _BEGINNING
    received = Received(None) if given == _BEGINNING else Received.parse(given)
    meta = await _find_run(services, run_id, tenant=tenant, thread_id=thread_id)
    history = msgspec.json.encode(history_of(meta.request))
    dialect = _dialect(_thread_of(meta) or "", run_id, history, resumes_itself=offset is not None)
    return await _resume(services, meta, dialect=dialect, received=received)


def _dialect(thread_id: str, run_id: str, history: bytes, *, resumes_itself: bool) -> AgUiDialect:
    return AgUiDialect(
        thread_id=thread_id,
        run_id=run_id,
        history=history,
        ids=True,
        has_places=True,
        resumes_itself=resumes_itself,
    )


async def _resume(services: Services, meta: Meta, *, dialect: AgUiDialect, received: Received) -> Response:
    """The events after the received ones; without a received cursor, the conversation and all events."""
    is_joined = received.cursor is None
    dialect = replace(dialect, is_joined=is_joined, is_resumed=not is_joined, begun=received.begun)
    return await stream(services, meta, dialect=dialect, cursor=received.cursor)


async def _newest_run(services: Services, thread_id: str | None, *, tenant: str) -> str | None:
    """The thread's newest run that can be joined; None: the thread is unknown here, as a new one is."""
    if thread_id is None:
        detail = "name the run to join, or the threadId whose newest run is meant"
        raise InvalidRequest.of(RequestFault("query", "runId", detail))
    chat = await services.chats.latest(_chat_of_thread(thread_id), tenant=tenant)
    return chat.run_id if chat is not None and await _is_kept(services, chat, tenant=tenant) else None


async def _is_kept(services: Services, chat: Chat, *, tenant: str) -> bool:
    """Whether there is a log to join: it may have been deleted, or expired before its meta did."""
    try:
        meta = await services.generations.get(chat.generation_id, tenant=tenant)
    except UnknownStream:
        return False
    return not meta.is_over or (await services.streams.tails([meta.id]))[0].last is not None


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
    """Runs are stored among chats, under a name of their own."""
    return f"agui-run:{run_id}"


def _chat_of_thread(thread_id: str) -> str:
    return f"agui-thread:{thread_id}"


def _thread_of(meta: Meta) -> str | None:
    thread_id = (meta.request.get("metadata") or {}).get("threadId")
    return thread_id if isinstance(thread_id, str) else None


def _generation_request(
    run: Mapping[str, Any], services: Services, *, on_abandon: Literal["continue", "cancel"]
) -> GenerationRequest:
    """Raises InvalidRequest for a request that no model can take."""
    try:
        fields = request_of(run)
    except UnsupportedInput as refusal:
        raise InvalidRequest.of(RequestFault("body", f"#{refusal.pointer}", refusal.detail)) from None
    if not fields["messages"]:
        raise InvalidRequest.of(RequestFault("body", "#/messages", "no message is for a model"))
    if services.default_max_tokens is not None:
        fields.setdefault("max_tokens", services.default_max_tokens)
    # Not the run's id: a client that repeats a request with its Idempotency-Key sends another run id.
    fields["metadata"] = {"threadId": run["threadId"]}
    return GenerationRequest(model=model_of(run) or services.default_model, request=fields, on_abandon=on_abandon)


def _without_null(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message in the form for its client: null is not valid for an optional field."""
    return {name: value for name, value in message.items() if value is not None}
