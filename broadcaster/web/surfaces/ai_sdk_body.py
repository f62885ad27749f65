"""What the chat transport of the AI SDK posts, and what it asks of a worker.

Strict and closed like ``/v1/generations``: a field that we do not know is refused by its name, not silently ignored.
What a page wants to keep with its chat goes into ``metadata``.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadcaster.core.publishing import check_writable
from broadcaster.dialects.ai_sdk_request import BadUiMessage, conversation_of, tool_choice_of, tools_of
from broadcaster.log.generations import GenerationRequest
from broadcaster.web.problems import Fault, InvalidRequest
from broadcaster.web.schemas import MAX_MESSAGES, MAX_MODEL_CHARS, MAX_RETENTION_S, MAX_TEMPERATURE, MAX_TOOLS
from broadcaster.web.services import Services

MAX_CHAT_ID_CHARS: Final = 256


class UiMessage(BaseModel):
    """A message as the page holds it; its parts are read by ``ai_sdk_request``."""

    model_config = ConfigDict(strict=True, extra="allow")

    id: str | None = None
    role: Literal["system", "user", "assistant"]
    parts: list[dict[str, Any]]


class ChatBody(BaseModel):
    """``id``, ``messages``, ``trigger`` and ``messageId`` are the transport's; the rest is the page's ``body``.

    A setting may have the SDK's name or that of the Messages API.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
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
        pattern=r"^[^\x00-\x1f\x7f]+$",  # no path holds the others
        description="the chat; not a credential",
    )
    messages: list[UiMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = Field(None, alias="messageId", description="what was edited or is made anew")
    model: str | None = Field(None, min_length=1, max_length=MAX_MODEL_CHARS, description="none: the server's default")
    system: str | None = Field(None, description="the system prompt")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, alias="maxOutputTokens")
    temperature: float | None = Field(None, ge=0, le=MAX_TEMPERATURE)
    top_p: float | None = Field(None, ge=0, le=1, alias="topP")
    top_k: int | None = Field(None, ge=0, alias="topK")
    stop_sequences: list[str] | None = Field(None, alias="stopSequences")
    tools: list[dict[str, Any]] | dict[str, Any] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: str | dict[str, Any] | None = Field(None, alias="toolChoice")
    metadata: dict[str, Any] = Field(default_factory=dict, description="the page's own; comes back untouched")
    on_worker_loss: Literal["retry", "fail"] = Field("retry", description="fail: never begin the answer again")
    on_provider_loss: Literal["fail", "retry"] = Field(
        "fail", description="retry: begin the answer again when the provider breaks it off"
    )
    on_abandon: Literal["continue", "cancel"] = Field(
        "cancel", description="continue: go on when nobody watches any more, for a page that comes back late"
    )
    retention_s: float | None = Field(None, gt=0, le=MAX_RETENTION_S, description="how long the log is kept")

    @model_validator(mode="before")
    @classmethod
    def _can_be_written_down(cls, body: Any) -> Any:
        check_writable(body)
        return body

    @property
    def ui_messages(self) -> list[dict[str, Any]]:
        """The messages as plain JSON objects."""
        return [message.model_dump(mode="json") for message in self.messages]


def wish_of_chat(body: ChatBody, services: Services) -> GenerationRequest:
    """The request with this server's defaults. Raises InvalidRequest, which names the part that cannot be read."""
    try:
        conversation = conversation_of(body.ui_messages)
    except BadUiMessage as error:
        _refuse(f"#/messages{error.pointer}", error.detail)
    if not conversation.messages:
        _refuse("#/messages", "nothing is said in these messages")
    try:
        tool_choice = None if body.tool_choice is None else tool_choice_of(body.tool_choice)
    except BadUiMessage as error:
        _refuse("#/toolChoice", error.detail)
    wish = {
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
        request={name: value for name, value in wish.items() if value is not None},
        on_worker_loss=body.on_worker_loss,
        on_abandon=body.on_abandon,
        on_provider_loss=body.on_provider_loss,
        retention_s=body.retention_s,
    )


def _refuse(pointer: str, detail: str) -> NoReturn:
    raise InvalidRequest(f"body {pointer}: {detail}", faults=[Fault("body", pointer, detail)])
