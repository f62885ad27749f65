"""The body of the AI SDK's chat transport, and the request for a worker in it.

Strict and closed like ``/v1/generations``: an unknown field is refused by its name, not ignored silently.
A page stores its own values in ``metadata``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NoReturn, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from broadcaster.dialects.ai_sdk.request import BadUiMessage, conversation_of, tool_choice_of, tools_of
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.web.documents.problems import InvalidRequest, RequestFault
from broadcaster.web.documents.schemas import (
    MAX_MESSAGES,
    MAX_MODEL_CHARS,
    MAX_RETENTION_S,
    MAX_TEMPERATURE,
    MAX_TOOLS,
    ClosedModel,
)
from broadcaster.web.services import Services

MAX_CHAT_ID_CHARS: Final = 256


@with_config(ConfigDict(strict=True, extra="allow"))
class UiMessage(TypedDict):
    """A message as the page holds it; its parts are read by ``ai_sdk_request``."""

    id: NotRequired[str | None]
    role: Literal["system", "user", "assistant"]
    parts: Annotated[list[dict[str, Any]], Field(fail_fast=True)]


class ChatBody(ClosedModel):
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
    messages: list[UiMessage] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = Field(None, alias="messageId", description="the edited or regenerated message")
    model: str | None = Field(None, min_length=1, max_length=MAX_MODEL_CHARS, description="null: the server's default")
    system: str | None = Field(None, description="the system prompt")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, alias="maxOutputTokens")
    temperature: float | None = Field(None, ge=0, le=MAX_TEMPERATURE)
    top_p: float | None = Field(None, ge=0, le=1, alias="topP")
    top_k: int | None = Field(None, ge=0, alias="topK")
    stop_sequences: list[str] | None = Field(None, alias="stopSequences", fail_fast=True)
    tools: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | dict[str, Any] | None = Field(
        None, max_length=MAX_TOOLS
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

    @property
    def ui_messages(self) -> Sequence[Mapping[str, Any]]:
        """The messages as plain JSON objects."""
        return self.messages


def chat_request(body: ChatBody, services: Services) -> GenerationRequest:
    """The request with this server's defaults. Raises InvalidRequest, which names the part that cannot be read."""
    try:
        conversation = conversation_of(body.ui_messages)
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
    return GenerationRequest(
        model=body.model or services.default_model,
        request={name: value for name, value in fields.items() if value is not None},
        on_worker_loss=body.on_worker_loss,
        on_abandon=body.on_abandon,
        on_provider_loss=body.on_provider_loss,
        retention_s=body.retention_s,
    )


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise InvalidRequest.of(RequestFault("body", pointer, detail))
