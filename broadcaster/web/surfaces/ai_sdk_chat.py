"""``/api/chat``: the chat transport of the Vercel AI SDK (``DefaultChatTransport``, ``useChat``), versions 6 and 7.

Rules
1. A page resumes and stops its chat's latest answer. The page knows its chat's id and no id of ours. The chat's id is
   not a credential: it selects a chat of the caller's tenant.
2. ``?version=7`` in the transport's ``api`` (it keeps the query when it resumes) lets a new attempt take back an
   unfinished step within the stream; without it versions 6 and 7 can both read the stream.
3. A chat without a running answer is a 204, on which the page is ready; also when the answer has ended meanwhile. A
   page whose stream broke would then keep the partial message: with ``?ended=true`` it also gets a whole answer that
   has ended, under the same message id, which replaces the partial one.
4. The page shows an error's body as its message: ``{"error": …, "code": …}``. The transport never retries by itself.
5. The body is strict and closed like that of ``/v1/generations``: an unknown field is refused by its name, not ignored
   silently. A page stores its own values in ``metadata``.
6. Pages stop by closing their connection, and come back by their chat: an answer without viewers is stopped, but not at
   once. ``on_abandon: continue`` in the body lets it continue.
7. An answer continues the message of the assistant that is the request's last, and has its id. A page that sent the
   request holds that message; one that resumes empties it and receives it whole (dialects/ai_sdk/continued.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NoReturn, NotRequired

from fastapi import Body, Path, Query, Response
from pydantic import ConfigDict, Field, with_config
from starlette.responses import JSONResponse
from typing_extensions import TypedDict

from broadcaster.core.requests.options import MAX_RETENTION_S
from broadcaster.dialects.ai_sdk.continued import earlier_blocks, with_continued
from broadcaster.dialects.ai_sdk.encode import HEADERS, AiSdkDialect, Version
from broadcaster.dialects.ai_sdk.request import (
    BadUiMessage,
    continued_message,
    conversation_of,
    tool_choice_of,
    tools_of,
)
from broadcaster.errors import UnknownStream
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.lists.chats import Chat
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents import problems, schemas
from broadcaster.web.documents.parameters import IdempotencyKey
from broadcaster.web.documents.problem_shapes import plain_error
from broadcaster.web.documents.problems import InvalidRequest, RequestFault, problem_responses
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services
from broadcaster.web.surfaces.answering import NAMING_HEADERS, started, stream

MAX_CHAT_ID_CHARS: Final = 256
MAX_MESSAGE_ID_CHARS: Final = 256  # a chat stores the id of the message that its answer continues
_VERSIONS: Final[Mapping[str, Version]] = {"6": 6, "7": 7}
_STREAM: Final[dict[str, Any]] = {
    "description": 'The UI message stream, from `start` on: `data: {"type": …}` …, `data: [DONE]`',
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "headers": {
        "x-vercel-ai-ui-message-stream": {"schema": {"const": "v1"}},
        **NAMING_HEADERS,
    },
}

ChatId = Annotated[str, Path(description="the chat's id, percent-encoded")]
Ended = Annotated[bool, Query(description="true: send an answer that has ended too, whole")]
StreamVersion = Annotated[Literal["6", "7"], Query(description="7: new attempts may be sent as `reset-step`")]


@with_config(ConfigDict(strict=True, extra="allow"))
class UiMessage(TypedDict):
    """A message as the page holds it; its parts are read by ``ai_sdk_request``."""

    id: NotRequired[Annotated[str, Field(max_length=MAX_MESSAGE_ID_CHARS)] | None]
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class ChatBody(schemas.ClosedModel):
    """``id``, ``messages``, ``trigger`` and ``messageId`` are the transport's; the rest is the page's ``body``.

    A setting may have the SDK's name or that of the Messages API.
    """

    model_config = ConfigDict(
        populate_by_name=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "chat-1",
                    "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Why?"}]}],
                    "trigger": "submit-message",
                }
            ]
        },
    )

    id: str = Field(
        min_length=1,
        max_length=MAX_CHAT_ID_CHARS,
        pattern=r"^[^\x00-\x1f\x7f]+$",  # other characters have no place in a path
        description="the chat; not a credential",
    )
    messages: list[UiMessage] = Field(min_length=1, max_length=schemas.MAX_MESSAGES, fail_fast=True)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = Field(None, alias="messageId", description="the edited or regenerated message")
    model: schemas.ModelName = None
    system: str | None = Field(None, description="the system prompt")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, alias="maxOutputTokens")
    temperature: float | None = Field(None, ge=0, le=schemas.MAX_TEMPERATURE)
    top_p: float | None = Field(None, ge=0, le=1, alias="topP")
    top_k: int | None = Field(None, ge=0, alias="topK")
    stop_sequences: list[str] | None = Field(None, alias="stopSequences", fail_fast=True)
    tools: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | dict[str, Any] | None = Field(
        None, max_length=schemas.MAX_TOOLS
    )
    tool_choice: str | dict[str, Any] | None = Field(None, alias="toolChoice")
    metadata: dict[str, Any] = Field(default_factory=dict, description="the page's own; returned unchanged")
    on_worker_loss: Literal["retry", "fail"] = Field(
        "retry", description="fail: never restart an answer that has begun"
    )
    on_provider_loss: Literal["fail", "retry"] = Field(
        "fail", description="retry: restart the answer when the provider breaks it off"
    )
    on_abandon: Literal["continue", "cancel"] = Field(
        "cancel", description="continue: keep going without viewers, for a page that comes back late"
    )
    retention_s: float | None = Field(None, gt=0, le=MAX_RETENTION_S, description="how long the log is stored")


routes = RouteTable(
    prefix="/api/chat",
    tag="ai sdk",
    description="The chat transport of the Vercel AI SDK: `useChat` works unchanged.",
    errors=plain_error,
)


@routes.post(
    "",
    summary="Send a message of a chat",
    operation_id="ai_sdk_send",
    response_class=Response,
    responses={
        200: _STREAM,
        **problem_responses(*problems.CREATION_CODES, "metadata_too_large"),
    },
)
async def send_message(
    here: Here,
    body: Annotated[ChatBody, Body()],
    version: StreamVersion = "6",
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Responds with the stream at once. `regenerate-message` requests another answer to the remaining messages."""
    services, tenant, _ = here
    continued = continued_message(body.messages)
    generation = chat_request(body, services)
    async with started(here, generation, as_stream=True, idempotency_key=idempotency_key) as call:
        chat = Chat(created_ms=call.meta.created_ms, generation_id=call.meta.id, message_id=continued)
        await services.chats.remember(body.id, chat, tenant=tenant, retention_ms=call.meta.retention_ms)
        dialect = AiSdkDialect(version=_VERSIONS[version], message_id=chat.message_id)
        return await stream(services, call.meta, dialect=dialect, headers=HEADERS, place=call.place)


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
async def resume_stream(here: Here, chat_id: ChatId, version: StreamVersion = "6", ended: Ended = False) -> Response:
    """The running answer: a snapshot, then live events."""
    services, tenant, _ = here
    chat = await services.chats.latest(chat_id, tenant=tenant)
    meta = await _answer_of(services, chat, tenant=tenant)
    if chat is None or meta is None or (meta.is_over and not ended):
        return Response(status_code=204)
    earlier = earlier_blocks(meta.request, message_id=chat.message_id)
    dialect = AiSdkDialect(version=_VERSIONS[version], message_id=chat.message_id, earlier=earlier)
    return await stream(services, meta, dialect=dialect, headers=HEADERS)


@routes.post(
    "/{chat_id:path}/stop",
    status_code=202,
    summary="Stop a chat's answer",
    operation_id="ai_sdk_stop",
    response_class=Response,
    responses={
        202: {"description": "Its end is requested, or it was over: `{id, status}`. Its stream ends with `abort`"},
        200: {"description": "There is no answer in this chat: `{id: null, status: ready}`"},
        **problem_responses("log_unavailable", "stop_not_durable", "unsupported_media_type"),
    },
)
async def stop_answer(here: Here, chat_id: ChatId) -> Response:
    """Stops the chat's latest answer; the body is ignored. A repeated stop, or one after the end, changes nothing."""
    services, tenant, _ = here
    meta = await _answer_of(services, await services.chats.latest(chat_id, tenant=tenant), tenant=tenant)
    if meta is None:
        return JSONResponse({"id": None, "status": "ready"})
    await services.generations.stop(meta.id, tenant=tenant)
    meta = await services.generations.get(meta.id, tenant=tenant)
    headers = {problems.GENERATION_ID_HEADER: meta.id}
    return JSONResponse({"id": meta.id, "status": meta.status}, status_code=202, headers=headers)


async def _answer_of(services: Services, chat: Chat | None, *, tenant: str) -> Meta | None:
    """The chat's latest answer; None: there is no answer, or it was deleted, or has expired."""
    if chat is None:
        return None
    try:
        return await services.generations.get(chat.generation_id, tenant=tenant)
    except UnknownStream:
        return None


def chat_request(body: ChatBody, services: Services) -> GenerationRequest:
    """The request with this server's defaults. Raises InvalidRequest, which names the part that cannot be read."""
    try:
        conversation = conversation_of(body.messages)
    except BadUiMessage as error:
        _refuse(f"#/messages{error.pointer}", error.detail)
    if not conversation.messages:
        _refuse("#/messages", "the messages have no content")
    try:
        tool_choice = None if body.tool_choice is None else tool_choice_of(body.tool_choice)
    except BadUiMessage as error:
        _refuse("#/toolChoice", error.detail)
    fields = {
        "messages": conversation.messages,
        "system": "\n\n".join(filter(None, (body.system, conversation.system))) or None,
        "max_tokens": body.max_tokens or services.default_max_tokens,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "stop_sequences": body.stop_sequences,
        "tools": None if not body.tools else tools_of(body.tools),
        "tool_choice": tool_choice,
        "metadata": body.metadata or None,
    }
    request = {name: value for name, value in fields.items() if value is not None}
    return GenerationRequest(
        model=body.model or services.default_model,
        request=with_continued(request, body.messages),
        on_worker_loss=body.on_worker_loss,
        on_abandon=body.on_abandon,
        on_provider_loss=body.on_provider_loss,
        retention_s=body.retention_s,
    )


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise InvalidRequest.of(RequestFault("body", pointer, detail))
