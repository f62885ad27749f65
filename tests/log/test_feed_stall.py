"""What a room is told while nothing comes: the strongest reason, once, and its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from broadcaster.core.notices import StallReason
from broadcaster.log.feed_options import FeedTimes
from broadcaster.log.feed_stall import Stall
from tests.support.feed_log import NEVER_S, until

LOG, WORKER = StallReason.LOG_UNAVAILABLE, StallReason.WORKER_LOST


@dataclass
class Told:
    """A stall, what it told, and a node that was last heard when the test says."""

    times: FeedTimes = field(default_factory=lambda: FeedTimes(silence_s=0.05, stall_notice_s=0.0))
    heard_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def __post_init__(self) -> None:
        self.reasons: list[StallReason | None] = []
        loop = asyncio.get_running_loop()
        self.stall = Stall(self.reasons.append, times=self.times, unheard_s=lambda: loop.time() - self.heard_at)

    def hear(self) -> None:
        self.heard_at = asyncio.get_running_loop().time()


async def test_a_read_without_success_is_told_once_and_its_success_ends_it() -> None:
    told = Told()
    told.stall.read_due()
    told.stall.read_due()
    await until(lambda: bool(told.reasons))

    told.stall.answered()
    told.stall.answered()

    assert told.reasons == [LOG, None]


async def test_a_read_is_overdue_even_while_the_node_is_heard() -> None:
    told = Told(heard_at=NEVER_S * 1000)
    told.stall.read_due()

    await until(lambda: told.reasons == [LOG])


async def test_a_node_unheard_for_long_is_told_at_once() -> None:
    told = Told()
    told.heard_at -= 1.0

    told.stall.unheard()

    assert told.reasons == [LOG]


async def test_a_node_that_was_heard_in_time_is_not_told() -> None:
    told = Told(FeedTimes(silence_s=0.05))
    other = Told(FeedTimes(silence_s=0.1))
    told.stall.unheard()
    other.stall.unheard()
    told.heard_at = NEVER_S * 1000

    await until(lambda: other.reasons == [LOG])

    assert told.reasons == []


async def test_an_answer_before_the_time_is_up_tells_nothing() -> None:
    told = Told()
    other = Told()
    for stall in (told.stall, other.stall):
        stall.read_due()

    told.stall.answered()
    await until(lambda: other.reasons == [LOG])

    assert told.reasons == []


async def test_the_log_goes_before_the_worker() -> None:
    told = Told()
    told.stall.leased(False)
    told.heard_at -= 1.0
    told.stall.unheard()

    told.stall.answered()
    told.stall.leased(True)

    assert told.reasons == [WORKER, LOG, WORKER, None]


async def test_a_missing_lease_is_suspect_until_it_is_told() -> None:
    told = Told(FeedTimes(stall_notice_s=0.02))
    told.stall.leased(False)
    assert told.stall.is_suspect

    async with asyncio.timeout(5):
        while not told.reasons:
            told.stall.leased(False)
            await asyncio.sleep(0)

    assert told.reasons == [WORKER]
    assert not told.stall.is_suspect


async def test_entries_prove_that_somebody_writes() -> None:
    told = Told()
    told.stall.leased(False)

    told.stall.moved()

    assert told.reasons == [WORKER, None]
    assert not told.stall.is_suspect


async def test_a_closed_stall_tells_nothing_more() -> None:
    told = Told()
    other = Told()
    told.stall.read_due()
    other.stall.read_due()

    told.stall.close()
    await until(lambda: other.reasons == [LOG])

    assert told.reasons == []
