"""The JSON of ``/v1/generations``: requests (strict, closed) and responses.

Strict: a number is never the string of one, and an unknown field is a fault, instead of being ignored silently. Values
that cannot be written as JSON were refused before (json_body.py).

Values that a body may hold by the ten thousand (messages, their parts) are TypedDicts: no object is built for them.
A list is left at its first fault, and only a few unknown fields are named: each fault costs as much as twenty values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator, with_config
from typing_extensions import TypedDict

from broadcaster.core.providers.model_routing import MAX_MODEL_CHARS
from broadcaster.core.requests.options import MAX_RETENTION_S
from broadcaster.core.requests.titles import TITLE_CHARS
from broadcaster.webhooks.url import MAX_URL_CHARS

MAX_IDEMPOTENCY_KEY_CHARS: Final = 256
# The characters of a header that need no encoding: printable ASCII.
IDEMPOTENCY_KEY: Final = r"^[\x20-\x7e]+$"
MAX_MESSAGES: Final = 10_000
MAX_TOOLS: Final = 256
# Anthropic and OpenAI models take at most this; beyond it the providers refuse anyway.
MAX_TEMPERATURE: Final = 2.0

ModelName = Annotated[
    str | None, Field(min_length=1, max_length=MAX_MODEL_CHARS, description="null: the server's default")
]
Status = Literal["queued", "running", "finished", "failed", "aborted"]


# A longer list of mistakes is not read by people.
MAX_UNKNOWN_FIELDS: Final = 20


class ResponseModel(BaseModel, defer_build=True):
    """A response, or a part of one. pydantic builds what writes it when it is first sent: a front-end starts sooner."""


_Schema = TypeVar("_Schema", bound=type)


def documented_as(name: str) -> Callable[[_Schema], _Schema]:
    """Give a class this name in the OpenAPI document: programs that are generated from the document use its names."""

    def rename(schema: _Schema) -> _Schema:
        schema.__name__ = schema.__qualname__ = name
        if issubclass(schema, BaseModel) and schema.__pydantic_complete__:
            schema.model_rebuild(force=True)
        return schema

    return rename


def few_unknown(body: Any, names: frozenset[str]) -> Any:
    """An object with at most ``MAX_UNKNOWN_FIELDS`` fields beside ``names``; anything else as it is."""
    if not isinstance(body, dict) or len(body) <= len(names) + MAX_UNKNOWN_FIELDS:
        return body
    unknown = [name for name in body if name not in names][:MAX_UNKNOWN_FIELDS]
    return {name: body[name] for name in (*unknown, *(names & body.keys()))}


class ClosedModel(BaseModel):
    """A body, or a part of one, without fields of other names."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, body: Any) -> Any:
        fields = cls.model_fields
        return few_unknown(body, frozenset(fields) | {field.alias or name for name, field in fields.items()})


@with_config(ConfigDict(strict=True, extra="allow"))
class ContentPart(TypedDict):
    """A part of a message in the provider's own shape: ``{"type": "text", "text": …}``, an image, a tool result."""

    type: Annotated[str, Field(min_length=1)]


@with_config(ConfigDict(strict=True, extra="forbid"))
class ChatMessage(TypedDict):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[ContentPart], Field(fail_fast=True)]


_MESSAGE_FIELDS: Final = frozenset(ChatMessage.__annotations__)
_Message = Annotated[ChatMessage, BeforeValidator(lambda message: few_unknown(message, _MESSAGE_FIELDS))]


@documented_as("WebhookWish")
class WebhookRequest(ClosedModel):
    """Notify a URL once the stream is over, however it ends, with or without viewers."""

    url: str = Field(min_length=1, max_length=MAX_URL_CHARS, description="https, on a host the operator has listed")
    events: list[Literal["finished", "failed", "aborted"]] | None = Field(
        None, min_length=1, max_length=3, description="the endings to notify of; without it all"
    )


class GenerationBody(ClosedModel):
    """A caller's request: one of ``prompt`` and ``messages``, everything else optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "Why is the sky blue?"},
                {
                    "model": "claude-sonnet-5-5",
                    "messages": [{"role": "user", "content": "Write a haiku about logs."}],
                    "max_tokens": 200,
                    "metadata": {"chat": "42"},
                },
            ]
        },
    )

    model: ModelName = None
    prompt: str | None = Field(None, min_length=1, description="one user message, for short")
    messages: list[_Message] | None = Field(None, min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    system: str | None = Field(None, description="the system prompt")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="null: the model decides")
    temperature: float | None = Field(None, ge=0, le=MAX_TEMPERATURE)
    tools: list[dict[str, Any]] | None = Field(
        None,
        max_length=MAX_TOOLS,
        fail_fast=True,
        description="in the provider's shape; `{\"name\": …}` alone is a tool of the workers'",
    )
    max_steps: int | None = Field(
        None, ge=1, le=1000, description="most provider calls when workers run tools; never more than the server's"
    )
    metadata: dict[str, Any] = Field(default_factory=dict, description="the caller's own; returned unchanged")
    on_worker_loss: Literal["retry", "fail"] = Field(
        "retry", description="fail: never restart an answer that has begun"
    )
    on_provider_loss: Literal["fail", "retry"] = Field(
        "fail", description="retry: restart the answer when the provider breaks it off"
    )
    priority: Literal["high", "normal", "low"] | None = Field(
        None,
        description="which of your waiting generations runs first; wins over the header `Broadcaster-Priority`; null: "
        "the header's, or normal",
    )
    on_abandon: Literal["continue", "cancel"] = Field(
        "continue", description="cancel: stop after the last viewer has left"
    )
    retention_s: float | None = Field(None, gt=0, le=MAX_RETENTION_S, description="how long the log is stored")
    webhook: WebhookRequest | None = Field(None, description="called once it is over, signed, until delivered")
    stream: bool | None = Field(
        None, description="true: respond with the stream; false: wait for the result; null: respond at once (202)"
    )

    @model_validator(mode="after")
    def _check_one_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("exactly one of prompt and messages is needed")
        return self

    def conversation(self) -> list[dict[str, Any]]:
        """The messages as plain JSON objects; a prompt is one user message."""
        if self.messages is None:
            return [{"role": "user", "content": self.prompt}]
        return [dict(message) for message in self.messages]


class GenerationFault(ResponseModel):
    """Why a generation failed: a stable code and a sentence for people."""

    code: str
    message: str


@documented_as("AnsweredBy")
class AnsweredByView(ResponseModel):
    """The provider of the answer, unless it is the first of the route, at its first try."""

    provider: str
    model: str
    tries: int = Field(description="requests to all providers together")


class WebhookView(ResponseModel):
    """The state of the delivery; ``skipped``: the webhook does not want this ending."""

    host: str
    state: Literal["pending", "delivered", "gave_up", "skipped"]
    attempts: int
    last_status: int | None = Field(description="the receiver's newest HTTP status")
    last_fault: str | None = Field(description="the reason why it is null, as a code")


class ListedGeneration(ResponseModel):
    """A generation in a list, without its request and answer. Times are Unix seconds."""

    id: str
    status: Status
    model: str
    title: str = Field(description=f"the beginning of the last user message, at most {TITLE_CHARS} characters")
    attempt: int = Field(description="from 1; 0 while it waits for a worker")
    created_at: float
    started_at: float | None
    ended_at: float | None
    stop_requested: bool
    viewers: int = Field(description="connected viewers, over all front-ends")
    last_id: str | None = Field(description="the cursor of the newest entry")
    last_seq: int
    events_url: str
    error: GenerationFault | None
    webhook: WebhookView | None


class GenerationState(ListedGeneration):
    """A generation in short: everything but the answer itself."""

    metadata: dict[str, Any]


class StoppedGeneration(ResponseModel):
    """The outcome of a stop, for a caller that may not watch the generation."""

    id: str
    status: Status
    stop_requested: bool
    events_url: str


class GenerationView(GenerationState):
    """A generation with its answer so far, folded from the log."""

    prompt: str = Field(description="the text of the last user message")
    usage: dict[str, Any] | None
    answered_by: AnsweredByView | None = Field(description="null: the first provider of the route, at its first try")
    provider_request_id: str | None = Field(description="the id that the provider gave to its newest request")
    text: str
    reasoning: str
    parts: list[dict[str, Any]]
    truncated: bool = Field(description="events of the content are gone: the log has expired or was trimmed")


@documented_as("GenerationList")
class GenerationPage(ResponseModel):
    """A page of the caller's generations, newest first."""

    generations: list[ListedGeneration]
    next_before: str | None = Field(description="`before` of the next page; null: this is the last one")


class Health(ResponseModel):
    """The process responds."""

    status: Literal["ok"]


class Readiness(ResponseModel):
    """Whether a balancer should send requests here, and the result of each check (``ok`` or the fault)."""

    ready: bool
    checks: dict[str, str]
