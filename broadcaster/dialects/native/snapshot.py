"""The dialect ``native`` for late joiners that want no history: one ``hub.snapshot``, then the events.

    event: hub.snapshot
    id: <last entry in it>
    data: {"status", "attempt", "text", "reasoning", "parts", "usage", …}        see core/fold.py

Its id is a cursor like any other: a client that reconnects continues from there, without another snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from broadcaster.core.cursor import START
from broadcaster.core.entry import Entry
from broadcaster.core.fold import Fold
from broadcaster.dialects.native.encode import NATIVE, NativeTranscript

SNAPSHOT: Final = "hub.snapshot"


@dataclass(frozen=True, slots=True)
class NativeSnapshot:
    """See the module's head."""

    name: ClassVar[str] = NATIVE.name
    heartbeat: ClassVar[bytes] = NATIVE.heartbeat

    def open(self, stream_id: str) -> FoldingTranscript:
        """See Dialect."""
        return FoldingTranscript(stream_id)


class FoldingTranscript(NativeTranscript):
    """Folds the entries that it encodes."""

    __slots__ = ("_fold", "_last")

    chunk_alone = None

    def __init__(self, stream_id: str) -> None:
        super().__init__(stream_id)
        self._fold = Fold()
        self._last = START

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """The native frames."""
        for entry in entries:
            self._fold.apply(entry.event)
        if entries:
            self._last = entries[-1].cursor
        return super().encode(entries)

    def snapshot(self) -> bytes:
        """``hub.snapshot``; nothing before the first entry."""
        if self._last == START:
            return b""
        return self._block(self._fold.state, event=SNAPSHOT, id=str(self._last))

    def live(self) -> bytes:
        """Nothing: the snapshot's viewers are live from the start."""
        return b""


NATIVE_SNAPSHOT: Final = NativeSnapshot()
