"""The JSON of ``/v1/generations``: what comes in (strict, closed) and what goes out.

Strict: a number is a number and never the string of one, and an unknown field is a fault, not a wish that is silently
ignored. What could not be written down as JSON again was refused before (json_body.py).

What a body may hold by the ten thousand (messages, their parts) is a TypedDict: no object is built for it. A list is
left at its first fault, and of unknown fields only a few are named: each fault costs as much as twenty values.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator, with_config
from typing_extensions import TypedDict

from broadcaster.core.titles import TITLE_CHARS
from broadcaster.core.webhook_url import MAX_URL_CHARS

MAX_IDEMPOTENCY_KEY_CHARS: Final = 256
# What a header may hold without anybody's encoding: printable ASCII.
IDEMPOTENCY_KEY: Final = r"^[\x20-\x7e]+$"
MAX_MODEL_CHARS: Final = 200
MAX_MESSAGES: Final = 10_000
MAX_TOOLS: Final = 256
# Anthropic and OpenAI models take at most this; beyond it the providers refuse anyway.
MAX_TEMPERATURE: Final = 2.0
MAX_RETENTION_S: Final = 30 * 86_400.0

Status = Literal["queued", "running", "finished", "failed", "aborted"]


# More are no longer a list of mistakes that a person reads.
MAX_UNKNOWN_FIELDS: Final = 20


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


class WebhookWish(ClosedModel):
    """Tell a URL when the generation is over, however it ends and whether or not somebody watches."""

    url: str = Field(min_length=1, max_length=MAX_URL_CHARS, description="https, on a host the operator has listed")
    events: list[Literal["finished", "failed", "aborted"]] | None = Field(
        None, min_length=1, max_length=3, description="which ends to tell; none given: all"
    )


class GenerationBody(ClosedModel):
    """What a caller asks for: one of ``prompt`` and ``messages``, everything else optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "Why is the sky blue?"},
                {
                    "model": "claude-sonnet-4-5",
                    "messages": [{"role": "user", "content": "Write a haiku about logs."}],
                    "max_tokens": 200,
                    "metadata": {"chat": "42"},
                },
            ]
        },
    )

    model: str | None = Field(None, min_length=1, max_length=MAX_MODEL_CHARS, description="none: the server's default")
    prompt: str | None = Field(None, min_length=1, description="one user message, for short")
    messages: list[_Message] | None = Field(None, min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    system: str | None = Field(None, description="the system prompt")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="none: as long as the model makes it")
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
    metadata: dict[str, Any] = Field(default_factory=dict, description="the caller's own; comes back untouched")
    on_worker_loss: Literal["retry", "fail"] = Field(
        "retry", description="fail: never begin an answer again that has begun"
    )
    on_provider_loss: Literal["fail", "retry"] = Field(
        "fail", description="retry: begin the answer again when the provider breaks it off"
    )
    on_abandon: Literal["continue", "cancel"] = Field(
        "continue", description="cancel: stop when nobody watches any more"
    )
    retention_s: float | None = Field(None, gt=0, le=MAX_RETENTION_S, description="how long the log is kept")
    webhook: WebhookWish | None = Field(None, description="called once it is over, signed, until it is taken")
    stream: bool | None = Field(
        None, description="true: answer with the stream at once; false: wait for the result; none: answer at once (202)"
    )

    @model_validator(mode="after")
    def _asks_one_way(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("exactly one of prompt and messages is needed")
        return self

    def conversation(self) -> list[dict[str, Any]]:
        """The messages as plain JSON objects; a prompt is one user message."""
        if self.messages is None:
            return [{"role": "user", "content": self.prompt}]
        return [dict(message) for message in self.messages]


class GenerationFault(BaseModel):
    """Why a generation failed: a stable code and a sentence for people."""

    code: str
    message: str


class AnsweredBy(BaseModel):
    """Who gave the answer, when it was not the first to be asked, at its first try."""

    provider: str
    model: str
    tries: int = Field(description="requests to all providers together")


class WebhookView(BaseModel):
    """How the telling goes: ``skipped`` is an end that was not asked for."""

    host: str
    state: Literal["pending", "delivered", "gave_up", "skipped"]
    attempts: int
    last_status: int | None = Field(description="the receiver's newest HTTP status")
    last_fault: str | None = Field(description="why there is none, as a code")


class ListedGeneration(BaseModel):
    """A generation in a list: how it stands, without what was asked and answered. Times are Unix seconds."""

    id: str
    status: Status
    model: str
    title: str = Field(description=f"the beginning of the last user message, at most {TITLE_CHARS} characters")
    attempt: int = Field(description="from 1; 0 while it waits for a worker")
    created_at: float
    started_at: float | None
    ended_at: float | None
    stop_requested: bool
    viewers: int = Field(description="connections that watch now, over all front-ends")
    last_id: str | None = Field(description="the cursor of the newest entry")
    last_seq: int
    events_url: str
    error: GenerationFault | None
    webhook: WebhookView | None


class GenerationState(ListedGeneration):
    """A generation in short: everything but the answer itself."""

    metadata: dict[str, Any]


class GenerationView(GenerationState):
    """A generation with its answer so far, folded from the log."""

    prompt: str = Field(description="the text of the last user message")
    usage: dict[str, Any] | None
    answered_by: AnsweredBy | None = Field(description="null: the first provider of the route, at its first try")
    text: str
    reasoning: str
    parts: list[dict[str, Any]]


class GenerationList(BaseModel):
    """A page of the caller's generations, newest first."""

    generations: list[ListedGeneration]
    next_before: str | None = Field(description="`before` of the next page; null: this is the last one")


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether a balancer should send requests here, and each check's answer (``ok`` or what is wrong)."""

    ready: bool
    checks: dict[str, str]
