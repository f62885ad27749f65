"""The JSON of ``/agui``: ``RunAgentInput`` of AG-UI 1.0.

Strict in the types of the fields that are read. Other fields may be present, and null counts as absent: clients of
other versions send both.

Source: the schemas of ``@ag-ui/core`` 1.0.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from broadcaster.web.documents import schemas
from broadcaster.web.documents.schemas import ContentPart, documented_as

MAX_ID_CHARS: Final = 256

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)]

_OPEN: Final = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


@with_config(_OPEN)
class _Identified(TypedDict):
    """The part of a message or call that all share: its id, and that other fields may be present."""

    id: Id


@with_config(_OPEN)
class FunctionCall(TypedDict):
    """A tool's name and its arguments as JSON text."""

    name: str
    arguments: str


@documented_as("ToolCall")
class AgUiToolCall(_Identified):
    """A call that the assistant made."""

    function: FunctionCall


class Instruction(_Identified):
    """A message of the application or the system to the model."""

    role: Literal["system", "developer"]
    content: str


class UserMessage(_Identified):
    """A message of the user."""

    role: Literal["user"]
    content: str | Annotated[list[ContentPart], Field(fail_fast=True)]


class AssistantMessage(_Identified):
    """A message of the model."""

    role: Literal["assistant"]
    content: NotRequired[str | None]
    toolCalls: NotRequired[Annotated[list[AgUiToolCall], Field(fail_fast=True)] | None]


class ToolMessage(_Identified):
    """The result of a tool."""

    role: Literal["tool"]
    toolCallId: str
    content: str | Annotated[list[ContentPart], Field(fail_fast=True)]
    error: NotRequired[str | None]


class ReasoningMessage(_Identified):
    """Reasoning of the model; ``encryptedValue`` is passed on unchanged."""

    role: Literal["reasoning"]
    content: str
    encryptedValue: NotRequired[str | None]


class ActivityMessage(_Identified):
    """Progress that is no part of the conversation: not read."""

    role: Literal["activity"]


Message = Annotated[
    Instruction | UserMessage | AssistantMessage | ToolMessage | ReasoningMessage | ActivityMessage,
    Field(discriminator="role"),
]


@documented_as("Tool")
@with_config(_OPEN)
class AgUiTool(TypedDict):
    """A tool that the application runs; ``parameters`` is a JSON schema."""

    name: Annotated[str, Field(min_length=1)]
    description: str
    parameters: NotRequired[dict[str, Any] | None]


@with_config(_OPEN)
class Context(TypedDict):
    """Context for the model, beside the conversation."""

    description: str
    value: str


class ForwardedProps(BaseModel):
    """The model and its parameters; anything else is the application's."""

    model_config = _OPEN

    model: schemas.ModelName = None
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="null: the model decides")
    temperature: float | None = Field(None, ge=0, le=schemas.MAX_TEMPERATURE)
    on_abandon: Literal["continue", "cancel"] | None = Field(
        None,
        description="cancel (default): a run without viewers is stopped after a grace; continue: it is not",
    )


class RunAgentInput(BaseModel):
    """A request to run an agent."""

    model_config = _OPEN

    threadId: Id
    runId: Id
    messages: list[Message] = Field(min_length=1, max_length=schemas.MAX_MESSAGES, fail_fast=True)
    tools: list[AgUiTool] | None = Field(None, max_length=schemas.MAX_TOOLS, fail_fast=True)
    context: list[Context] | None = Field(None, fail_fast=True)
    forwardedProps: ForwardedProps | None = None
    resume: list[Any] | None = None
