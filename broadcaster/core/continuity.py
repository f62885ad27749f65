"""Continuity: may this be delivered next? The acceptance rules of a feed, as tables (docs/protocol.md §5).

Pushes are only an accelerator and may be lost; the log is the truth. A push is placed by two facts: how old its epoch
is next to that of the last entry delivered, and where its seqs lie next to the last seq delivered.

    epoch \\ seqs    all known    partly known    next        further on
    same            drop         deliver rest    deliver     hole
    newer           fork         fork            deliver     hole
    older           drop         drop            drop        drop

- A **hole** is read from the log before anything is delivered.
- A **fork** means that entries already delivered are void: another attempt wrote other entries under their seqs.
- An older epoch is dropped: its writer is fenced, and the log has refused the entry or has lost it.
- A newer epoch that names, as ``prev_epoch``, another epoch before it than the one delivered does not continue what
  was delivered, although its seq is the next one: entries in between were replaced. It is a hole.

The last id of the log is placed in the same way against the last id delivered:

    epoch \\ last seq    the same    above    below
    same                 fine        hole     hold
    newer                fork        hole     fork
    older                hold        hold     hold

**Hold**: the log is behind what was delivered (it lost its tail, or is empty), and its worker will resend the tail.
Where no worker will do that, it is a **fork** instead, and what was delivered beyond the log is void: the stream has
ended, or the log's last id is foreign (it was never delivered). Such a log does not lag. It continues another history,
as a feed does whose clock stepped back after it lost its tail. A stream that has ended and whose log is empty (expired,
deleted) still has its terminal event in meta, to be read: a **hole**.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from broadcaster.core.cursor import START, Cursor


class Push(NamedTuple):
    """A batch of entries as the log announced it.

    ``events`` are the JSON bytes of its ``length`` entries in order. A poke announces entries without carrying
    them: its ``events`` are empty. ``prev_epoch`` is the epoch of the entry before ``first_seq``, where the writer sent
    it.
    """

    epoch: int
    first_seq: int
    length: int
    events: Sequence[bytes] = ()
    prev_epoch: int | None = None


class PushVerdict(IntEnum):
    """What a push means for the next delivery."""

    DELIVER = 1
    DROP = 2
    HOLE = 3
    FORK = 4


class TailVerdict(IntEnum):
    """What the log's last id means for what was delivered."""

    FINE = 1
    HOLE = 2
    FORK = 3
    HOLD = 4


class Judgement(NamedTuple):
    """The verdict, and how many of the push's first entries were delivered before (only with DELIVER)."""

    verdict: PushVerdict
    skip: int = 0


class _Age(IntEnum):
    OLDER = -1
    SAME = 0
    NEWER = 1


class _Place(IntEnum):
    KNOWN = 1
    PARTLY_KNOWN = 2
    NEXT = 3
    FURTHER_ON = 4


_PUSH_RULES: Final[dict[tuple[_Age, _Place], PushVerdict]] = {
    (_Age.SAME, _Place.KNOWN): PushVerdict.DROP,
    (_Age.SAME, _Place.PARTLY_KNOWN): PushVerdict.DELIVER,
    (_Age.SAME, _Place.NEXT): PushVerdict.DELIVER,
    (_Age.SAME, _Place.FURTHER_ON): PushVerdict.HOLE,
    (_Age.NEWER, _Place.KNOWN): PushVerdict.FORK,
    (_Age.NEWER, _Place.PARTLY_KNOWN): PushVerdict.FORK,
    (_Age.NEWER, _Place.NEXT): PushVerdict.DELIVER,
    (_Age.NEWER, _Place.FURTHER_ON): PushVerdict.HOLE,
    (_Age.OLDER, _Place.KNOWN): PushVerdict.DROP,
    (_Age.OLDER, _Place.PARTLY_KNOWN): PushVerdict.DROP,
    (_Age.OLDER, _Place.NEXT): PushVerdict.DROP,
    (_Age.OLDER, _Place.FURTHER_ON): PushVerdict.DROP,
}

_TAIL_RULES: Final[dict[tuple[_Age, _Place], TailVerdict]] = {
    (_Age.SAME, _Place.KNOWN): TailVerdict.HOLD,
    (_Age.SAME, _Place.NEXT): TailVerdict.HOLE,
    (_Age.NEWER, _Place.KNOWN): TailVerdict.FORK,
    (_Age.NEWER, _Place.NEXT): TailVerdict.HOLE,
    (_Age.OLDER, _Place.KNOWN): TailVerdict.HOLD,
    (_Age.OLDER, _Place.NEXT): TailVerdict.HOLD,
}


def judge_push(last: Cursor, push: Push) -> Judgement:
    """Place a push after the last id delivered (START when nothing was)."""
    epoch, first_seq, length, _, prev_epoch = push
    next_seq = last.seq + 1
    age = _age(epoch, last.epoch)
    verdict = _PUSH_RULES[age, _place(first_seq, length, next_seq)]
    if verdict is not PushVerdict.DELIVER:
        return Judgement(verdict)
    if age is _Age.NEWER and prev_epoch not in (None, last.epoch):
        return Judgement(PushVerdict.HOLE)
    return Judgement(PushVerdict.DELIVER, next_seq - first_seq)


def judge_tail(last: Cursor, log_last: Cursor, *, has_ended: bool = False, is_foreign: bool = False) -> TailVerdict:
    """Place the log's last id (START when the log is empty or gone) against the last id delivered.

    ``has_ended``: the stream's status is terminal, so no worker will append to it. ``is_foreign``: the log's last id
    does not lie before what was delivered, and was not delivered.
    """
    if has_ended and log_last == START:
        return TailVerdict.HOLE
    if log_last == last:
        return TailVerdict.FINE
    place = _Place.KNOWN if log_last.seq <= last.seq else _Place.NEXT
    verdict = _TAIL_RULES[_age(log_last.epoch, last.epoch), place]
    if verdict is TailVerdict.HOLD and (has_ended or is_foreign):
        return TailVerdict.FORK
    return verdict


def _age(epoch: int, delivered: int) -> _Age:
    if epoch == delivered:
        return _Age.SAME
    return _Age.NEWER if epoch > delivered else _Age.OLDER


def _place(first_seq: int, length: int, next_seq: int) -> _Place:
    if first_seq == next_seq:
        return _Place.NEXT
    if first_seq > next_seq:
        return _Place.FURTHER_ON
    return _Place.KNOWN if first_seq + length <= next_seq else _Place.PARTLY_KNOWN
