"""The dialect ``native`` for who comes late and wants no history: one ``hub.snapshot``, then events as ever.

    event: hub.snapshot
    id: <last entry in it>
    data: {"status", "attempt", "text", "reasoning", "parts", "usage", …}        core/fold.py says what they are

Its id is a cursor like any other: who reconnects goes on from there, without another snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.fold import Fold
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.sse import encode_frame
from broadcaster.dialects.native import NATIVE
from broadcaster.dialects.writing import Unnumbered

SNAPSHOT: Final = "hub.snapshot"
# The hub draws a pause for each native viewer; who is sent away from a snapshot comes again by its own.
_RETRY_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class NativeSnapshot:
    """See the module's head."""

    name: str = NATIVE.name
    heartbeat: bytes = NATIVE.heartbeat

    def open(self, stream_id: str) -> NativeTranscript:
        """A transcript that has heard nothing yet."""
        return NativeTranscript(stream_id, Fold(), START)


class NativeTranscript(Unnumbered):
    """Folds what it frames. ``last`` is the newest entry heard."""

    def __init__(self, stream_id: str, fold: Fold, last: Cursor) -> None:
        self._stream_id = stream_id
        self._fold = fold
        self._last = last

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """The native frames."""
        for entry in entries:
            self._fold.apply(entry.event)
        if entries:
            self._last = entries[-1].cursor
        return b"".join(map(NATIVE.frame, entries))

    def prelude(self) -> bytes:
        """The snapshot; nothing when nothing was heard."""
        if self._last == START:
            return b""
        return encode_frame(msgspec.json.encode(self._fold.state), event=SNAPSHOT, id=str(self._last))

    def fork(self) -> NativeTranscript:
        """Another one that stands where this one stands."""
        return NativeTranscript(self._stream_id, self._fold.fork(), self._last)

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """``hub.hello``."""
        return NATIVE.hello(self._stream_id, status=status, retry_ms=retry_ms)

    def gap(self, gap: Gap) -> bytes | None:
        """``hub.gap``."""
        return NATIVE.gap(gap)

    def discard(self, gap: Gap) -> bytes:
        """``hub.gap``; its id, behind which nothing was seen, leads to another snapshot."""
        return NATIVE.gap(gap)

    def stalled(self, reason: StallReason | None) -> bytes:
        """``hub.stalled``."""
        return NATIVE.stalled(reason)

    def bye(self, reason: str, *, reconnect: bool, last_number: int | None = None) -> bytes:
        """``hub.bye``."""
        return NATIVE.bye(reason, reconnect=reconnect, retry_ms=_RETRY_MS)


NATIVE_SNAPSHOT: Final = NativeSnapshot()
