"""What transcripts share: blocks of SSE, the error of a lost attempt, and defaults of the protocol.

Rules of every dialect (measured: some client fails on each violation)
1. LF only; never an empty ``data``; never a block that holds ``retry`` or ``id`` alone.
2. An id, where a dialect has ids, stands on the last block of an entry: a client that has the id has the whole entry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from broadcaster.core.entry import Entry
from broadcaster.core.events import Abort, Attempt, Error, Finish
from broadcaster.core.forking import Forkable
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.sse import encode_frame, http_chunk

DONE: Final = b"data: [DONE]\n\n"

NEW_ATTEMPT: Final = "new_attempt"
"""The code of the error that a new attempt is, in a dialect that cannot take text back."""

_LOST: Final = {
    "worker_lost": "the worker that wrote this answer was lost",
    "provider_lost": "the provider of this answer broke off",
    "log_lost": "the server's storage lost a part of this answer",
}

TERMINAL: Final = (Finish, Error, Abort)
"""The terminal events, for ``isinstance``: a union would be made anew for each entry."""

_MOST_HEADS: Final = 256
_json: Final = msgspec.json.Encoder()


def block(data: Any, *, event: str | None = None, id: str | None = None, retry_ms: int | None = None) -> bytes:
    """One block: ``data`` as compact JSON on one line, under the event's name and the id where they are given."""
    encoded = _json.encode(data)
    # Nearly every block of an answer: JSON of ours has no line breaks, a client's that is repeated in it may have some.
    if id is None and retry_ms is None and b"\n" not in encoded and b"\r" not in encoded:
        return b"data: %b\n\n" % encoded if event is None else b"%bdata: %b\n\n" % (_event_head(event), encoded)
    return encode_frame(encoded, event=event, id=id, retry_ms=retry_ms)


@lru_cache(maxsize=_MOST_HEADS)
def _event_head(event: str) -> bytes:
    """The line that names an event. Raises BadFrame as ``encode_frame`` does."""
    return encode_frame(b"", event=event).removesuffix(b"data: \n\n")


def blocks(data: Sequence[Any], *, id: str | None) -> bytes:
    """One block for each, the last one under the id (rule 2)."""
    if len(data) == 1:  # nearly always
        return block(data[0], id=id)
    if not data:
        return b""
    *others, last = data
    return b"".join(map(block, others)) + block(last, id=id)


def loss_of(attempt: Attempt) -> str:
    """Why a response ends at this attempt, and what its client can do."""
    lost = _LOST.get(attempt.reason, _LOST["worker_lost"])
    return f"{lost} before its end; the text so far is void, and the same request may be sent again"


Chunker: TypeAlias = Callable[[int, int, list[bytes]], bytes | None]
"""Makes one HTTP chunk of the frames of events: their epoch, the seq of the last, and the events.

The events are dense, and none of them begins or ends an attempt. ``b""``: they have no frames. None: they must be
encoded another way.
"""


def chunker_of(frame: Callable[[int, int, bytes], bytes]) -> Chunker:
    """The chunker of a dialect that makes a frame out of an event's epoch, its seq and itself."""

    def chunk(epoch: int, last_seq: int, events: list[bytes]) -> bytes:
        if len(events) == 1:  # nearly always
            return http_chunk(frame(epoch, last_seq, events[0]))
        first_seq = last_seq - len(events) + 1
        return http_chunk(b"".join([frame(epoch, seq, event) for seq, event in enumerate(events, first_seq)]))

    return chunk


class PlainTranscript(Forkable):
    """Shared by the transcripts that do not number their events and continue after a new attempt.

    What they do not replace below is that of a wire without a place for the hub's notices.
    """

    __slots__ = ()

    chunk_alone: Chunker | None = None
    breaks_off: bool = False

    @property
    def last_number(self) -> int:
        """See Transcript.last_number."""
        return -1

    def expiring(self, expires_s: float) -> bytes:
        """See Transcript.expiring: nothing."""
        return b""

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """See Transcript.hello: none."""
        return b""

    def gap(self, gap: Gap) -> bytes | None:
        """See Transcript.gap: an incomplete answer cannot be marked, so its viewer is ended."""
        return None

    def resumes(self, seq: int, gap: Gap) -> bool:
        """See Transcript.resumes: frames need nothing of the ones before."""
        return True

    def stalled(self, reason: StallReason | None) -> bytes:
        """See Transcript.stalled: nothing."""
        return b""

    def live(self) -> bytes:
        """See Transcript.live: nothing."""
        return b""

    def frames_after(self, frames: bytes, number: int) -> bytes:
        """See Transcript.frames_after."""
        return frames


class EntryTranscript(PlainTranscript, ABC):
    """Shared by the transcripts that encode each entry by itself, and none after the terminal one.

    A client may hold entries of an attempt that were not encoded here, because they are gone from the log. They are
    void if the next attempt is known when it resumes (``resumes``). An attempt that begins later voids them by its
    frames, although this transcript may have nothing to take back (``_begin_attempt``).
    """

    _is_over: bool = False
    _attempt_seq: int = 0  # where the newest attempt begins
    _missing_seq: int = 0  # the last entry of the newest attempt that is missing here

    @abstractmethod
    def _read(self, entry: Entry, frames: list[bytes]) -> None:
        """Append the entry's frames. Sets ``_is_over`` at the end, ``breaks_off`` at an attempt that ends responses."""

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """See Transcript.encode."""
        frames: list[bytes] = []
        for entry in entries:
            self.breaks_off = False
            if not self._is_over:
                self._read(entry, frames)
        return b"".join(frames)

    def resumes(self, seq: int, gap: Gap) -> bool:
        """See Transcript.resumes."""
        return seq >= self._attempt_seq

    def _begin_attempt(self, seq: int) -> bool:
        """A new attempt begins here. Returns whether clients may hold entries of the one before that are missing here.

        If it stands right behind a gap, no client does: a cursor from before it was void when its client resumed.
        """
        is_unknown = 0 < self._missing_seq < seq - 1
        self._attempt_seq, self._missing_seq = seq, 0
        return is_unknown
