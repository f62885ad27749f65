"""``/api/chat``: the chat transport of the Vercel AI SDK (``DefaultChatTransport``, ``useChat``), versions 6 and 7.

Rules
1. A chat's latest answer is what its page resumes and stops. The page knows its chat's id and nothing else of ours;
   the id is no credential: it says which chat of the caller's tenant is meant.
2. ``?version=7`` in the transport's ``api`` (it keeps the query when it resumes) lets a new attempt take back a torn
   step within the stream; without it the stream is one that versions 6 and 7 can read.
3. Nothing that runs is a 204, on which the page is ready: also where the answer has ended meanwhile. A page whose
   stream broke off would then keep the torn message: with ``?ended=true`` it is told the whole of what has ended too,
   under the same message id, which takes the torn one's place.
4. An error's body is what the page shows as its message: ``{"error": …, "code": …}``.
5. Pages stop by closing their connection, and come back by their chat: an answer that nobody watches any more is
   stopped, but not at once. ``on_abandon: continue`` in the body lets it go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import Body, Path, Query, Response
from starlette.responses import JSONResponse

from broadcaster.dialects.ai_sdk import HEADERS, AiSdkDialect, Version
from broadcaster.dialects.ai_sdk_request import continued_message
from broadcaster.errors import UnknownStream
from broadcaster.hub.places import Place
from broadcaster.log.chats import Chat
from broadcaster.log.streams import Meta
from broadcaster.web.parameters import IdempotencyKey
from broadcaster.web.problem_shapes import ShapedError
from broadcaster.web.problems import GENERATION_ID_HEADER, problem_responses
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services, ServicesHere, Tenant
from broadcaster.web.surfaces.ai_sdk_body import ChatBody, wish_of_chat
from broadcaster.web.surfaces.answering import started, stream

PREFIX: Final = "/api/chat"

_VERSIONS: Final[Mapping[str, Version]] = {"6": 6, "7": 7}
_STREAM: Final[dict[str, Any]] = {
    "description": 'The UI message stream, from `start` on: `data: {"type": …}` …, `data: [DONE]`',
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "headers": {
        "x-vercel-ai-ui-message-stream": {"schema": {"const": "v1"}},
        GENERATION_ID_HEADER: {"schema": {"type": "string"}},
    },
}

ChatId = Annotated[str, Path(description="the chat's id, percent-encoded")]
Ended = Annotated[bool, Query(description="true: tell an answer that has ended too, whole")]
StreamVersion = Annotated[Literal["6", "7"], Query(description="7: new attempts may be said as `reset-step`")]


def shape_error(problem: Mapping[str, Any]) -> ShapedError:
    """Rule 4; the transport never tries again by itself."""
    return ShapedError(problem["status"], {"error": problem["detail"], "code": problem["code"]})


routes = RouteTable(prefix=PREFIX, tags=["ai sdk"], errors=shape_error)


@routes.post(
    "",
    summary="Send a message of a chat",
    operation_id="ai_sdk_send",
    response_class=Response,
    responses={
        200: _STREAM,
        **problem_responses(
            "invalid_request",
            "unknown_model",
            "metadata_too_large",
            "unsupported_media_type",
            "idempotency_mismatch",
            "tenant_limit",
            "queue_full",
            "busy",
            "log_unavailable",
        ),
    },
)
async def send_message(
    services: ServicesHere,
    tenant: Tenant,
    body: Annotated[ChatBody, Body()],
    version: StreamVersion = "6",
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Answers with the stream at once. `regenerate-message` asks for another answer to what is left of the messages."""
    continued = continued_message(body.ui_messages)
    wish = wish_of_chat(body, services)
    async with started(services, wish, tenant=tenant, as_stream=True, idempotency_key=idempotency_key) as call:
        chat = Chat(created_ms=call.meta.created_ms, generation_id=call.meta.id, message_id=continued)
        await services.chats.remember(body.id, chat, tenant=tenant)
        return await _stream(services, call.meta, chat, version=version, place=call.place)


@routes.get(
    "/{chat_id:path}/stream",
    summary="Resume a chat's answer",
    operation_id="ai_sdk_resume",
    response_class=Response,
    responses={
        200: _STREAM,
        204: {"description": "Nothing runs in this chat"},
        **problem_responses("invalid_request", "tenant_limit", "busy", "log_unavailable"),
    },
)
async def resume_stream(
    services: ServicesHere, tenant: Tenant, chat_id: ChatId, version: StreamVersion = "6", ended: Ended = False
) -> Response:
    """The answer that is being written, from its beginning, folded; then live."""
    chat = await services.chats.latest(chat_id, tenant=tenant)
    meta = await _answer_of(services, chat, tenant=tenant)
    if chat is None or meta is None or (meta.is_over and not ended):
        return Response(status_code=204)
    return await _stream(services, meta, chat, version=version)


@routes.post(
    "/{chat_id:path}/stop",
    status_code=202,
    summary="Stop a chat's answer",
    operation_id="ai_sdk_stop",
    response_class=Response,
    responses={
        202: {"description": "It is asked to end, or was over: `{id, status}`. Its stream ends with `abort`"},
        200: {"description": "There is no answer in this chat: `{id: null, status: ready}`"},
        **problem_responses("log_unavailable", "stop_not_durable", "unsupported_media_type"),
    },
)
async def stop_answer(services: ServicesHere, tenant: Tenant, chat_id: ChatId) -> Response:
    """Stops the chat's latest answer; whatever the body says. Stopping again, or what is over, changes nothing."""
    meta = await _answer_of(services, await services.chats.latest(chat_id, tenant=tenant), tenant=tenant)
    if meta is None:
        return JSONResponse({"id": None, "status": "ready"})
    await services.generations.stop(meta.id, tenant=tenant)
    meta = await services.generations.get(meta.id, tenant=tenant)
    headers = {GENERATION_ID_HEADER: meta.id}
    return JSONResponse({"id": meta.id, "status": meta.status}, status_code=202, headers=headers)


async def _answer_of(services: Services, chat: Chat | None, *, tenant: str) -> Meta | None:
    """The chat's latest answer; None: there is none, or it was deleted, or kept no longer."""
    if chat is None:
        return None
    try:
        return await services.generations.get(chat.generation_id, tenant=tenant)
    except UnknownStream:
        return None


async def _stream(services: Services, meta: Meta, chat: Chat, *, version: str, place: Place | None = None) -> Response:
    dialect = AiSdkDialect(version=_VERSIONS[version], message_id=chat.message_id)
    return await stream(services, meta, dialect=dialect, headers=HEADERS, place=place)
