"""What all chunks of a chat answer share, its counts, and how it ended: our facts → the fields of the wire.

Rules
1. ``id``, ``created``, ``model`` and ``service_tier`` are those of the first start and stay from the first chunk on,
   because clients take them from there. ``id`` and ``created`` are the provider's own where the provider speaks this
   wire. Else the id is made from the stream's, and ``created`` is the second in which the stream's first epoch was
   granted.
2. ``system_fingerprint`` is the newest known, in every chunk: the SDK keeps the last.
3. ``prompt_tokens`` includes the tokens read from a cache and written to it, which we count apart. A provider's own
   counts are sent as they came if they agree with ours: those of a loop of calls do not.
4. A finish reason that the wire does not know is sent as ``stop``: typed clients fail on unknown values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable
from broadcaster.dialects.openai.wire import PROVIDER, extras_in
from broadcaster.dialects.openai_chat.wire import FINISH_REASONS
from broadcaster.dialects.reading import Json, token_count

CHUNK: Final = "chat.completion.chunk"
COMPLETION: Final = "chat.completion"

_TIER: Final = "service_tier"
_FINGERPRINT: Final = "system_fingerprint"
_MS: Final = 1000
_OTHER_WIRE: Final = "resp_"
_STOP: Final = "stop"
_REASONS: Final[dict[ev.FinishReason, str]] = {
    "stop": _STOP,
    "length": "length",
    "content-filter": "content_filter",
    "tool-calls": "tool_calls",
}


@dataclass(slots=True)
class Head(Forkable):
    """Rules 1 and 2; ``epoch`` is that of the stream's first entry."""

    stream_id: str
    epoch: int
    id: str | None = None
    created: int | None = None
    model: str | None = None
    extras: Json = field(default_factory=dict)

    def take(self, event: ev.Start | ev.FinishStep | ev.Finish, *, has_begun: bool) -> None:
        """Take the event's facts about the whole answer; ``has_begun``: a chunk has been sent."""
        extras = extras_in(event)
        if isinstance(event, ev.Start) and self.model is None and not has_begun:
            self._take_start(event, extras)
        names = (_FINGERPRINT,) if has_begun else (_TIER, _FINGERPRINT)
        self.extras |= {name: extras[name] for name in names if isinstance(extras.get(name), str)}

    def _take_start(self, event: ev.Start, extras: Json) -> None:
        model = (event.message_metadata or {}).get("model")
        self.model = model if isinstance(model, str) else ""
        if PROVIDER in (event.provider_metadata or {}):
            created, id = extras.get("created"), event.message_id
            self.created = int(created) if isinstance(created, int | float) and created > 0 else None
            self.id = id if id is not None and not id.startswith(_OTHER_WIRE) else None

    def fields(self, object: str) -> Json:
        """The fields in front of ``choices``."""
        return {
            "id": self.id or f"chatcmpl-{self.stream_id}",
            "object": object,
            "created": self.epoch // _MS if self.created is None else self.created,
            "model": self.model or "",
            **self.extras,
        }


def finish_reason(event: ev.Finish, last_step: ev.FinishReason | None) -> str:
    """Rule 4. The provider's own reason is sent if it has one: it may be finer than ours."""
    raw = extras_in(event).get("finishReason")
    if isinstance(raw, str) and raw in FINISH_REASONS:
        return raw
    reason = event.finish_reason or last_step
    return _REASONS.get(reason, _STOP) if reason is not None else _STOP


def usage_of(event: ev.Usage) -> Json:
    """Rule 3."""
    read, written = event.cached_input_tokens, event.cache_write_input_tokens
    prompt = (event.input_tokens or 0) + (read or 0) + (written or 0)
    completion = event.output_tokens or 0
    own = extras_in(event).get("usage")
    if isinstance(own, dict) and _agrees(own, prompt, completion):
        return dict(own)
    counts: Json = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": _known(cached_tokens=read, cache_write_tokens=written),
        "completion_tokens_details": _known(reasoning_tokens=event.reasoning_tokens),
    }
    return {name: value for name, value in counts.items() if value is not None}


def _agrees(own: Json, prompt: int, completion: int) -> bool:
    reported = [token_count(own.get(name)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    return reported[:2] == [prompt, completion] and reported[2] is not None


def _known(**counts: int | None) -> Any:
    return {name: count for name, count in counts.items() if count is not None} or None
