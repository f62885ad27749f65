"""The wire form of a push, as the append script publishes it on a stream's live channel.

    1 <epoch> <first_seq> <count>[ <prev_epoch>]        head, ASCII
    \\n<event JSON>                                      count times; without any: a poke

Compact JSON holds no raw line feed, so the events are split at line feeds and never parsed here.
"""

from __future__ import annotations

from typing import Final

from broadcaster.core.continuity import Push

_VERSION: Final = b"1"
_ONE: Final = b"1"
_WITH_PREV_EPOCH: Final = 5


def parse_one(payload: bytes) -> tuple[int, int, bytes] | None:
    """Epoch, seq and event of a push of a single event. None: another kind of push; use ``parse_push``."""
    head, _, event = payload.partition(b"\n")
    try:
        version, epoch, seq, count = head.split(b" ")
        if version != _VERSION or count != _ONE or not event or b"\n" in event:
            return None
        return int(epoch), int(seq), event
    except ValueError:  # more fields, or fewer, or no numbers
        return None


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
