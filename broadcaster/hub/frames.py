"""Frames that viewers share: encoded once, counted once, and given to each transport in slices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from broadcaster.core.sse import http_chunk
from broadcaster.dialects import Transcript
from broadcaster.hub.ring import SLICE_BYTES, Ledger, Unsent

# How much later than its place a large snapshot is still sent: one segment more to read.
REUSED_ENTRIES: Final = 256

_NOTHING: Final = memoryview(b"")


class SharedFrames:
    """Frames as one HTTP chunk and without it, in the same memory.

    The ledger counts them from the first ``hold`` to the last ``release``.
    """

    __slots__ = ("_body", "_chunk", "_holders", "_ledger")

    def __init__(self, frames: bytes, *, ledger: Ledger) -> None:
        self._chunk = http_chunk(frames) if frames else b""
        begin = self._chunk.find(b"\n") + 1
        self._body = memoryview(self._chunk)[begin : begin + len(frames)]
        self._ledger = ledger
        self._holders = 0

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._chunk)

    def read(self, *, for_http: bool) -> bytes | memoryview:
        """All of it, as the driver writes it."""
        return self._chunk if for_http else self._body

    def hold(self) -> None:
        """One more reader."""
        self._holders += 1
        if self._holders == 1:
            self._ledger.add(len(self._chunk))

    def release(self) -> None:
        """A reader is done."""
        self._holders -= 1
        if not self._holders:
            self._ledger.add(-len(self._chunk))


@dataclass(slots=True, eq=False, repr=False)
class Outlet(ABC):
    """The part of a viewer that gives its driver frames in slices; other viewers may be reading them too."""

    _rest: memoryview = field(default=_NOTHING, init=False)
    _shared: SharedFrames | None = field(default=None, init=False)
    _unsent_bytes: int = field(default=0, init=False)

    @property
    @abstractmethod
    def _unsent(self) -> Unsent:
        """Counts what transports hold."""

    def note_unsent(self, count: int) -> None:
        """The driver's transport holds so many bytes that its client has not taken."""
        if count != self._unsent_bytes:
            self._unsent.add(count - self._unsent_bytes)
            self._unsent_bytes = count

    def _begin_slices(self, frames: bytes | memoryview, max_bytes: int) -> memoryview:
        """Begin these, and return their first bytes."""
        self._rest = memoryview(frames)
        return self._slice(max_bytes)

    def _slice(self, max_bytes: int) -> memoryview:
        """The next bytes."""
        piece, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return piece

    def _share(self, frames: SharedFrames, *, for_http: bool) -> bytes | memoryview:
        """Read these, and hold them until ``_let_go``."""
        if frames:
            self._let_go()
            frames.hold()
            self._shared = frames
        return frames.read(for_http=for_http)

    def _let_go(self) -> None:
        """What was shared has been taken."""
        if self._shared is not None:
            self._shared.release()
            self._shared = None

    def _take_no_more(self) -> None:
        """Nothing is taken any more."""
        self._rest = _NOTHING
        self._let_go()
        self.note_unsent(0)


class Snapshot(SharedFrames):
    """What a viewer gets in place of everything up to ``seq``."""

    __slots__ = ("epoch", "last_number", "seq")

    def __init__(self, frames: bytes, *, epoch: int, seq: int, transcript: Transcript, ledger: Ledger) -> None:
        super().__init__(frames, ledger=ledger)
        self.epoch, self.seq = epoch, seq
        self.last_number = transcript.last_number

    def serves(self, *, epoch: int, end_seq: int) -> bool:
        """Whether a viewer that joins at this end gets it: it is of this place, or large and near."""
        is_near = self.epoch == epoch and end_seq - REUSED_ENTRIES <= self.seq <= end_seq
        return self.seq == end_seq or (is_near and len(self) > SLICE_BYTES)


class Stretch(SharedFrames):
    """The frames of dense entries in one dialect, for all viewers that stand in them.

    ``span``: seqs of the first and the last. ``ends``: where each entry's frames end; None: no viewer can stand within
    them. ``last_number``, ``breaks_off``: those of the transcript that made them.
    """

    __slots__ = ("_ends", "breaks_off", "first_seq", "last_number", "last_seq")

    def __init__(
        self,
        frames: bytes,
        *,
        span: tuple[int, int],
        transcript: Transcript,
        ends: Sequence[int] | None,
        ledger: Ledger,
    ) -> None:
        super().__init__(frames, ledger=ledger)
        self.first_seq, self.last_seq = span
        self.last_number = transcript.last_number
        self.breaks_off = transcript.breaks_off
        self._ends = ends

    def http_after(self, seq: int) -> bytes:
        """The frames after an entry of the stretch, or after the one before it, as one HTTP chunk."""
        return self._chunk if seq < self.first_seq else self.tail(seq, for_http=True)

    def tail(self, after_seq: int, *, for_http: bool) -> bytes:
        """A copy of the frames after an entry of the stretch; of what is no entries, all."""
        frames = bytes(self._body if self._ends is None else self._body[self._ends[after_seq - self.first_seq] :])
        return http_chunk(frames) if frames and for_http else frames

    def after_number(self, number: int, transcript: Transcript, *, for_http: bool) -> bytes:
        """A copy of the events with higher numbers; ``transcript``: any of its dialect."""
        frames = transcript.frames_after(bytes(self._body), number)
        return http_chunk(frames) if frames and for_http else frames


class Stretches:
    """The stretches that were read last, at most ``max_bytes``: the oldest fall out.

    No stretch lies within another. So only the last stretch that begins at or before a seq can hold it.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._by_first: dict[int, Stretch] = {}  # the oldest first
        self._firsts: list[int] = []

    def find(self, seq: int) -> Stretch | None:
        """The one that holds this seq."""
        at = bisect_right(self._firsts, seq) - 1
        if at < 0:
            return None
        stretch = self._by_first[self._firsts[at]]
        return stretch if seq <= stretch.last_seq else None

    def add(self, stretch: Stretch) -> None:
        """One more. Those within it are dropped; it is not kept if another one holds all of it."""
        around = self.find(stretch.first_seq)
        if around is not None and stretch.last_seq <= around.last_seq:
            return
        self._drop(stretch.first_seq)
        begin, end = (bisect_right(self._firsts, seq) for seq in (stretch.first_seq, stretch.last_seq))
        for first in self._firsts[begin:end]:
            if self._by_first[first].last_seq <= stretch.last_seq:
                self._drop(first)
        insort(self._firsts, stretch.first_seq)
        self._by_first[stretch.first_seq] = stretch
        stretch.hold()
        self._bytes += len(stretch)
        while self._bytes > self._max_bytes and len(self._firsts) > 1:
            self._drop(next(iter(self._by_first)))

    def keep_through(self, seq: int) -> None:
        """Forget what holds entries after this one."""
        for first in [first for first, stretch in self._by_first.items() if stretch.last_seq > seq]:
            self._drop(first)

    def keep_only(self, stretches: Collection[Stretch]) -> None:
        """Forget all others."""
        for first in [first for first, stretch in self._by_first.items() if stretch not in stretches]:
            self._drop(first)

    def _drop(self, first_seq: int) -> None:
        stretch = self._by_first.pop(first_seq, None)
        if stretch is not None:
            del self._firsts[bisect_left(self._firsts, first_seq)]
            self._bytes -= len(stretch)
            stretch.release()
