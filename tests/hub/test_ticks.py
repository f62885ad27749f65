"""The hub schedules its next tick, even if a tick raises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.ticks import Ticks
from tests.hub.conftest import LIMITS
from tests.hub.support import join, text
from tests.support.log.log_world import until
from tests.support.memory.fake_tail import FakeTail


class BrokenObserver:
    """Its log line cannot be written."""

    def was_served(self, *, is_first_here: bool) -> None:
        """Nothing to do."""

    def left(self) -> None:
        raise OSError("no space left")


async def test_a_tick_that_raises_is_followed_by_the_next_one() -> None:
    ticked: list[float] = []

    def tick(now: float, is_late: bool) -> None:
        ticked.append(now)
        if len(ticked) == 1:
            raise OSError("no space left")

    ticks = Ticks(dataclasses.replace(LIMITS, heartbeat_s=0.4), tick)
    ticks.schedule()
    await until(lambda: len(ticked) == 2)
    ticks.cancel()


async def test_a_room_that_raises_in_a_tick_costs_no_other_room_its_deadlines(
    open_hub: Callable[[HubLimits], Hub], tail: FakeTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = open_hub(dataclasses.replace(LIMITS, slow_viewer_s=0.4))
    readers = []
    for stream_id in ("g", "h"):
        tail.append(stream_id, text(5, 1))
        readers.append(await join(hub, stream_id))
    for reader in readers:
        reader.viewer.pull(10)  # and never again: each is cut
    monkeypatch.setattr(readers[0].viewer, "observer", BrokenObserver())
    await until(lambda: readers[1].viewer.stop_reason is StopReason.SLOW)
    assert readers[0].viewer.stop_reason is not None
