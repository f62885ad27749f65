"""The most watched streams: by viewers, or by what their viewers miss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from broadcaster.core.notices import StallReason
from broadcaster.hub.live.crowds import LAGS_READ, most_watched
from broadcaster.hub.room import Room


def room(stream_id: str, *lags: int, live: int = 0, stall: StallReason | None = None) -> Room:
    behind: list[Any] = [SimpleNamespace(lag=lag) for lag in lags]
    viewers = [*behind, *range(live)]
    fields = {"stream_id": stream_id, "viewers": viewers, "behind": behind, "last_seq": 9, "status": "running"}
    return cast(Room, SimpleNamespace(**fields, stall=stall))


ROOMS = [
    room("quiet"),
    room("crowd", 0, 3, live=5),
    room("slow", 7, stall=StallReason.WORKER_LOST),
    room("pair", live=2),
]


def test_the_streams_with_the_most_viewers_come_first_and_unwatched_ones_never() -> None:
    found = most_watched(ROOMS, 2, by_lag=False)
    assert [(each.stream_id, each.viewers, each.behind, each.lag) for each in found] == [
        ("crowd", 7, 1, 3),
        ("pair", 2, 0, 0),
    ]


def test_the_streams_whose_viewers_miss_most_come_first() -> None:
    found = most_watched(ROOMS, 2, by_lag=True)
    assert [(each.stream_id, each.lag, each.stall) for each in found] == [
        ("slow", 7, "worker_lost"),
        ("crowd", 3, None),
    ]


def test_the_lags_of_a_bounded_number_of_viewers_are_read() -> None:
    (found,) = most_watched([room("huge", *[1] * (LAGS_READ + 5))], 1, by_lag=False)
    assert (found.viewers, found.behind) == (LAGS_READ + 5, LAGS_READ)
