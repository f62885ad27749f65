"""The most watched streams of one front-end, for operators: how many viewers each has, and how far they are behind.

The cost is one step for each room, and one for each viewer that the room does not write to directly (those that it
writes to are not behind), up to ``LAGS_READ`` in a room.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from broadcaster.hub.room import Room

LAGS_READ: Final = 1000


class WatchedStream(NamedTuple):
    """A stream with viewers here.

    ``behind``: viewers that have not been sent everything; ``lag``: the most entries that one of them misses. Both are
    of the first ``LAGS_READ`` viewers that the room does not write to directly.
    """

    stream_id: str
    viewers: int
    behind: int
    lag: int
    last_seq: int
    status: str
    stall: str | None


def most_watched(rooms: Iterable[Room], limit: int, *, by_lag: bool) -> list[WatchedStream]:
    """Up to ``limit`` streams, those with the most viewers first; ``by_lag``: those with the largest lag first."""
    watched = (room for room in rooms if room.viewers)
    if by_lag:
        return heapq.nlargest(limit, map(_show, watched), key=lambda each: (each.lag, each.viewers))
    return [_show(room) for room in heapq.nlargest(limit, watched, key=lambda room: len(room.viewers))]


def _show(room: Room) -> WatchedStream:
    lags = [viewer.lag for viewer in islice(room.behind, LAGS_READ)]
    return WatchedStream(
        room.stream_id,
        len(room.viewers),
        sum(lag > 0 for lag in lags),
        max(lags, default=0),
        room.last_seq,
        room.status,
        None if room.stall is None else room.stall.value,
    )
