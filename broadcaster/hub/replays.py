"""All replays of one room: one for each dialect, and branches for viewers that miss what the others have heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from broadcaster.core.notices import Gap
from broadcaster.dialects import Dialect, Transcript
from broadcaster.hub.replay import Replay

if TYPE_CHECKING:
    from broadcaster.hub.room import Room


class _Branch(NamedTuple):
    dialect: Dialect
    gap: Gap
    replay: Replay


class Replays:
    """They are opened when a viewer asks for them, and live as long as the room, unless memory is short."""

    __slots__ = ("_branches", "_by_dialect", "_room")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._by_dialect: dict[Dialect, Replay] = {}
        self._branches: list[_Branch] = []

    def of(self, dialect: Dialect) -> Replay:
        """The stream in this dialect, for all its viewers."""
        replay = self._by_dialect.get(dialect)
        if replay is None:
            replay = self._by_dialect[dialect] = Replay(self._room, dialect)
        return replay

    def gap_frames(self, transcript: Transcript, gap: Gap) -> bytes | None:
        """What says that entries are missing; None: this dialect has no such message.

        An error that is all that is left of a stream needs none: it says that there is no answer.
        """
        room, told = self._room, transcript.gap(gap)
        is_error_left = room.is_over and room.status == "failed" and room.last_seq == gap.last_seq + 1
        return b"" if told is None and gap.first_seq == 1 and is_error_left else told

    def branch(self, dialect: Dialect, seq: int) -> Replay | None:
        """Where viewers go on that wait for this seq, which is gone."""
        for known, gap, replay in self._branches:
            if known == dialect and gap.first_seq <= seq <= gap.last_seq:
                return replay
        return None

    def add_branch(self, dialect: Dialect, gap: Gap) -> None:
        """Entries that this dialect's replay has heard are gone for the viewers that have not."""
        if self.branch(dialect, gap.last_seq) is None:
            self._branches.append(_Branch(dialect, gap, Replay(self._room, dialect, behind=gap)))

    def rewind(self, keep_seq: int) -> None:
        """What was after this seq is void."""
        for replay in self._all():
            replay.rewind(keep_seq)
        self._branches = [branch for branch in self._branches if branch.gap.last_seq <= keep_seq]

    def shed(self) -> None:
        """Give back what can be made again."""
        for replay in self._all():
            replay.shed()
        self._by_dialect = {dialect: replay for dialect, replay in self._by_dialect.items() if replay.users}
        self._branches = [branch for branch in self._branches if branch.replay.users]

    def close(self) -> None:
        """Give everything back."""
        for replay in self._all():
            replay.dismiss()
        self._by_dialect.clear()
        self._branches.clear()

    def _all(self) -> list[Replay]:
        return [*self._by_dialect.values(), *(branch.replay for branch in self._branches)]
