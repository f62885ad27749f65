"""What a stream amounts to: the result of a publication, and of ``Broadcaster.read``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from broadcaster.core.cursor import Cursor
from broadcaster.core.draft import Json
from broadcaster.core.events import FinishReason, ProviderMetadata
from broadcaster.core.fold import FoldState
from broadcaster.core.status import OVER, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """A stream, folded. ``text``, ``reasoning``, ``parts`` and ``usage`` are as ``core.fold.FoldState`` describes them.

    ``status`` is ``queued``, ``running``, ``finished``, ``failed`` (then ``error`` has its ``code`` and ``message``) or
    ``aborted`` (then ``abort_reason`` is ``stopped``, ``cancelled``, ``replaced``, …). ``cursor`` is the newest entry.
    ``is_whole`` is False when events are missing here: the stream was trimmed, or its log has expired.
    """

    id: str
    status: Status
    text: str
    reasoning: str
    parts: list[Json]
    usage: Json | None
    error: Json | None
    finish_reason: FinishReason | None
    abort_reason: str | None
    metadata: Json
    provider_metadata: ProviderMetadata
    cursor: Cursor | None
    is_whole: bool

    @property
    def is_over(self) -> bool:
        """Whether the stream has its terminal event."""
        return self.status in OVER

    @classmethod
    def of(cls, stream_id: str, state: FoldState, *, cursor: Cursor | None, is_whole: bool = True) -> StreamResult:
        """The result of a stream with this fold."""
        return cls(
            id=stream_id,
            status=state.status,
            text=state.text,
            reasoning=state.reasoning,
            parts=state.parts,
            usage=state.usage,
            error=state.error,
            finish_reason=state.finish_reason,
            abort_reason=state.abort_reason,
            metadata=state.metadata,
            provider_metadata=state.provider_metadata,
            cursor=cursor,
            is_whole=is_whole,
        )


OnEnd: TypeAlias = Callable[[StreamResult], Awaitable[object] | object]
"""Receives a publication's result once. A plain function runs in a thread, a coroutine function on the loop."""
