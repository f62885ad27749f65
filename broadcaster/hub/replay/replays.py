"""All frame sources of one room: one for each dialect, and branches for viewers that miss entries others were sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from broadcaster.core.cursor import START
from broadcaster.core.events import ATTEMPT_PREFIX
from broadcaster.core.notices import Gap
from broadcaster.dialects import Dialect, Transcript
from broadcaster.hub.replay.replay import Replay
from broadcaster.hub.replay.sources import EntryFrames, FrameSource
from broadcaster.hub.stop_reasons import StopReason

if TYPE_CHECKING:
    from broadcaster.hub.room import Room


class _Branch(NamedTuple):
    dialect: Dialect
    gap: Gap
    replay: Replay


class Replays:
    """A source is opened for its first viewer, and lives as long as the room, unless memory is short."""

    __slots__ = ("_branches", "_by_dialect", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._by_dialect: dict[Dialect, FrameSource] = {}
        self._branches: list[_Branch] = []

    def of(self, dialect: Dialect) -> FrameSource:
        """The stream in this dialect, for all its viewers."""
        source = self._by_dialect.get(dialect)
        if source is None:
            chunk = dialect.open(self._room.public_id).chunk_alone
            source = Replay(self._room, dialect) if chunk is None else EntryFrames(self._room, dialect, chunk)
            self._by_dialect[dialect] = source
        return source

    def gap_frames(self, transcript: Transcript, gap: Gap) -> bytes | None:
        """The notice that entries are missing; None: this dialect has none.

        Where only an error is left of a stream, no notice is needed: the error itself means that there is no answer.
        Where only ``finish`` is left, no notice is enough: a torn answer would end as a whole one does.
        """
        if self.gap_reason(gap) is StopReason.EXPIRED:
            return None
        frames = transcript.gap(gap)
        return b"" if frames is None and gap.first_seq == 1 and self._end_after(gap) == "failed" else frames

    def head_gap_frames(self, transcript: Transcript, gap: Gap) -> bytes | None:
        """The same for the head, which has encoded what its viewers have: an attempt that follows voids all of that.

        A branch has not: it would send its viewers the new attempt without its error.
        """
        frames = self.gap_frames(transcript, gap)
        return b"" if frames is None and self._is_before_attempt(gap) else frames

    def gap_reason(self, gap: Gap) -> StopReason:
        """Why a viewer ends at a gap that has no frames."""
        return StopReason.EXPIRED if self._end_after(gap) == "finished" else StopReason.GAP

    def _is_before_attempt(self, gap: Gap) -> bool:
        """Whether the entry behind the gap, which is at hand, begins another attempt."""
        segment = self._room.find(gap.last_seq + 1)
        first = None if segment is None else segment.after(gap.last_seq)[0]
        return first is not None and first.seq == gap.last_seq + 1 and first.event.startswith(ATTEMPT_PREFIX)

    def _end_after(self, gap: Gap) -> str | None:
        """How the stream ended, if its end is all that is left behind the gap."""
        room = self._room
        return room.status if room.is_over and room.last_seq == gap.last_seq + 1 else None

    def notices(self, blank: Transcript, gaps: Sequence[Gap]) -> bytes:
        """What stands before a snapshot behind these gaps, under the id of the place where its transcript has begun."""
        at = gaps[0].at if gaps and gaps[0].first_seq == 1 else START
        notices = (self.gap_frames(blank.fork(), gap._replace(at=at)) for gap in gaps)
        return b"".join(frames or b"" for frames in notices)

    def branch(self, dialect: Dialect, seq: int, *, begin_seq: int) -> Replay | None:
        """Where viewers continue that have this seq; their way begins at ``begin_seq``, and meets a gap."""
        for known, gap, replay in self._branches:
            if known == dialect and begin_seq < gap.last_seq and gap.first_seq <= seq + 1:
                return replay
        return None

    def add_branch(self, dialect: Dialect, gap: Gap) -> None:
        """Entries that this dialect's replay has encoded are gone for the viewers behind it."""
        if self.branch(dialect, gap.first_seq - 1, begin_seq=gap.last_seq - 1) is None:
            self._branches.append(_Branch(dialect, gap, Replay(self._room, dialect, behind=gap)))

    def rewind(self, keep_seq: int) -> None:
        """What was after this seq is void."""
        for replay in self._all():
            replay.rewind(keep_seq)
        self._branches = [branch for branch in self._branches if branch.gap.last_seq <= keep_seq]

    def shed(self) -> None:
        """Release what can be made again."""
        for replay in self._all():
            replay.shed()
        self._by_dialect = {dialect: source for dialect, source in self._by_dialect.items() if source.users}
        self._branches = [branch for branch in self._branches if branch.replay.users]

    def close(self) -> None:
        """Release everything."""
        for replay in self._all():
            replay.dismiss()
        self._by_dialect.clear()
        self._branches.clear()

    def _all(self) -> list[Replay]:
        replays = (source.replay for source in self._by_dialect.values())
        return [*filter(None, replays), *(branch.replay for branch in self._branches)]
