"""The wire form of a push, as the append script publishes it on a stream's live channel.

    1 <epoch> <first_seq> <count>[ <prev_epoch>]        head, ASCII
    \\n<event JSON>                                      count times; without any: a poke

Compact JSON holds no raw line feed, so the events are split at line feeds and never parsed here.

``next_events`` is in C where a compiler was found when the package was built (``_push.c``), else in Python; both do the
same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from broadcaster.core.continuity import Push
from broadcaster.core.events import ATTEMPT_PREFIX, TERMINAL_PREFIXES

NextEvents: TypeAlias = Callable[[bytes, int, int], list[bytes] | None]

# They begin or end an attempt, which changes more than the end of the stream.
_REFUSED: Final = (*TERMINAL_PREFIXES, ATTEMPT_PREFIX)

_VERSION: Final = b"1"
_WITH_PREV_EPOCH: Final = 5


def next_events_in_python(payload: bytes, epoch: int, last_seq: int, /) -> list[bytes] | None:
    """The events of a push that follows ``last_seq`` in this epoch; none of them begins or ends an attempt.

    None: it is another push; use ``parse_push``. The hot path: to compare the head costs less than to parse it.
    """
    head, _, body = payload.partition(b"\n")
    if head == b"1 %d %d 1" % (epoch, last_seq + 1) and b"\n" not in body:  # nearly always
        return None if not body or body.startswith(_REFUSED) else [body]
    events = body.split(b"\n")
    if head != b"1 %d %d %d" % (epoch, last_seq + 1, len(events)):
        return None
    return None if any(not event or event.startswith(_REFUSED) for event in events) else events


try:
    from broadcaster.log.tail._push import next_events as _next_events_in_c
except ImportError:
    next_events: NextEvents = next_events_in_python
else:
    next_events = _next_events_in_c


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
