"""The events of a Responses transcript: in order, numbered, and stored for late joiners.

Rules
1. Every event has a number of its own, from 0, rising by one, and further where a newer epoch begins (``rise``). It is
   a function of the entries: a snapshot does not change it, whenever it is made. Each event is one SSE block.
2. The opening and the events of the newest attempt are stored; the deltas of one part are stored as one, under the
   number of the last of them. So the stored events, in the order of their numbers, are a snapshot that a client can
   read, and their numbers are those of the whole stream.
3. The fields of an event are never changed after it was sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from broadcaster.core.forking import Forkable, Pieces
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import block

PartKey: TypeAlias = tuple[int, str, int]
"""The text that grows: its item's output index, its kind, and its place in the item."""

_NUMBERED: Final = re.compile(rb'event: [^\n]*\ndata: \{"type":"[^"]*","sequence_number":([0-9]+)[,}]')
"""The beginning of an event as ``_framed`` writes it. Compact JSON has no line breaks, so text never matches."""


class _LoggedEvent(NamedTuple):
    number: int
    type: str
    fields: Json


@dataclass(slots=True)
class _JoinedDeltas(Forkable):
    """The deltas of one part, as one; ``last`` has the number of the last, and names their place."""

    last: _LoggedEvent
    text: Pieces
    logprobs: list[Any] | None = None

    def kept(self) -> _LoggedEvent:
        more = {} if self.logprobs is None else {"logprobs": self.logprobs}
        return self.last._replace(fields={**self.last.fields, "delta": self.text.text, **more})


class EventLog(Forkable):
    """Append events; ``taken`` returns the frames since its last call."""

    __slots__ = ("_frames", "_grown", "_kept", "_next", "_opening")

    def __init__(self) -> None:
        self._next = 0
        self._frames: list[bytes] = []
        self._opening: list[_LoggedEvent] = []
        self._kept: list[_LoggedEvent] = []
        self._grown: dict[PartKey, _JoinedDeltas] = {}

    @property
    def last_number(self) -> int:
        """No event so far has a higher number, and every later one has; -1 before the first."""
        return self._next - 1

    def rise(self, number: int) -> None:
        """The next event has this number, or a higher one if this one is taken."""
        self._next = max(self._next, number)

    def append(self, type: str, fields: Json) -> None:
        """One event."""
        self._kept.append(_LoggedEvent(self._frame(type, fields), type, fields))

    def open(self, type: str, fields: Json) -> None:
        """An event that belongs to the opening, whatever attempt follows."""
        self._opening.append(_LoggedEvent(self._frame(type, fields), type, fields))

    def grow(
        self, key: PartKey, type: str, fields: Json, *, delta: str, text: Pieces, logprobs: list[Any] | None = None
    ) -> None:
        """A delta of ``text``, which its item holds and has appended it to; ``fields`` name its place."""
        more = {} if logprobs is None else {"logprobs": logprobs}
        last = _LoggedEvent(self._frame(type, {**fields, "delta": delta, **more}), type, fields)
        grown = self._grown.get(key)
        if grown is None:
            grown = self._grown[key] = _JoinedDeltas(last, text, None if logprobs is None else [])
        grown.last = last
        if grown.logprobs is not None and logprobs:
            grown.logprobs += logprobs

    def forget(self) -> None:
        """A new attempt begins: the stored events are void."""
        self._kept, self._grown = [], {}

    def taken(self) -> bytes:
        """The frames since the last call."""
        frames, self._frames = b"".join(self._frames), []
        return frames

    def snapshot(self) -> bytes:
        """Everything sent so far, for a late joiner (rule 2)."""
        kept = [*self._opening, *self._kept, *(grown.kept() for grown in self._grown.values())]
        return b"".join(_framed(*each) for each in sorted(kept, key=lambda each: each.number))

    def _frame(self, type: str, fields: Json) -> int:
        number = self._next
        self._next += 1
        self._frames.append(_framed(number, type, fields))
        return number


def frames_after(frames: bytes, number: int) -> bytes:
    """Of these frames, those of the events with higher numbers."""
    newer = (event.start() for event in _NUMBERED.finditer(frames) if int(event[1]) > number)
    return frames[next(newer, len(frames)) :]


def _framed(number: int, type: str, fields: Json) -> bytes:
    return block({"type": type, "sequence_number": number, **fields}, event=type)
