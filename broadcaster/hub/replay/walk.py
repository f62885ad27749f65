"""A transcript on its way through a room's stream (replay.py)."""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING

from broadcaster.core.entry import Entry
from broadcaster.dialects import Transcript
from broadcaster.hub.replay.checkpoints import DELTAS, Checkpoint
from broadcaster.hub.ring import Segment
from broadcaster.hub.stop_reasons import StopReason

if TYPE_CHECKING:
    from broadcaster.hub.replay.replay import Replay


class Walk:
    """A transcript on its way; it has encoded everything up to ``seq``. A ``PageReader``."""

    __slots__ = ("_replay", "encoded_bytes", "is_waiting", "page", "parts", "seq", "transcript")

    def __init__(self, replay: Replay, begin: Checkpoint) -> None:
        self._replay = replay
        self.transcript = begin.transcript.fork()
        self.seq = begin.seq
        self.encoded_bytes = begin.encoded_bytes
        self.parts = begin.parts
        self.page: Segment | None = None
        self.is_waiting = False  # for a page

    def encode(self, entries: list[Entry], *, is_kept: bool) -> tuple[bytes, array[int] | None]:
        """The frames of the next entries, and where each entry's end if they are to be kept."""
        for entry in entries:
            self.encoded_bytes += len(entry.event)
            self.parts += not entry.event.startswith(DELTAS)
        self.seq = entries[-1].seq
        return encode_entries(self.transcript, entries, is_kept=is_kept)

    def checkpoint(self) -> Checkpoint:
        """Where it stands."""
        return Checkpoint(self.seq, self.transcript.fork(), self.encoded_bytes, self.parts)

    def take_page(self, page: Segment) -> None:
        """The page that was requested."""
        self.page = page
        self.wake()

    def wake(self) -> None:
        """Continue, or request the page once more."""
        self.is_waiting = False
        self._replay.resume()

    def stop(self, reason: StopReason) -> None:
        """No page will come."""
        self.is_waiting = False
        self._replay.give_up(reason)


def encode_entries(transcript: Transcript, entries: list[Entry], *, is_kept: bool) -> tuple[bytes, array[int] | None]:
    if not is_kept:
        return transcript.encode(entries), None
    frames = [transcript.encode((entry,)) for entry in entries]
    return b"".join(frames), array("I", accumulate(map(len, frames)))
