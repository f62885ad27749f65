"""The JSON of ``/agui``: ``RunAgentInput`` of AG-UI 1.0.

Strict in the types of what is read. Fields that are not read may be there, and null is taken for a field that is
absent: clients of other versions send both.

Source: the schemas of ``@ag-ui/core`` 1.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from broadcaster.core.publishing import check_writable
from broadcaster.web.schemas import MAX_MESSAGES, MAX_MODEL_CHARS, MAX_TEMPERATURE, MAX_TOOLS

MAX_ID_CHARS = 256

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)]


class _Open(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class ContentPart(_Open):
    """``text``, or ``image`` or ``document`` with a ``source``."""

    type: str = Field(min_length=1)


class FunctionCall(_Open):
    """A tool's name and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(_Open):
    """A call that the assistant made."""

    id: Id
    function: FunctionCall


class Instruction(_Open):
    """What the application or the system says to the model."""

    id: Id
    role: Literal["system", "developer"]
    content: str


class UserMessage(_Open):
    """What the user says."""

    id: Id
    role: Literal["user"]
    content: str | list[ContentPart]


class AssistantMessage(_Open):
    """What the model said."""

    id: Id
    role: Literal["assistant"]
    content: str | None = None
    toolCalls: list[ToolCall] | None = None


class ToolMessage(_Open):
    """What a tool returned."""

    id: Id
    role: Literal["tool"]
    toolCallId: str
    content: str | list[ContentPart]
    error: str | None = None


class ReasoningMessage(_Open):
    """What the model thought; ``encryptedValue`` as it was given."""

    id: Id
    role: Literal["reasoning"]
    content: str
    encryptedValue: str | None = None


class ActivityMessage(_Open):
    """Progress that is no part of the conversation: not read."""

    id: Id
    role: Literal["activity"]


Message = Annotated[
    Instruction | UserMessage | AssistantMessage | ToolMessage | ReasoningMessage | ActivityMessage,
    Field(discriminator="role"),
]


class Tool(_Open):
    """A tool that the application runs; ``parameters`` is a JSON schema."""

    name: str = Field(min_length=1)
    description: str
    parameters: dict[str, Any] | None = None


class Context(_Open):
    """Something that the model should know, beside the conversation."""

    description: str
    value: str


class ForwardedProps(_Open):
    """The model and its parameters; anything else is the application's."""

    model: str | None = Field(None, min_length=1, max_length=MAX_MODEL_CHARS, description="none: the server's default")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="none: the server's default")
    temperature: float | None = Field(None, ge=0, le=MAX_TEMPERATURE)


class RunAgentInput(_Open):
    """A request to run an agent."""

    threadId: Id
    runId: Id
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    context: list[Context] | None = None
    forwardedProps: ForwardedProps | None = None
    resume: list[Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _can_be_written_down(cls, body: Any) -> Any:
        check_writable(body)
        return body
