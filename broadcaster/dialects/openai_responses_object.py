"""The Response object: what it says beside its output.

Rules
1. ``created_at`` is the epoch of the first entry in seconds, unless the surface knows when the generation was created:
   all front-ends say the same.
2. What the provider tells of its response (service tier, truncation, …) is told again; what was asked for is not in the
   entries, so that it comes with the dialect's ``shown``, and wins.
3. The counts are the provider's own where the answer is one call of the Responses API, else ours in its words.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.dialects.openai_responses_words import PROVIDER
from broadcaster.dialects.reading import Json

RESPONSE_PREFIX: Final = "resp_"
CANCELLED: Final = "cancelled"

_DEFAULTS: Final[Json] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
}
_NOT_TOLD: Final = frozenset({"created_at", "requestId", "finishReason"})
"""What stays behind: when the provider began, and what is said elsewhere."""
_CHATS: Final = "created"
"""A field that chat completions have and Responses do not: what else they tell has no place here."""

_REASONS: Final = {"length": "max_output_tokens", "content-filter": "content_filter"}


def response_id(stream_id: str) -> str:
    """The Response's id."""
    return f"{RESPONSE_PREFIX}{stream_id}"


def stream_id_of(id: str) -> str:
    """The generation that a Response's id, or the generation's own, names."""
    return id.removeprefix(RESPONSE_PREFIX)


@dataclass(slots=True)
class Facts:
    """What is known of the response so far."""

    stream_id: str
    shown: Json
    created_at: int | None = None
    model: str | None = None
    told: Json = field(default_factory=dict)
    usage: Json | None = None
    native_usage: Json | None = None
    steps: int = 0

    @property
    def created_s(self) -> int:
        """When it was created (rule 1)."""
        shown = self.shown.get("created_at")
        return shown if isinstance(shown, int) else self.created_at or 0

    def fork(self) -> Facts:
        """Another one that knows the same."""
        return replace(self, told={**self.told})

    def begin_again(self) -> None:
        """A new attempt: what the last one told is void."""
        self.model, self.told, self.usage, self.native_usage, self.steps = None, {}, None, None, 0

    def take(self, metadata: ev.ProviderMetadata | None, message_metadata: Json | None = None) -> None:
        """What a start or an end tells."""
        told = (metadata or {}).get(PROVIDER, {})
        if _CHATS in told:
            told = {name: told[name] for name in ("service_tier",) if name in told}
        self.told |= {name: value for name, value in told.items() if name not in _NOT_TOLD}
        model = (message_metadata or {}).get("model")
        self.model = model if isinstance(model, str) else self.model

    def count(self, usage: ev.Usage) -> None:
        """The counts so far."""
        native = (usage.provider_metadata or {}).get(PROVIDER, {}).get("usage")
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
            **self.told,
            **self.shown,
            "model": self.model or self.shown.get("model") or "",
            "status": status,
            "error": error,
            "incomplete_details": why,
            "output": output,
            "usage": usage,
        }


def ending(
    reason: ev.FinishReason | None, metadata: ev.ProviderMetadata | None, *, is_refused: bool
) -> tuple[bool, Json | None]:
    """Whether an answer that ended so is complete, and if not, its ``incomplete_details``.

    A refusal that the model wrote is an answer; one by which a filter cut it off is none.
    """
    raw = next((extras[name] for extras in (metadata or {}).values() for name in _RAW if name in extras), None)
    if reason in (None, "stop", "tool-calls") or (reason == "content-filter" and is_refused and raw not in _FILTERED):
        return True, None
    told = _REASONS.get(str(reason), raw)
    return False, {"reason": told} if isinstance(told, str) else None


_RAW: Final = ("finishReason", "stopReason")
_FILTERED: Final = ("content_filter",)


def shown_of(shown: str) -> Json:
    """The facts of the request, out of a dialect's option."""
    facts: Any = msgspec.json.decode(shown) if shown else {}
    return facts if isinstance(facts, dict) else {}
