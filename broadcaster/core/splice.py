"""The splice: one stream's order of delivery, from replay to live and back, with no gap and no double.

It decides and does no I/O. Its driver passes pushes in (``receive``), reads the log as long as ``wants_read``
(``next_read``, then ``take``), and does the steps that it gets back, in order. Phases:

    READING   the log is read from the last id delivered on, page by page; pushes that arrive are parked
    TRACING   a fork: the log's ids are read from their start, to find the delivered entries that are still valid
    LIVE      pushes are judged one by one and delivered
    OVER      the terminal was delivered; nothing follows

    start ──▶ READING ──end of log, parked pushes connect──▶ LIVE ──terminal──▶ OVER
                ▲ │ └──page does not begin with the last id──▶ TRACING
                │ └───────────────◀── keep found ◀────────────────┘
                └── a push is a hole or a fork; ``reread``; parked pushes lost or not connected ── LIVE, READING

Rules
1. A push of batch and log entry are one atomic step, so a push that was parked before a page was requested is in that
   page's log, or the log has lost it since. The last page is therefore the judge of all that was parked before it:
   what it does not connect is void, and is dropped. What was parked after may be ahead of the page: then the log is
   read again.
2. Parked pushes are bounded. Beyond the bound all of them are dropped, and the log is read once more.
3. A page is read from the last id on, that id included, and only the entries behind it are delivered. A page that
   begins with another id shows that the log no longer holds the last one: it lost its tail, or it was trimmed. The
   newer ids do not show which: a feed whose clock stepped back continues a lost tail under any epoch. So it is traced.
4. A trace keeps what was delivered up to the last id that the log also holds; the rest is void. An empty log proves
   nothing, nor does one whose first entry lies behind everything that was delivered, in seq and epoch: that one was
   trimmed. If the stream was created after the last id, under its ``since_epoch``, all is void.
5. The first entry of a page that lies further on than the next seq means that the log was trimmed: the missing range is
   announced, and delivery continues behind it.
6. The driver reads the ``since_epoch`` of a page that ``begins_behind`` everything that was delivered. It reads it
   after the page, so that it is not older than the page. One above the page's first epoch does not count: it
   is of a newer stream than the page, or the clock stepped back under a writer of an earlier version.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from broadcaster.core.continuity import Push, PushVerdict, TailVerdict, judge_push, judge_tail
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import is_terminal
from broadcaster.core.lineage import Lineage
from broadcaster.core.notices import Gap, GapReason

MAX_PARKED_ENTRIES: Final = 4096
MAX_PARKED_BYTES: Final = 2**20


class Deliver(NamedTuple):
    """Deliver these entries; they follow the last ones densely."""

    entries: Sequence[Entry]


class Rewound(NamedTuple):
    """What was delivered after ``keep`` is void; START voids all."""

    keep: Cursor


class CaughtUp(NamedTuple):
    """Everything that the log held when it was read has been delivered."""


SpliceStep: TypeAlias = Deliver | Gap | Rewound | CaughtUp


class _Phase(Enum):
    READING = "reading"
    TRACING = "tracing"
    LIVE = "live"
    OVER = "over"


class Splice:
    """Order of delivery of one stream; see the module's text."""

    def __init__(
        self, *, max_parked_entries: int = MAX_PARKED_ENTRIES, max_parked_bytes: int = MAX_PARKED_BYTES
    ) -> None:
        self._max_parked_entries = max_parked_entries
        self._max_parked_bytes = max_parked_bytes
        self._phase = _Phase.READING
        self._delivered = Lineage()
        self._traced = Lineage()
        self._parked: list[Push] = []
        self._parked_entries = 0
        self._parked_bytes = 0
        self._judged_by_next_page = 0  # how many were parked when the last page was requested (rule 1)
        self._must_reread = False  # something may have been missed since the last page was requested
        self._is_last_trimmed = False  # a trace has shown that the log was trimmed behind the last id (rule 4)

    @property
    def last(self) -> Cursor:
        """The last id delivered; START when none was."""
        return self._delivered.last

    @property
    def is_live(self) -> bool:
        """Whether pushes are delivered as they come."""
        return self._phase is _Phase.LIVE

    @property
    def is_over(self) -> bool:
        """Whether the terminal event was delivered."""
        return self._phase is _Phase.OVER

    @property
    def wants_read(self) -> bool:
        """Whether the driver must read: ``next_read``, then ``take``."""
        return self._phase in (_Phase.READING, _Phase.TRACING)

    def receive(self, push: Push) -> Sequence[Entry]:
        """Take a push; returns the entries to deliver now. Check ``wants_read`` afterwards."""
        if self._phase is _Phase.LIVE:
            if push.events and self._delivered.is_continued_by(push.epoch, push.first_seq):  # nearly always
                return self._accept(push, 0)
            verdict, skip = judge_push(self._delivered.last, push)
            if verdict is PushVerdict.DELIVER and push.events:
                return self._accept(push, skip)
            if verdict is PushVerdict.DROP:
                return ()
            self._phase = _Phase.READING
        if self.wants_read:
            self._park(push)
        return ()

    def advance(self, count: int) -> None:
        """While live, the next ``count`` entries of the last epoch were delivered; none of them was the terminal."""
        self._delivered.last_seq += count

    def reread(self) -> None:
        """Pushes may have been lost: read the log again, which has them. No effect once over."""
        self._must_reread = True
        if self._phase is _Phase.LIVE:
            self._phase = _Phase.READING

    def trace(self) -> None:
        """What was delivered may be void: compare it with the log. No effect unless live."""
        if self._phase is _Phase.LIVE:
            self._begin_tracing()

    def judge_tail(self, log_last: Cursor, *, has_ended: bool = False) -> TailVerdict:
        """Place the log's last id against what was delivered; see ``continuity.judge_tail``."""
        delivered = self._delivered
        is_foreign = log_last.seq >= delivered.first_seq and not delivered.contains(log_last)
        return judge_tail(delivered.last, log_last, has_ended=has_ended, is_foreign=is_foreign)

    def next_read(self) -> Cursor:
        """The cursor to read the log after. Call it right before each read, a repeated one included.

        The page begins with the last entry that was delivered (rule 3), so a driver must read at least two entries.
        """
        self._judged_by_next_page = len(self._parked)
        self._must_reread = False
        if self._phase is _Phase.TRACING:
            return self._traced.last
        last = self._delivered.last
        return last if last == START or self._is_last_trimmed else Cursor(last.epoch, last.seq - 1)

    def begins_behind(self, entries: Sequence[Entry]) -> bool:
        """Whether the page's log may have been trimmed behind what was delivered: ``take`` needs its since_epoch."""
        if not entries or self._traced:
            return False
        if self._phase is _Phase.TRACING:
            return self._lies_behind(entries[0])
        is_at_start = self._delivered.last == START and entries[0].seq > 1
        return self._is_reading and (is_at_start or self._is_last_trimmed)

    def take(self, entries: Sequence[Entry], *, is_last: bool, since_epoch: int = 0) -> list[SpliceStep]:
        """Take the page read after ``next_read()``; ``is_last``: the log held no more. Returns the steps to do.

        ``since_epoch``: see rule 6; 0: not known, or not needed.
        """
        if self._phase is _Phase.TRACING:
            return self._take_traced(entries, is_last=is_last, since_epoch=since_epoch)
        if not self._is_reading:
            return []
        steps = self._take_read(entries, since_epoch)
        if self._is_reading and is_last:
            self._connect_parked(steps)
        if not self.wants_read:
            steps.append(CaughtUp())
        return steps

    @property
    def _is_reading(self) -> bool:
        return self._phase is _Phase.READING

    def _take_read(self, entries: Sequence[Entry], since_epoch: int) -> list[SpliceStep]:
        """Deliver what continues the last id (rules 3 and 5)."""
        last = self._delivered.last
        must_begin_with_last = last != START and not self._is_last_trimmed
        if self._is_last_trimmed and self._is_of_a_newer_stream(entries, since_epoch):
            self._begin_tracing()
            return []
        self._is_last_trimmed = False
        if must_begin_with_last and entries:
            if entries[0].cursor != last:
                self._begin_tracing()
                return []
            entries = entries[1:]
        steps: list[SpliceStep] = []
        batch: list[Entry] = []
        for entry in entries:
            last = self._delivered.last
            if entry.seq <= last.seq:  # the page is after `last`, so its epoch is newer
                self._begin_tracing()
                break
            if entry.seq > last.seq + 1:
                if batch:
                    steps.append(Deliver(batch))
                batch = []
                before = Cursor(entry.epoch, entry.seq - 1)
                steps.append(Gap(GapReason.TRIMMED, before, last.seq + 1, before.seq, since_epoch))
                self._delivered = Lineage()
            self._delivered.append(entry.cursor)
            batch.append(entry)
        if batch:
            steps.append(Deliver(batch))
            self._end_if_terminal(batch[-1].event)
        return steps

    def _accept(self, push: Push, skip: int) -> Sequence[Entry]:
        epoch, first_seq, length, events, _ = push
        first_seq += skip
        entries = [Entry(epoch, seq, event) for seq, event in enumerate(events[skip:] if skip else events, first_seq)]
        self._delivered.extend(Cursor(epoch, first_seq), count=length - skip)
        self._end_if_terminal(events[-1])
        return entries

    def _end_if_terminal(self, event: bytes) -> None:
        if is_terminal(event):
            self._phase = _Phase.OVER
            self._unpark()

    def _connect_parked(self, steps: list[SpliceStep]) -> None:
        """The log has been read to its end: deliver what the parked pushes have beyond it, or reread (rule 1)."""
        if self._must_reread:
            return
        for at, push in enumerate(self._parked):
            verdict, skip = judge_push(self._delivered.last, push)
            if verdict is PushVerdict.DELIVER and push.events:
                steps.append(Deliver(self._accept(push, skip)))
                if self._phase is _Phase.OVER:
                    return
            elif verdict is not PushVerdict.DROP and at >= self._judged_by_next_page:
                self._unpark(at)
                return
        self._unpark()
        self._phase = _Phase.LIVE

    def _begin_tracing(self) -> None:
        self._phase = _Phase.TRACING
        self._is_last_trimmed = False
        self._traced = Lineage()

    def _take_traced(self, entries: Sequence[Entry], *, is_last: bool, since_epoch: int) -> list[SpliceStep]:
        was_cut = False
        is_trimmed = self.begins_behind(entries) and not self._is_of_a_newer_stream(entries, since_epoch)
        for entry in () if is_trimmed else entries:
            last = self._traced.last
            if last != START and entry.seq <= last.seq:  # the log forked while it was traced: once more
                self._begin_tracing()
                return []
            if last != START and entry.seq > last.seq + 1:  # it was trimmed meanwhile: what matched so far is proven
                was_cut = True
                break
            self._traced.append(entry.cursor)
        keep = self._delivered.common_prefix(self._traced)
        is_undecided = keep == self._traced.last and keep != self._delivered.last
        if is_undecided and not is_last and not was_cut and not is_trimmed:
            return []
        is_void = keep != self._delivered.last and len(self._traced) > 0
        self._phase = _Phase.READING
        self._traced = Lineage()
        self._is_last_trimmed = is_trimmed
        if not is_void:
            return []
        self._delivered.keep_through(keep)
        return [Rewound(keep)]

    def _lies_behind(self, entry: Entry) -> bool:
        """Whether an entry may follow everything that was delivered."""
        last = self._delivered.last
        return entry.seq > last.seq and entry.epoch >= last.epoch

    def _is_of_a_newer_stream(self, entries: Sequence[Entry], since_epoch: int) -> bool:
        """Whether the stream was created between the last id delivered and the page (rule 4)."""
        return bool(entries) and self._delivered.last.epoch < since_epoch <= entries[0].epoch

    def _park(self, push: Push) -> None:
        self._parked.append(push)
        self._parked_entries += max(1, len(push.events))
        self._parked_bytes += sum(map(len, push.events))
        if self._parked_entries > self._max_parked_entries or self._parked_bytes > self._max_parked_bytes:
            self._unpark()
            self._must_reread = True

    def _unpark(self, before: int | None = None) -> None:
        """Drop the pushes parked before index ``before``; without it, all."""
        self._parked = [] if before is None else self._parked[before:]
        self._parked_entries = sum(max(1, len(push.events)) for push in self._parked)
        self._parked_bytes = sum(len(event) for push in self._parked for event in push.events)
        self._judged_by_next_page = 0
