"""A dialect that sends nothing but what it has encoded, and a client that finds every mistake in that.

    data: ["snapshot", seq, sum]      data: [seq, sum]      data: ["gap", first, last]      data: ["bye", reason]
    data: ["discard", reason]             data: [delta]

``sum`` is a checksum of all events so far: a transcript that missed one, encoded one twice, or was shared with a viewer
at another place, has a wrong one in every frame that follows. With ``copies`` a delta's frame has its text alone, so
that a template can copy it; the client then makes the checksum itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.sse import SseDecoder, encode_frame
from broadcaster.dialects.writing import PlainTranscript, block

DELTA = b'{"type":"text-delta","id":"t","delta":'
"""How the deltas of tests/hub/support.py begin."""


@dataclass(frozen=True)
class TallyDialect:
    bears_gaps: bool = False
    begins_behind_gaps: bool = False  # it bears a gap before everything that it has encoded
    sends_every: int = 1  # it sends nothing for entries whose seq is no multiple of this
    copies: bool = False
    name: str = "tally"
    heartbeat: bytes = b":\n\n"

    def open(self, stream_id: str) -> TallyTranscript:
        return TallyTranscript(self)


@dataclass
class TallyTranscript(PlainTranscript):
    dialect: TallyDialect
    seq: int = 0
    sum: int = 0
    is_over: bool = False

    def encode(self, entries: Sequence[Entry]) -> bytes:
        frames = []
        for entry in entries:
            assert entry.seq == self.seq + 1, f"encoded {entry.cursor} after {self.seq}"
            self.seq, self.sum = entry.seq, crc32(entry.event, self.sum)
            self.is_over = entry.is_terminal
            if self.dialect.copies and entry.event.startswith(DELTA):
                frames.append(encode_frame(b"[%b]" % entry.event[len(DELTA) : -1], id=str(entry.cursor)))
            elif entry.seq % self.dialect.sends_every == 0 or entry.is_terminal:
                frames.append(block([self.seq, self.sum]))
        return b"".join(frames)

    def snapshot(self) -> bytes:
        assert not self.is_over
        return block(["snapshot", self.seq, self.sum]) if self.seq else b""

    def fork(self) -> TallyTranscript:
        return TallyTranscript(self.dialect, self.seq, self.sum, self.is_over)

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        return b": hello\n\n"

    def gap(self, gap: Gap) -> bytes | None:
        is_borne = self.dialect.bears_gaps or (self.dialect.begins_behind_gaps and not self.seq)
        self.seq = gap.last_seq
        return block(["gap", gap.first_seq, gap.last_seq]) if is_borne else None

    def discard(self, gap: Gap) -> bytes:
        return block(["discard", gap.reason])

    def stalled(self, reason: StallReason | None) -> bytes:
        return b""

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        return block(["bye", reason])


@dataclass
class TallyWitness:
    """A client of it. ``sums`` are the checksums by seq."""

    sends_every: int = 1
    last_seq: int = 0
    sums: dict[int, int] = field(default_factory=dict)
    snapshots: int = 0
    discards: int = 0  # how often it was made to drop its state
    gaps: list[tuple[int, int]] = field(default_factory=list)
    bye: str | None = None
    decoder: SseDecoder = field(default_factory=SseDecoder)

    def feed(self, chunk: bytes) -> None:
        for message in self.decoder.decode(chunk):
            assert self.bye is None, f"{message} after bye"
            self._take(json.loads(message.data))

    def _take(self, events: list[Any]) -> None:
        match events:
            case ["snapshot", int(seq), int(sum)]:
                assert not self.snapshots, "one snapshot, and nothing before it"
                assert not self.sums, "one snapshot, and nothing before it"
                self.snapshots += 1
                self.last_seq, self.sums[seq] = seq, sum
            case ["discard", str()]:
                assert not self.snapshots, "what a snapshot follows comes before it"
                self.sums.clear()
                self.last_seq = 0
                self.discards += 1
            case ["gap", int(first), int(last)]:
                self.gaps.append((first, last))
                self.last_seq = max(self.last_seq, last)
            case ["bye", str(reason)]:
                self.bye = reason
            case [str(text)]:
                self._count(text)
            case [int(seq), int(sum)]:
                next_seq = self.last_seq - self.last_seq % self.sends_every + self.sends_every
                assert self.last_seq < seq <= next_seq, f"{seq} after {self.last_seq}"
                self.last_seq, self.sums[seq] = seq, sum

    def _count(self, text: str) -> None:
        """A copied delta, whose text begins with its id."""
        seq = seq_in(text)
        assert seq == self.last_seq + 1, f"{seq} after {self.last_seq}"
        if seq == 1 or self.last_seq in self.sums:
            self.sums[seq] = crc32(b'%b"%b"}' % (DELTA, text.encode()), self.sums.get(self.last_seq, 0))
        self.last_seq = seq


def seq_in(text: str) -> int:
    """Of the delta's entry."""
    return int(text.rstrip("x").split("-")[1])


def sums_of(entries: Sequence[Entry]) -> dict[int, int]:
    """What a transcript sends for these entries, by seq."""
    events, total = {}, 0
    for entry in entries:
        total = crc32(entry.event, total)
        events[entry.seq] = total
    return events
