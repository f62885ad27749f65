"""The wire form of a push, as the append script publishes it on a stream's live channel.

    1 <epoch> <first_seq> <count>[ <prev_epoch>]        head, ASCII
    \\n<event JSON>                                      count times; without any: a poke

Compact JSON holds no raw line feed, so the events are split at line feeds and never parsed here.
"""

from __future__ import annotations

from typing import Final

from broadcaster.core.continuity import Push

_VERSION: Final = b"1"
_WITH_PREV_EPOCH: Final = 5


def next_event(payload: bytes, epoch: int, seq: int) -> bytes | None:
    """The event of a push of exactly this single entry. None: another push; use ``parse_push``.

    The hot path: to compare the head costs less than to parse it.
    """
    head, _, event = payload.partition(b"\n")
    return event if head == b"1 %d %d 1" % (epoch, seq) and event and b"\n" not in event else None


def parse_push(payload: bytes) -> Push | None:
    """Parse a push; None when its head is invalid (the tail check then finds the entries).

    It becomes a poke when (1) its version is another one, whose events may have another meaning, (2) it carries no
    events, (3) the number of its events differs from ``count``.
    """
    head, _, body = payload.partition(b"\n")
    fields = head.split(b" ")
    try:
        version, epoch, first_seq, count = fields[0], int(fields[1]), int(fields[2]), int(fields[3])
        prev_epoch = int(fields[4]) if len(fields) >= _WITH_PREV_EPOCH and version == _VERSION else None
    except (IndexError, ValueError):
        return None
    if epoch < 0 or first_seq < 1 or count < 1:
        return None
    events = body.split(b"\n") if body and version == _VERSION else ()
    return Push(epoch, first_seq, count, events if len(events) == count else (), prev_epoch)
