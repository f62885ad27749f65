"""The JSON of ``/agui``: ``RunAgentInput`` of AG-UI 1.0.

Strict in the types of what is read. Fields that are not read may be there, and null is taken for a field that is
absent: clients of other versions send both.

Source: the schemas of ``@ag-ui/core`` 1.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from broadcaster.web.schemas import MAX_MESSAGES, MAX_MODEL_CHARS, MAX_TEMPERATURE, MAX_TOOLS, ContentPart

MAX_ID_CHARS: Final = 256

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)]

_OPEN: Final = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


@with_config(_OPEN)
class FunctionCall(TypedDict):
    """A tool's name and its arguments as JSON text."""

    name: str
    arguments: str


@with_config(_OPEN)
class ToolCall(TypedDict):
    """A call that the assistant made."""

    id: Id
    function: FunctionCall


@with_config(_OPEN)
class Instruction(TypedDict):
    """What the application or the system says to the model."""

    id: Id
    role: Literal["system", "developer"]
    content: str


@with_config(_OPEN)
class UserMessage(TypedDict):
    """What the user says."""

    id: Id
    role: Literal["user"]
    content: str | Annotated[list[ContentPart], Field(fail_fast=True)]


@with_config(_OPEN)
class AssistantMessage(TypedDict):
    """What the model said."""

    id: Id
    role: Literal["assistant"]
    content: NotRequired[str | None]
    toolCalls: NotRequired[Annotated[list[ToolCall], Field(fail_fast=True)] | None]


@with_config(_OPEN)
class ToolMessage(TypedDict):
    """What a tool returned."""

    id: Id
    role: Literal["tool"]
    toolCallId: str
    content: str | Annotated[list[ContentPart], Field(fail_fast=True)]
    error: NotRequired[str | None]


@with_config(_OPEN)
class ReasoningMessage(TypedDict):
    """What the model thought; ``encryptedValue`` as it was given."""

    id: Id
    role: Literal["reasoning"]
    content: str
    encryptedValue: NotRequired[str | None]


@with_config(_OPEN)
class ActivityMessage(TypedDict):
    """Progress that is no part of the conversation: not read."""

    id: Id
    role: Literal["activity"]


Message = Annotated[
    Instruction | UserMessage | AssistantMessage | ToolMessage | ReasoningMessage | ActivityMessage,
    Field(discriminator="role"),
]


@with_config(_OPEN)
class Tool(TypedDict):
    """A tool that the application runs; ``parameters`` is a JSON schema."""

    name: Annotated[str, Field(min_length=1)]
    description: str
    parameters: NotRequired[dict[str, Any] | None]


@with_config(_OPEN)
class Context(TypedDict):
    """Something that the model should know, beside the conversation."""

    description: str
    value: str


class ForwardedProps(BaseModel):
    """The model and its parameters; anything else is the application's."""

    model_config = _OPEN

    model: str | None = Field(None, min_length=1, max_length=MAX_MODEL_CHARS, description="none: the server's default")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="none: as long as the model makes it")
    temperature: float | None = Field(None, ge=0, le=MAX_TEMPERATURE)
    on_abandon: Literal["continue", "cancel"] | None = Field(
        None,
        description="cancel (default): a run without viewers is stopped after a grace; continue: it is not",
    )


class RunAgentInput(BaseModel):
    """A request to run an agent."""

    model_config = _OPEN

    threadId: Id
    runId: Id
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS, fail_fast=True)
    context: list[Context] | None = Field(None, fail_fast=True)
    forwardedProps: ForwardedProps | None = None
    resume: list[Any] | None = None
