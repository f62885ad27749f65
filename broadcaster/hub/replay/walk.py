"""A transcript on its way through a room's stream (replay.py).

At the live end most events are deltas whose frames are copied (dialects/delta_template.py). The transcript reads them
later, many at once, or as soon as it is needed: an event then touches a few objects instead of all that a transcript
has. With 1000 streams these have left the processor's caches since the last event.
"""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from broadcaster.core.entry import Entry
from broadcaster.dialects import Transcript
from broadcaster.dialects.delta_template import LONGEST_FRAMES, CopyableDelta, DeltaTemplate
from broadcaster.hub.replay.checkpoints import DELTAS, Checkpoint
from broadcaster.hub.ring import Segment
from broadcaster.hub.stop_reasons import StopReason

if TYPE_CHECKING:
    from broadcaster.hub.replay.replay import Replay


MOST_COPIED: Final = 64
"""So many events are copied in a row. Then one is encoded, and the replay counts what came (``Replay.chunk_next``)."""

MOST_TRIES: Final = 4
"""So many deltas in a row are tried as a template for the next ones of their part: some dialects have none."""


class Walk:
    """A transcript on its way; its frames were made up to ``seq``. A ``PageReader``."""

    __slots__ = (
        "_candidate",
        "_copied",
        "_encoded_seq",
        "_epoch",
        "_replay",
        "_template",
        "_transcript",
        "_tries",
        "encoded_bytes",
        "is_waiting",
        "page",
        "parts",
        "seq",
    )

    def __init__(self, replay: Replay, begin: Checkpoint) -> None:
        self._replay = replay
        self._transcript = begin.transcript.fork()
        self._template: DeltaTemplate | None = None
        self._candidate: DeltaTemplate | None = None  # learned, and not proved
        self._tries = 0  # how many were learned in a row for this part
        self._copied: list[bytes] = []  # which the transcript has not read
        self._epoch = 0  # theirs
        self.seq = self._encoded_seq = begin.seq
        self.encoded_bytes = begin.encoded_bytes
        self.parts = begin.parts
        self.page: Segment | None = None
        self.is_waiting = False  # for a page

    @property
    def transcript(self) -> Transcript:
        """It has encoded everything up to ``seq``."""
        if self._copied:
            copied, self._copied = self._copied, []
            self._transcript.encode(_entries(self._epoch, self.seq, copied))
            self.encoded_bytes += sum(map(len, copied))
        return self._transcript

    def encode(self, entries: list[Entry], *, is_kept: bool) -> tuple[bytes, array[int] | None]:
        """The frames of the next entries, and where each entry's end if they are to be kept."""
        transcript = self.transcript
        self._template = self._candidate = None
        self._tries = 0
        for entry in entries:
            self.encoded_bytes += len(entry.event)
            self.parts += not entry.event.startswith(DELTAS)
        self.seq = self._encoded_seq = entries[-1].seq
        return encode_entries(transcript, entries, is_kept=is_kept)

    def copy(self, epoch: int, last_seq: int, events: list[bytes]) -> bytes | None:
        """The frames of the next live events; None: ``encode_live`` makes them. The hot path."""
        template = self._template
        if template is None or last_seq - self._encoded_seq > MOST_COPIED:
            return None
        frames = template.frames(epoch, last_seq, events)
        if frames is not None:
            self._copied += events
            self._epoch, self.seq = epoch, last_seq
        return frames

    def encode_live(self, epoch: int, last_seq: int, events: list[bytes]) -> bytes:
        """The frames of the next live events. Those of later ones may then be copied."""
        template, candidate, tries = self._template, self._candidate, self._tries
        *others, last = _entries(epoch, last_seq, events)
        before = self.encode(others, is_kept=False)[0] if others else b""
        frames, _ = self.encode([last], is_kept=False)
        delta = CopyableDelta.read(last.event)
        if delta is None:
            return before + frames
        if template is not None and template.frames(epoch, last_seq, events) == before + frames:
            self._template = template
        elif candidate is not None and candidate.is_proved(last, delta, frames):
            self._template = candidate
        else:
            self._tries = tries + 1 if candidate is not None and candidate.learned_from.head == delta.head else 1
            if self._tries <= MOST_TRIES and len(frames) <= LONGEST_FRAMES:
                candidate = DeltaTemplate(last, delta, frames, number=self._transcript.last_number)
            self._candidate = candidate
        return before + frames

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


def _entries(epoch: int, last_seq: int, events: list[bytes]) -> list[Entry]:
    return [Entry(epoch, seq, event) for seq, event in enumerate(events, last_seq - len(events) + 1)]


def encode_entries(transcript: Transcript, entries: list[Entry], *, is_kept: bool) -> tuple[bytes, array[int] | None]:
    if not is_kept:
        return transcript.encode(entries), None
    frames = [transcript.encode((entry,)) for entry in entries]
    return b"".join(frames), array("I", accumulate(map(len, frames)))
