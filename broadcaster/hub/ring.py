"""The newest entries of a room, in segments, and the chunks made of them.

Rules
1. A segment is a dense piece of the stream, at most 256 entries or 64 KiB with overhead (one larger entry is a segment
   of its own). It is written by one frame in most dialects' clients, evicted whole, and shared by all viewers.
2. A chunk is the joined frames from one place in a segment to its end, in one dialect, as they are or as one HTTP
   chunk. All viewers at the same place get the same bytes object; a segment remembers the last few chunks only.
3. Segments of a ring rise by seq. Where two do not touch, the entries between them are gone from the log.
4. A ledger counts all bytes held; the room and the hub compare it with their bounds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import ATTEMPT_PREFIX
from broadcaster.core.sse import http_chunk
from broadcaster.dialects import Transcript

SEGMENT_ENTRIES: Final = 256
SEGMENT_BYTES: Final = 64 * 2**10
# What an entry costs beside its event: a tuple, two ints, a bytes header, a place in a list. It is more than a native
# frame adds (54 bytes at most), so that the frames of a segment of several entries also fit SEGMENT_BYTES.
ENTRY_OVERHEAD_BYTES: Final = 160
# The newest turns of two or three dialects, or the places of a few stragglers.
REMEMBERED_CHUNKS: Final = 4
# The frames of a segment in one write; a smaller slice than the second costs more in calls than it saves.
SLICE_BYTES: Final = 64 * 2**10
SMALLEST_SLICE_BYTES: Final = 4 * 2**10

_first_seq: Final = attrgetter("first_seq")


def _cost(entry: Entry) -> int:
    return len(entry.event) + ENTRY_OVERHEAD_BYTES


class Ledger:
    """Bytes held, counted in the ledger above too."""

    __slots__ = ("_above", "bytes")

    def __init__(self, above: Ledger | None = None) -> None:
        self._above = above
        self.bytes = 0

    def add(self, count: int) -> None:
        """Count bytes taken up, or given back when negative."""
        ledger: Ledger | None = self
        while ledger is not None:
            ledger.bytes += count
            ledger = ledger._above


class Unsent(Ledger):
    """Bytes on their way to clients: in their transports, and in snapshots that they still read.

    ``viewers`` share half of ``max_bytes``: the more there are, the smaller the slices that their transports are given.
    """

    __slots__ = ("_shared_bytes", "viewers")

    def __init__(self, above: Ledger, *, max_bytes: int) -> None:
        super().__init__(above)
        self._shared_bytes = max_bytes // 2
        self.viewers = 0

    @property
    def slice_bytes(self) -> int:
        """The most that a transport is given at once."""
        return max(SMALLEST_SLICE_BYTES, min(SLICE_BYTES, self._shared_bytes // max(1, self.viewers)))


class Segment:
    """A dense piece of a stream and its latest chunks."""

    __slots__ = ("_chunk_bytes", "_chunks", "_entries", "_entry_bytes", "_events", "_ledger", "first_seq", "last_seq")

    def __init__(self, first: Entry, *, ledger: Ledger) -> None:
        self._entries = [first]
        self._events: list[tuple[Cursor, Sequence[bytes]]] = []  # behind the entries; see ``take_events``
        self.first_seq = self.last_seq = first.seq
        self._chunks: dict[tuple[Transcript, int, int, bool], bytes] = {}
        self._ledger: Ledger | None = ledger
        self._entry_bytes = 0
        self._chunk_bytes = 0
        self._count_entries(_cost(first))

    @property
    def before(self) -> Cursor:
        """The cursor of a viewer that has seen everything up to this segment."""
        return Cursor(self._entries[0].epoch, self.first_seq - 1)

    @property
    def entries(self) -> list[Entry]:
        """All of them, in order."""
        if self._events:
            for (epoch, first_seq), events in self._events:
                self._entries += [Entry(epoch, seq, event) for seq, event in enumerate(events, first_seq)]
            self._events.clear()
        return self._entries

    def take(self, entry: Entry) -> bool:
        """Add the entry if it continues this segment within its bounds."""
        _, seq, event = entry
        cost = len(event) + ENTRY_OVERHEAD_BYTES
        total = self._entry_bytes + cost
        if seq != self.last_seq + 1 or seq - self.first_seq >= SEGMENT_ENTRIES or total > SEGMENT_BYTES:
            return False
        self.entries.append(entry)
        self.last_seq = seq
        self._entry_bytes = total
        if self._ledger is not None:
            self._ledger.add(cost)
        return True

    def take_events(self, first: Cursor, events: Sequence[bytes]) -> bool:
        """Add the events of dense entries if they continue this segment, and all of them fit its bounds.

        Their entries are made when they are read: of a stream with live viewers alone, they never are.
        """
        last_seq, cost = first.seq + len(events) - 1, sum(map(len, events)) + ENTRY_OVERHEAD_BYTES * len(events)
        if first.seq != self.last_seq + 1 or last_seq - self.first_seq >= SEGMENT_ENTRIES:
            return False
        if self._entry_bytes + cost > SEGMENT_BYTES:
            return False
        self._events.append((first, events))
        self.last_seq = last_seq
        self._count_entries(cost)
        return True

    def append(self, entry: Entry) -> None:
        """Add the next entry, whatever the bounds."""
        self.entries.append(entry)
        self.last_seq = entry.seq
        self._count_entries(_cost(entry))

    def chunk(self, transcript: Transcript, *, after_seq: int, for_http: bool = False) -> bytes:
        """The frames after ``after_seq`` to the segment's end: one object for all viewers at the same place."""
        key = (transcript, after_seq, self.last_seq, for_http)
        chunk = self._chunks.get(key)
        if chunk is None:
            chunk = self._encode(transcript, after_seq, for_http=for_http)
            if len(self._chunks) >= REMEMBERED_CHUNKS:
                self._count_chunks(-len(self._chunks.pop(next(iter(self._chunks)))))
            self._chunks[key] = chunk
            self._count_chunks(len(chunk))
        return chunk

    def after(self, seq: int) -> list[Entry]:
        """The entries after ``seq``, as far as they are of one attempt. The entry that begins another is by itself."""
        if seq + 1 == self.last_seq:
            return self.entries[-1:]
        entries = self.entries[max(0, seq + 1 - self.first_seq) :]
        at = next((at for at, entry in enumerate(entries) if entry.event.startswith(ATTEMPT_PREFIX)), None)
        return entries if at is None else entries[: at or 1]

    def _encode(self, transcript: Transcript, after_seq: int, *, for_http: bool) -> bytes:
        frames = transcript.encode(self.entries[after_seq + 1 - self.first_seq :])
        return http_chunk(frames) if for_http and frames else frames

    def keep_through(self, seq: int) -> None:
        """Forget the entries after ``seq``; at least one must be left."""
        dropped = self.entries[seq + 1 - self.first_seq :]
        del self.entries[seq + 1 - self.first_seq :]
        self.last_seq = seq
        self._count_entries(-sum(map(_cost, dropped)))
        self.forget_chunks()

    def forget_chunks(self) -> None:
        """Release all chunks, which can be made again."""
        self._chunks.clear()
        self._count_chunks(-self._chunk_bytes)

    def release(self) -> None:
        """The holder lets go: viewers may still read the segment, which the ledger counts no more."""
        if self._ledger is not None:
            self._ledger.add(-self._entry_bytes - self._chunk_bytes)
            self._ledger = None

    def _count_entries(self, count: int) -> None:
        self._entry_bytes += count
        if self._ledger is not None:
            self._ledger.add(count)

    def _count_chunks(self, count: int) -> None:
        self._chunk_bytes += count
        if self._ledger is not None:
            self._ledger.add(count)


class Ring:
    """Segments, oldest first; the oldest fall out. It has no bound of its own: the room makes it drop."""

    __slots__ = ("_ledger", "_segments")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._segments: list[Segment] = []

    def __len__(self) -> int:
        """How many segments it holds."""
        return len(self._segments)

    @property
    def first_seq(self) -> int:
        """Seq of the oldest entry held; 0 when there is none."""
        return self._segments[0].first_seq if self._segments else 0

    def append(self, entry: Entry) -> None:
        """Add the newest entry. Its seq is above all others; where it jumps, the entries between are gone."""
        segments = self._segments
        if not segments or not segments[-1].take(entry):
            segments.append(Segment(entry, ledger=self._ledger))

    def extend(self, first: Cursor, events: Sequence[bytes]) -> None:
        """Add the events of dense entries, as ``append`` does each entry."""
        segments = self._segments
        if not segments or not segments[-1].take_events(first, events):
            for seq, event in enumerate(events, first.seq):
                self.append(Entry(first.epoch, seq, event))

    def find(self, seq: int) -> Segment | None:
        """The segment that holds ``seq``, or the next one if ``seq`` lies in a jump; None before and after the ring."""
        segments = self._segments
        if not segments:
            return None
        newest = segments[-1]
        if newest.first_seq <= seq:
            return newest if seq <= newest.last_seq else None
        at = bisect_right(segments, seq, key=_first_seq) - 1
        if at < 0:
            return None
        return segments[at] if seq <= segments[at].last_seq else segments[at + 1]

    def keep_through(self, seq: int) -> None:
        """Forget the entries after ``seq``."""
        while self._segments and self._segments[-1].first_seq > seq:
            self._segments.pop().release()
        if self._segments and self._segments[-1].last_seq > seq:
            self._segments[-1].keep_through(seq)

    def forget_chunks(self) -> None:
        """Forget the chunks of all segments but the newest, where the live viewers are."""
        for segment in self._segments[:-1]:
            segment.forget_chunks()

    def drop_oldest(self) -> None:
        """Forget the oldest segment."""
        self._segments.pop(0).release()

    def clear(self) -> None:
        """Forget everything."""
        while self._segments:
            self._segments.pop().release()
