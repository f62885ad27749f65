"""Lifetimes: a notice before the end, the end on time, and nothing left of viewers that have left."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.access.callers import Caller
from broadcaster.hub.hub import Hub
from broadcaster.hub.lifetimes import Lifetime, Lifetimes
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.places import Place, Places, Visitor
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.hub.support import DEADLINE_S
from tests.support.memory.memory_world import MemoryWorld

EXPIRED = StopReason.TOKEN_EXPIRED


class Recorded:
    """A viewer that records what happens to it."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self.notices: list[float] = []
        self.stops: list[StopReason] = []

    def announce_expiry(self, expires_s: float) -> None:
        self.notices.append(expires_s)

    def stop(self, reason: StopReason) -> None:
        self.stops.append(reason)


def test_the_notice_comes_once_and_the_end_on_time() -> None:
    lifetimes, viewer = Lifetimes(notice_s=30), Recorded()
    lifetimes.begin(viewer, Lifetime(100.0, EXPIRED, expires_s=7.0))
    for now in (0.0, 69.9):
        lifetimes.check(now, now_s=now - 93)
        assert (viewer.notices, viewer.stops) == ([], [])
    for now in (70.0, 71.0, 99.9):
        lifetimes.check(now, now_s=now - 93)
        assert (viewer.notices, viewer.stops) == ([7.0], [])
    lifetimes.check(100.0, now_s=7.0)
    lifetimes.check(200.0, now_s=107.0)
    assert (viewer.notices, viewer.stops, len(lifetimes)) == ([7.0], [EXPIRED], 0)


def test_without_a_notice_there_is_only_the_end() -> None:
    for lifetimes, expires_s in ((Lifetimes(notice_s=0), 7.0), (Lifetimes(notice_s=30), None)):
        viewer = Recorded()
        lifetimes.begin(viewer, Lifetime(100.0, EXPIRED, expires_s))
        lifetimes.check(99.0, now_s=6.0)
        lifetimes.check(100.0, now_s=7.0)
        assert (viewer.notices, viewer.stops) == ([], [EXPIRED])


def test_a_new_credential_that_lives_shorter_than_the_notice_is_announced_after_half_of_its_life() -> None:
    lifetimes, viewer = Lifetimes(notice_s=30), Recorded()
    lifetimes.begin(viewer, Lifetime(100.0, EXPIRED, expires_s=1100.0, life_s=20.0))
    for now, wall_s in ((80.0, 1080.0), (80.2, 1085.2), (84.9, 1089.9)):
        lifetimes.check(now, now_s=wall_s)
        assert viewer.notices == []
    lifetimes.check(85.0, now_s=1090.0)
    assert (viewer.notices, viewer.stops) == ([1100.0], [])


async def test_the_life_of_a_callers_credential_bounds_its_notice() -> None:
    wall_s = 1000.0
    places, viewer = Places(HubLimits(notice_s=30), clock=lambda: wall_s), Recorded()
    visitor = Visitor(Caller("web", expires_s=1020.0, life_s=20.0))
    places.enter(cast(Viewer, viewer), places.take("web", waits=False, visitor=visitor))
    now = asyncio.get_running_loop().time()
    places.check(now)
    assert viewer.notices == []
    wall_s = 1011.0
    places.check(now + 11)
    assert viewer.notices == [1020.0]


def test_the_earlier_of_two_ends_counts() -> None:
    for ends in ((100.0, 50.0), (50.0, 100.0)):
        lifetimes, viewer = Lifetimes(notice_s=0), Recorded()
        for ends_at in ends:
            lifetimes.begin(viewer, Lifetime(ends_at, EXPIRED))
        lifetimes.check(49.0, now_s=-44.0)
        assert not viewer.stops
        lifetimes.check(50.0, now_s=-43.0)
        assert viewer.stops == [EXPIRED]


def test_a_viewer_that_has_left_is_forgotten() -> None:
    lifetimes, viewer = Lifetimes(notice_s=30), Recorded()
    lifetimes.begin(viewer, Lifetime(100.0, EXPIRED, 7.0))
    lifetimes.end(viewer)
    lifetimes.end(viewer)
    lifetimes.check(200.0, now_s=107.0)
    assert (viewer.notices, viewer.stops, len(lifetimes)) == ([], [], 0)


def test_a_step_of_the_wall_clock_ends_those_whose_token_is_over_by_it() -> None:
    lifetimes = Lifetimes(notice_s=30)
    expiring, announced, resuming, aging = viewers = [Recorded() for _ in range(4)]
    for viewer in viewers[:3]:
        lifetimes.begin(viewer, Lifetime(410.0, EXPIRED, expires_s=1410.0))
    lifetimes.begin(expiring, Lifetime(400.0, EXPIRED, expires_s=1400.0))
    lifetimes.begin(announced, Lifetime(120.0, EXPIRED, expires_s=1120.0))
    for viewer in (resuming, aging):
        lifetimes.begin(viewer, Lifetime(390.0, StopReason.LIFETIME))
    lifetimes.check(100.0, now_s=1100.0)
    assert [viewer.notices for viewer in viewers] == [[], [1120.0], [], []]
    lifetimes.check(101.0, now_s=1116.0)
    assert [viewer.notices for viewer in viewers] == [[], [1120.0], [], []]
    lifetimes.check(102.0, now_s=1405.0)
    assert [viewer.stops for viewer in viewers] == [[EXPIRED], [EXPIRED], [], []]
    assert [viewer.notices for viewer in viewers] == [[], [1120.0], [1410.0], []]
    lifetimes.check(107.0, now_s=1410.0)
    assert [viewer.stops for viewer in viewers] == [[EXPIRED], [EXPIRED], [EXPIRED], []]


def test_a_wall_clock_that_steps_back_delays_no_end() -> None:
    lifetimes, viewer = Lifetimes(notice_s=0), Recorded()
    lifetimes.begin(viewer, Lifetime(100.0, EXPIRED, expires_s=1100.0))
    lifetimes.check(99.0, now_s=1099.0)
    lifetimes.check(99.5, now_s=800.0)
    assert viewer.stops == []
    lifetimes.check(100.0, now_s=800.5)
    assert viewer.stops == [EXPIRED]


async def test_a_viewer_ends_with_its_token_by_the_wall_clock_that_was_wrong_when_it_came() -> None:
    wall_s = 1000.0
    places, viewer = Places(HubLimits(notice_s=0), clock=lambda: wall_s), Recorded()
    place = places.take("web", waits=False, visitor=Visitor(Caller("web", expires_s=1300.0)))
    places.enter(cast(Viewer, viewer), place)
    now = asyncio.get_running_loop().time()
    places.check(now)
    assert viewer.stops == []
    wall_s = 1300.0
    places.check(now)
    assert viewer.stops == [EXPIRED]


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=20), st.floats(0, 50))
def test_at_every_check_exactly_those_have_ended_whose_time_is_over(
    ends: list[tuple[float, bool]], notice_s: float
) -> None:
    lifetimes, viewers = Lifetimes(notice_s=notice_s), [Recorded() for _ in ends]
    for viewer, (ends_at, is_announced) in zip(viewers, ends, strict=True):
        lifetimes.begin(viewer, Lifetime(ends_at, EXPIRED, ends_at if is_announced else None))
    for now in range(0, 101, 10):
        lifetimes.check(float(now), now_s=now)
        for viewer, (ends_at, _) in zip(viewers, ends, strict=True):
            assert viewer.stops == ([EXPIRED] if ends_at <= now else [])


async def test_the_hubs_tick_ends_a_viewer_and_forgets_one_that_leaves() -> None:
    world = MemoryWorld()
    world.add("g")
    hub = Hub(world, world, limits=HubLimits(heartbeat_s=0.4, notice_s=0.2))
    try:
        viewers = []
        for lives_s in (0.5, 60.0):
            caller = Caller("web", expires_s=time.time() + lives_s)
            place = hub.reserve("web", visitor=Visitor(caller))
            viewer = await hub.join("g", cursor=None, timeout_s=DEADLINE_S, place=place)
            assert isinstance(viewer, Viewer)
            viewers.append(viewer)
        short, long = viewers
        received = b""
        async with asyncio.timeout(DEADLINE_S):
            while not short.is_over:
                received += short.pull(2**16)
                await short.wait(1)
        names = [line.removeprefix(b"event: ") for line in received.split(b"\n") if line.startswith(b"event: ")]
        assert names == [b"hub.hello", b"hub.live", b"hub.expiring", b"hub.bye"]
        assert short.ends_cleanly
        short.leave()
        assert len(hub.admission._lifetimes) == 1
        long.leave()
        assert len(hub.admission._lifetimes) == 0
    finally:
        await hub.aclose()
