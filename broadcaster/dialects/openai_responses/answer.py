"""The Response object: its fields beside the output.

Rules
1. ``created_at`` is the epoch of the first entry in seconds, unless the surface knows when the generation was created:
   all front-ends send the same.
2. The fields that the provider reported of its response (service tier, truncation, …) are repeated. The fields of the
   request are not in the entries: they come with the dialect's ``echo``, and replace the provider's.
3. The counts are the provider's own where the answer is one call of the Responses API, else ours under its names.
4. Every field that the Open Responses specification requires is there: with the API's default where neither the caller
   nor the provider set it, and null only where the specification allows it. Clients with strict schemas refuse an
   object without one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable
from broadcaster.dialects.openai.wire import PROVIDER, extras_in
from broadcaster.dialects.reading import Json, member

RESPONSE_PREFIX: Final = "resp_"
CANCELLED: Final = "cancelled"

_DEFAULTS: Final[Json] = {
    "background": False,
    "completed_at": None,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
_PARTS: Final[Json] = {
    "reasoning": {"effort": None, "summary": None},
    "text": {"format": {"type": "text"}},
}
"""The fields of objects that rule 4 requires."""
_FUNCTION: Final[Json] = {"description": None, "parameters": None, "strict": False}
_SCHEMA: Final[Json] = {"description": None, "strict": False}
_NOT_REPEATED: Final = frozenset(
    {*("created_at", "requestId", "finishReason"), *("background", "previous_response_id", "store")}
)
"""Fields that are not repeated: the provider's start, fields with another place, and how it stores its response."""
_CHATS: Final = "created"
"""A field that chat completions have and Responses do not: the others beside it have no place here."""

_REASONS: Final = {"length": "max_output_tokens", "content-filter": "content_filter"}


def response_id(stream_id: str) -> str:
    """The Response's id."""
    return f"{RESPONSE_PREFIX}{stream_id}"


def stream_id_of(id: str) -> str:
    """The generation that a Response's id, or the generation's own, names."""
    return id.removeprefix(RESPONSE_PREFIX)


@dataclass(slots=True)
class Facts(Forkable):
    """The facts about the response so far."""

    stream_id: str
    echo: Json
    created_at: int | None = None
    model: str | None = None
    reported: Json = field(default_factory=dict)
    usage: Json | None = None
    native_usage: Json | None = None
    steps: int = 0

    @property
    def created_s(self) -> int:
        """When it was created (rule 1)."""
        echo = self.echo.get("created_at")
        return echo if isinstance(echo, int) else self.created_at or 0

    def restart(self) -> None:
        """A new attempt: the facts of the last one are void."""
        self.model, self.reported, self.usage, self.native_usage, self.steps = None, {}, None, None, 0

    def take(self, metadata: ev.ProviderMetadata | None, message_metadata: Json | None = None) -> None:
        """Take the metadata of a start or an end."""
        reported = (metadata or {}).get(PROVIDER, {})
        if _CHATS in reported:
            reported = {name: reported[name] for name in ("service_tier",) if name in reported}
        self.reported |= {name: value for name, value in reported.items() if name not in _NOT_REPEATED}
        model = (message_metadata or {}).get("model")
        self.model = model if isinstance(model, str) else self.model

    def count(self, usage: ev.Usage) -> None:
        """The counts so far."""
        native = extras_in(usage).get("usage")
        is_native = isinstance(native, dict) and "input_tokens" in native and not usage.estimated
        self.native_usage = native if is_native else None
        cached, written = usage.cached_input_tokens or 0, usage.cache_write_input_tokens or 0
        received, given = (usage.input_tokens or 0) + cached + written, usage.output_tokens or 0
        self.usage = {
            "input_tokens": received,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
            "output_tokens": given,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
            "total_tokens": received + given,
        }

    def response(self, status: str, output: list[Json], *, error: Json | None = None, why: Json | None = None) -> Json:
        """The Response with this output; ``why`` are its ``incomplete_details``."""
        usage = self.native_usage if self.native_usage is not None and self.steps <= 1 else self.usage
        return {
            "id": response_id(self.stream_id),
            "object": "response",
            **_DEFAULTS,
            "created_at": self.created_at or 0,
            **_whole({**self.reported, **self.echo}),
            "model": self.model or self.echo.get("model") or "",
            "status": status,
            "error": error,
            "incomplete_details": why,
            "output": output,
            "usage": usage,
        }


def _whole(facts: Json) -> Json:
    """The facts, with the fields that rule 4 requires of the objects in them."""
    whole = dict(facts)
    for name, required in _PARTS.items():
        if isinstance(given := facts.get(name), dict):
            whole[name] = {**required, **given}
    match whole.get("text"):
        case {"format": {"type": "json_schema", **schema}, **text}:
            whole["text"] = {**text, "format": {"type": "json_schema", **_SCHEMA, **schema}}
    if isinstance(tools := facts.get("tools"), list):
        whole["tools"] = [{**_FUNCTION, **tool} if member(tool, "type") == "function" else tool for tool in tools]
    return whole


def ending(
    reason: ev.FinishReason | None, metadata: ev.ProviderMetadata | None, *, is_refused: bool
) -> tuple[bool, Json | None]:
    """Whether an answer that ended so is complete, and if not, its ``incomplete_details``.

    A refusal that the model wrote completes the answer; a filter that cut it off does not.
    """
    raw = next((extras[name] for extras in (metadata or {}).values() for name in _RAW if name in extras), None)
    if reason in (None, "stop", "tool-calls") or (
        reason == "content-filter" and is_refused and raw != "content_filter"
    ):
        return True, None
    detail = _REASONS.get(str(reason), raw)
    return False, {"reason": detail} if isinstance(detail, str) else None


_RAW: Final = ("finishReason", "stopReason")


def parse_echo(echo: str) -> Json:
    """The facts of the request, out of a dialect's option."""
    facts: Any = msgspec.json.decode(echo) if echo else {}
    return facts if isinstance(facts, dict) else {}
