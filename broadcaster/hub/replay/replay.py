"""A room's stream in a dialect that depends on earlier entries: encoded once for all its viewers.

Rules
1. An entry's frames depend only on the entries before it, so all viewers of equal dialects are sent the same frames. A
   viewer has no transcript: it has a cursor, and reads the frames after it here.
2. The head is the one transcript that goes through the room from its first entry to its end, moved by the viewers at
   the same place, by those that need a snapshot, and by the live group. It leaves checkpoints behind.
3. A viewer before the head reads a stretch that is kept, or waits for the sweep: a second transcript, which begins at
   the checkpoint before the first waiting viewer and serves all that it passes, in rounds through the stream. So the
   work grows with the rounds, and not with the viewers.
4. Both advance by one segment in a turn's piece of work (``Turns``).
5. A snapshot is made once for its place. A large one also serves viewers up to ``REUSED_ENTRIES`` later in its attempt.
   A small one costs little to make again: it is forgotten when a crowd that came together has it. The notices of gaps
   come first: a client that is cut behind them holds nothing, and their id must not promise entries of the snapshot.
6. Only a fork of the head encodes the terminal event: late viewers get a snapshot of what was before it.
7. Where the sweep finds that entries behind the head are gone, its viewers continue in a replay of their own, whose
   head begins there: the head of this one has encoded what they miss. A viewer that has those entries misses none, but
   its frames cannot be made here any more: it continues there, too, where it stands. If its dialect cannot resume there
   (``void_by``), it is ended.
8. A viewer that knows only an event's number begins at the checkpoint before it, and leaves out what it has seen.
9. Stretches, snapshots and checkpoints are counted in the hub's ledger. ``shed`` releases what can be made again, but
   no stretch that viewers were woken for and have not read: they would wait for it once more, and so for ever.
10. Where the dialect cannot express a gap that the head meets, the head begins anew behind it, for viewers that have
    nothing yet. Those that have a part from before it are ended. If the dialect has no such beginning, all are ended.
"""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING, Final

from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap
from broadcaster.core.sse import http_chunk
from broadcaster.dialects import Dialect, Transcript
from broadcaster.hub.frames import Snapshot, Stretch, Stretches
from broadcaster.hub.pages import PageReader
from broadcaster.hub.replay.checkpoints import Checkpoint, Checkpoints, NumberedPlace
from broadcaster.hub.replay.sources import Chunk
from broadcaster.hub.replay.waiting import WaitingViewers
from broadcaster.hub.replay.walk import Walk, encode_entries
from broadcaster.hub.ring import SEGMENT_ENTRIES, SLICE_BYTES, Segment
from broadcaster.hub.stop_reasons import StopReason

if TYPE_CHECKING:
    from broadcaster.hub.room import Room

# Seconds that a small snapshot is kept. Thousands of quiet streams would keep theirs (Responses: 4 KB of a text of 2).
SMALL_KEPT_S: Final = 0.25
# Of a room's bytes: the checkpoints may hold one in so many.
CHECKPOINT_SHARE: Final = 8


class Replay:
    """See the module's rules; a ``FrameSource``."""

    def __init__(self, room: Room, dialect: Dialect, *, behind: Gap | None = None) -> None:
        """``behind``: entries that are gone, after which this replay begins (rule 7)."""
        self.dialect = dialect
        self.blank = dialect.open(room.public_id)
        self.users = 0
        self._room = room
        self._gaps: list[Gap] = []  # that the head has met
        base = Checkpoint(0, self.blank)
        self.gap_frames: bytes | None = b""
        self.gap_reason = StopReason.GAP  # why a viewer ends that meets it without frames
        if behind is not None:
            base = Checkpoint(behind.last_seq, self.blank.fork())
            self.gap_frames = room.replays.gap_frames(base.transcript, behind)
            self.gap_reason = room.replays.gap_reason(behind)
            self._gaps.append(behind)
        max_bytes = room.limits.room_bytes
        self._checkpoints = Checkpoints(ledger=room.unsent, max_bytes=max_bytes // CHECKPOINT_SHARE)
        self._stretches = Stretches(max_bytes=max_bytes)
        self._snapshot: Snapshot | None = None
        self._bases = [base]  # and behind each gap, before which no way begins
        self._head = Walk(self, base)
        self._sweep: Walk | None = None
        self._counted = 0
        self._waiting = WaitingViewers(room.turns)
        self._is_due = self._is_dismissed = False

    # -- called by viewers

    @property
    def begin_seq(self) -> int:
        """The seq behind which it begins."""
        return self._bases[0].seq

    @property
    def replay(self) -> Replay:
        """See FrameSource."""
        return self

    def read(self, viewer: PageReader, after_seq: int, *, for_http: bool = False) -> Stretch | Replay | None:
        """See FrameSource. A Stretch holds its frames in both forms."""
        stretch = self._stretches.find(after_seq + 1)
        if stretch is None and after_seq == self._head.seq and not self._head.is_waiting:
            stretch = self._advance(is_kept=True)
        if stretch is not None:
            return stretch
        if after_seq < self.begin_seq:  # rule 10; not within this call: the viewer may be being pulled
            asyncio.get_running_loop().call_soon(viewer.stop, StopReason.GAP)
            return None
        branch = self._branch_at(after_seq)
        if branch is None:
            self._waiting.add(viewer, after_seq)
            self.resume()
        return branch

    def chunk_next(self, epoch: int, last_seq: int, events: list[bytes]) -> bytes | None:
        """See FrameSource. None where the head is elsewhere."""
        head = self._head
        if head.seq != last_seq - len(events):
            return None
        frames = head.copy(epoch, last_seq, events)
        if frames is None:
            frames = head.encode_live(epoch, last_seq, events)
            self._note_advance()
        return http_chunk(frames) if frames else b""

    def read_live(self, segment: Segment, after_seq: int, *, is_kept: bool) -> Chunk | None:
        """See FrameSource. None where the attempt of all members was lost, and the dialect ends their responses."""
        head = self._head
        if after_seq == head.seq and not is_kept and not self._room.is_over:
            # Nearly always: no other viewer reads these frames, so they need no stretch.
            frames, _ = head.encode(segment.after(after_seq), is_kept=False)
            self._note_advance()
            return None if head.transcript.breaks_off else (http_chunk(frames) if frames else b"", head.seq)
        stretch = self._stretches.find(after_seq + 1)
        if stretch is None and after_seq == head.seq:
            stretch = self._advance(is_kept=is_kept)
        if stretch is None or stretch.breaks_off:
            return None
        return stretch.http_after(after_seq), stretch.last_seq

    def snapshot(self, viewer: PageReader) -> Snapshot | None:
        """The snapshot for a late joiner; None: ``viewer`` is woken when it is there, or stopped."""
        made, end = self._snapshot, self._end
        if made is not None and made.serves(epoch=self._room.epoch, end_seq=end):
            return made
        if not self.reach_end(viewer):
            return None
        self._forget_snapshot()
        transcript = self._head.transcript.fork()  # a snapshot joins the text, which the head shares with checkpoints
        frames = self._room.replays.notices(self.blank, self._gaps) + transcript.snapshot()
        made = Snapshot(frames, epoch=self._room.epoch, seq=end, transcript=transcript, ledger=self._room.unsent)
        made.hold()
        self._snapshot = made
        if len(made) <= SLICE_BYTES:
            asyncio.get_running_loop().call_later(SMALL_KEPT_S, self._forget_snapshot, made)
        self._room.note_growth()
        return made

    @property
    def transcript(self) -> Transcript:
        """The head's."""
        return self._head.transcript

    def reach_end(self, viewer: PageReader) -> bool:
        """See FrameSource: whether the head is at the room's end. A crowd shares one step."""
        if self._head.seq < self._end and not self._is_due and not self._head.is_waiting:
            self._advance(is_kept=False)
        if self._head.seq >= self._end:
            return True
        self._waiting.late[viewer] = None
        self.resume()
        return False

    def has_reached(self, viewer: PageReader, seq: int) -> bool:
        """Whether ``void_by`` is known for this seq; else ``viewer`` is woken when it may be, or stopped."""
        if seq >= self._end:
            return self.reach_end(viewer)
        return seq < self.begin_seq or self.read(viewer, seq) is not None

    def begins_behind(self, seq: int) -> bool:
        """Whether the head has encoded nothing up to this seq; known as ``void_by`` is."""
        return any(gap.first_seq == 1 and seq <= gap.last_seq for gap in self._gaps)

    def void_by(self, seq: int) -> Gap | None:
        """The gap that prevents a client with this seq from reading on here (``Transcript.resumes``), if any."""
        branch = self._branch_at(seq)
        # A gap behind this seq is met on the way. A branch begins anew behind its gap, whatever the client holds.
        before, gaps = (seq, self._gaps) if branch is None else (seq + 1, branch._gaps)
        gap = next((gap for gap in gaps if seq and gap.first_seq <= before), None)
        return gap if gap and (seq < self.begin_seq or not self._head.transcript.resumes(seq, gap)) else None

    def find_number(self, viewer: PageReader, number: int) -> NumberedPlace | None:
        """Where a viewer begins that has seen the events up to this one (rule 8); None: it is woken, or stopped."""
        if number > self._head.transcript.last_number and not self.reach_end(viewer):
            return None
        seq, newest = self._head.seq, self._head.transcript.last_number
        if number < newest:
            kept = self._checkpoints.nearest_number(number) or self._bases[0]
            return NumberedPlace(kept.seq, kept.transcript.last_number, newest=newest)
        if number == newest or not self._room.is_over:
            return NumberedPlace(seq, newest, newest=newest)
        end = self.read(viewer, seq)
        return NumberedPlace(seq, newest, newest=end.last_number) if isinstance(end, Stretch) else None

    def last_number_at(self, seq: int) -> int:
        """The number of the newest event up to here, as far as it is known."""
        stretch = None if self._head.seq == seq else self._stretches.find(seq)
        return (self._head.transcript if stretch is None else stretch).last_number

    # -- called by the room

    def rewind(self, keep_seq: int) -> None:
        """What was after this seq is void: a transcript cannot go back, but restart at a checkpoint."""
        self._checkpoints.keep_through(keep_seq)
        self._stretches.keep_through(keep_seq)
        self._waiting.keep_through(keep_seq)
        self._gaps = [gap for gap in self._gaps if gap.last_seq <= keep_seq]
        self._sweep = None
        self._head.page = None  # it may hold what is void
        if self._snapshot is not None and self._snapshot.seq > keep_seq:
            self._forget_snapshot()
        if self._head.seq > keep_seq:
            self._bases = [base for base in self._bases if base.seq <= keep_seq] or [Checkpoint(0, self.blank)]
            self._head = Walk(self, self._nearest(keep_seq))
            self._count()
        self.resume()

    def shed(self) -> None:
        """Release what can be made again."""
        self._stretches.keep_only(self._waiting.unread)
        self._forget_snapshot()
        if not self.users:
            self._checkpoints.clear()
            del self._bases[1:]
            self._sweep, self._head = None, Walk(self, self._bases[0])
            del self._gaps[self.begin_seq > 0 :]  # not the one behind which it begins
            self._count()

    def dismiss(self) -> None:
        """Release everything, and serve no viewer any more."""
        self._is_dismissed = True
        self.users = 0
        self._waiting.clear()
        self.shed()

    # -- on the way

    def resume(self) -> None:
        """Continue in a turn to come, if a viewer waits."""
        if self._waiting and not self._is_due and not self._is_dismissed:
            self._is_due = True
            self._room.turns.add(self._go_on)

    def give_up(self, reason: StopReason) -> None:
        """Nothing will come for the viewers that wait."""
        self._waiting.stop(reason)

    @property
    def _end(self) -> int:
        return self._room.last_seq - self._room.is_over

    def _go_on(self) -> None:
        """Rule 4."""
        self._is_due = False
        head, waiting = self._head, self._waiting
        has_moved = False
        if (waiting.late or any(seq >= head.seq for seq in waiting.at)) and not head.is_waiting:
            is_kept = any(head.seq <= seq < head.seq + SEGMENT_ENTRIES for seq in waiting.at)
            has_moved = self._advance(is_kept=is_kept) is not None
        behind = [seq for seq in waiting.at if seq < self._head.seq]
        if behind:
            has_moved = self._sweep_on(behind) or has_moved
        if waiting.late and self._head.seq >= self._end:
            waiting.wake_late()
            has_moved = True
        if has_moved:
            self.resume()

    def _advance(self, *, is_kept: bool) -> Stretch | None:
        """The head's next stretch."""
        stretch = self._step(self._head, is_kept=is_kept)
        if stretch is not None:
            self._note_advance()
        return stretch

    def _note_advance(self) -> None:
        """The head has moved on."""
        if self._checkpoints.is_due(self._head.seq):
            self._checkpoints.add(self._head.checkpoint())
            self._room.note_growth()
        self._count()

    def _sweep_on(self, places: list[int]) -> bool:
        """Rule 3, by one step; whether it has moved."""
        sweep = self._sweep
        goal = min((seq for seq in places if sweep is not None and seq >= sweep.seq), default=None)
        if goal is None:
            goal, sweep = min(places), None
        nearest = self._nearest(goal)
        if sweep is None or nearest.seq > sweep.seq:
            sweep = self._sweep = Walk(self, nearest)
        return not sweep.is_waiting and self._step(sweep, is_kept=goal < sweep.seq + SEGMENT_ENTRIES) is not None

    def _nearest(self, seq: int) -> Checkpoint:
        """Where the way to this seq begins."""
        base = next((base for base in reversed(self._bases) if base.seq <= seq), self._bases[0])
        kept = self._checkpoints.nearest(seq)
        return base if kept is None or kept.seq < base.seq else kept

    def _step(self, walk: Walk, *, is_kept: bool) -> Stretch | None:
        """To the end of a segment, or past what is missing; None: a page must be read first, or the way is over."""
        room = self._room
        segment = room.find_or_request(walk, walk.seq + 1)
        if isinstance(segment, Gap):
            return self._skip(walk, segment)
        if segment is None:
            walk.is_waiting = walk.seq < room.last_seq
            return None
        room.keep_bounds()  # it may be a page that was read for us
        entries = segment.after(walk.seq)
        if self._end < entries[-1].seq:
            if self._end == walk.seq:
                return self._encode_end(walk, entries)
            entries = entries[:-1]
        frames, ends = walk.encode(entries, is_kept=is_kept)
        stretch = self._stretch(frames, walk.transcript, span=(entries[0].seq, walk.seq), ends=ends)
        return self._keep(stretch) if is_kept else stretch

    def _encode_end(self, walk: Walk, entries: list[Entry]) -> Stretch:
        """Rule 6."""
        fork = walk.transcript.fork()
        frames, ends = encode_entries(fork, entries, is_kept=True)
        return self._keep(self._stretch(frames, fork, span=(entries[0].seq, entries[-1].seq), ends=ends))

    def _skip(self, walk: Walk, gap: Gap) -> Stretch | None:
        if walk is not self._head:
            self._leave_behind(gap)
            return None
        if self._room.find_or_request(walk, gap.last_seq + 1) is None and gap.last_seq < self._room.last_seq:
            walk.is_waiting = True
            return None
        frames = self._room.replays.head_gap_frames(walk.transcript, gap)
        if frames is None:
            self._refuse(gap)
            return None
        walk.seq = gap.last_seq
        self._gaps.append(gap)
        self._bases.append(walk.checkpoint())
        return self._keep(self._stretch(frames, walk.transcript, span=(gap.first_seq, gap.last_seq)))

    def _refuse(self, gap: Gap) -> None:
        """Rule 10."""
        replays, base = self._room.replays, Checkpoint(gap.last_seq, self.blank.fork())
        missing = gap._replace(first_seq=1)
        frames = replays.head_gap_frames(base.transcript, missing)
        if frames is None:  # not within this call: a viewer may be being pulled
            asyncio.get_running_loop().call_soon(self.give_up, replays.gap_reason(gap))
            return
        self.gap_frames, self._gaps = frames, [missing]
        self._checkpoints.clear()
        self._forget_snapshot()
        self._bases, self._head, self._sweep = [base], Walk(self, base), None
        self._count()
        self._waiting.wake([seq for seq in self._waiting.at if seq < gap.last_seq])
        self.resume()

    def _leave_behind(self, gap: Gap) -> None:
        """Rule 7: viewers that wait there find the branch at their next read."""
        self._sweep = None
        self._room.replays.add_branch(self.dialect, gap)
        self._waiting.wake([seq for seq in self._waiting.at if self._branch_at(seq) is not None])

    def _branch_at(self, seq: int) -> Replay | None:
        """Where a viewer that has this seq continues, because the way to it does not exist any more."""
        if seq >= self._head.seq:
            return None
        return self._room.replays.branch(self.dialect, seq, begin_seq=self._nearest(seq).seq)

    def _stretch(
        self, frames: bytes, transcript: Transcript, *, span: tuple[int, int], ends: array[int] | None = None
    ) -> Stretch:
        return Stretch(frames, span=span, transcript=transcript, ends=ends, ledger=self._room.unsent)

    def _keep(self, stretch: Stretch) -> Stretch:
        """Keep it, and wake the viewers that wait for it."""
        self._stretches.add(stretch)
        self._room.note_growth()
        self._waiting.wake_for(stretch)
        return stretch

    def _forget_snapshot(self, made: Snapshot | None = None) -> None:
        """Forget it; one that is named only if it is still kept."""
        if self._snapshot is not None and (made is None or made is self._snapshot):
            self._snapshot.release()
            self._snapshot = None

    def _count(self) -> None:
        """A text counts twice: where a snapshot or an end joins it, the pieces may stay."""
        counted = 0 if self._is_dismissed else 2 * self._head.encoded_bytes
        self._room.unsent.add(counted - self._counted)
        self._counted = counted
