"""Where a viewer begins: a cursor is placed in what the log holds (docs/protocol.md §6). Pure.

Rules, in this order
1. No cursor, or seq 0 ("nothing seen"): from the log's first entry.
2. The log is empty: hold. The first entries show whether the cursor is valid.
3. The cursor's entry is in the log: behind it. If it is the terminal event, nothing is left to send.
4. It is before the log's first entry, and no epoch forbids that it was there: from the log's first entry. An epoch
   newer than that entry's forbids it. So does one older than the stream's creation (``since_epoch``): another stream
   had the id. A creation under a newer epoch than the log's first is not this log's, and does not count. What was
   delivered before a gap (``pasts``) forbids it, too: another entry under its seq, or one of a newer epoch before it.
   That entry is void.
5. The next seq is in the log under its epoch: behind it. A gap ends so, before the first entry of a newer epoch.
6. It is above the last id of an open log, in the epoch that writes it: hold. The log lost its tail; its worker will
   resend it.
7. It is above the last id of an open log under a newer epoch: hold until the log has been read to its end after the
   viewer came. Another front-end may have received entries that this one has not; only the log decides.
8. Else its entry is void: replay from the log's first entry. ``reset`` if the log began after the cursor's epoch
   (re-created: nothing that was seen is in it), else ``rewound``.

A gap names what the viewer will not receive, or received in vain; its id is the cursor that delivery continues from.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.lineage import Lineage
from broadcaster.core.notices import Gap, GapReason


class Extent(NamedTuple):
    """What the tail has delivered of the log: its ids, the gap before the first of them, and whether it ended.

    ``was_read``: the log was read to its end after the viewer came (rule 7). ``pasts``: the ids that were delivered
    before gaps, the newest last.
    """

    lineage: Lineage
    floor: Gap | None
    is_over: bool
    was_read: bool = False
    pasts: tuple[Lineage, ...] = ()


class Follow(NamedTuple):
    """Send ``gap`` first, then what comes after ``after``."""

    after: Cursor
    gap: Gap | None = None


class Hold(NamedTuple):
    """Send nothing yet; resolve ``cursor`` once more when the log has changed, or was read."""

    cursor: Cursor


class ParkedCursor(NamedTuple):
    """A cursor on hold, and how often the room had read its log to the end when the viewer came."""

    cursor: Cursor
    reads: int


class Finished(NamedTuple):
    """The cursor is the terminal's own id: no more to come (HTTP 204)."""

    terminal: Cursor


Resolution: TypeAlias = Follow | Hold | Finished


def resolve(cursor: Cursor | None, log: Extent) -> Resolution:
    """Place a cursor in the log."""
    lineage, floor, is_over, was_read, _ = log
    if cursor is None or cursor.seq == 0:
        return Follow(START) if floor is None else _from_floor(0, floor)
    if not lineage:
        return Hold(cursor) if floor is None or cursor.seq > floor.last_seq else _before_first(cursor, log)
    if lineage.contains(cursor):
        return Finished(cursor) if is_over and cursor == lineage.last else Follow(cursor)
    if not is_over and cursor > lineage.last and (cursor.epoch == lineage.last.epoch or not was_read):
        return Hold(cursor)
    if cursor.seq < lineage.first_seq:
        return _before_first(cursor, log)
    if lineage.contains(Cursor(cursor.epoch, cursor.seq + 1)):
        return Follow(cursor)
    return _void(cursor, _before_log(log))


def _before_first(cursor: Cursor, log: Extent) -> Follow:
    """Epochs rise with seqs: an entry that came before the log's first cannot be of a newer epoch."""
    if _is_forbidden(cursor, log.pasts):
        return _void(cursor, _before(log.pasts[0]))
    begin = _before_log(log)
    since_epoch = 0 if log.floor is None else log.floor.since_epoch
    if cursor.epoch > begin.epoch or cursor.epoch < since_epoch <= begin.epoch:
        return _void(cursor, begin)
    if cursor.seq == begin.seq or log.floor is None:
        return Follow(cursor)
    return _from_floor(cursor.seq, log.floor)


def _is_forbidden(cursor: Cursor, pasts: tuple[Lineage, ...]) -> bool:
    """Whether what was delivered before gaps proves that this id is void (rules 4 and 5)."""
    past = next((past for past in reversed(pasts) if past.first_seq <= cursor.seq), None)
    if past is None or past.contains(cursor) or past.contains(Cursor(cursor.epoch, cursor.seq + 1)):
        return False
    return cursor.seq < past.last_seq or cursor.epoch < past.last.epoch


def _from_floor(seen_seq: int, floor: Gap) -> Follow:
    return Follow(floor.at, Gap(floor.reason, floor.at, seen_seq + 1, floor.last_seq))


def _void(cursor: Cursor, begin: Cursor) -> Follow:
    reason = GapReason.RESET if cursor.epoch < begin.epoch else GapReason.REWOUND
    first_seq, last_seq = (begin.seq + 1, cursor.seq) if cursor.seq > begin.seq else (0, 0)
    return Follow(begin, Gap(reason, begin, first_seq, last_seq))


def _before_log(log: Extent) -> Cursor:
    """The cursor of a viewer that has seen nothing that the log holds."""
    if log.lineage:
        return _before(log.lineage)
    return START if log.floor is None else log.floor.at


def _before(lineage: Lineage) -> Cursor:
    return Cursor(lineage.epoch_at(lineage.first_seq), lineage.first_seq - 1)
