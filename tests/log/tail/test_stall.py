"""What a room is notified of while no entry comes: the strongest reason, once, and its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from broadcaster.core.notices import StallReason
from broadcaster.log.tail.options import TailTimes
from broadcaster.log.tail.stall import Stall
from tests.support.log.tail_world import NEVER_S, until

LOG, WORKER = StallReason.LOG_UNAVAILABLE, StallReason.WORKER_LOST


@dataclass
class Stalled:
    """A stall, the reasons that it reported, and a node that last sent something at ``received_at``."""

    times: TailTimes = field(default_factory=lambda: TailTimes(silence_s=0.05, stall_notice_s=0.0))
    received_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    def __post_init__(self) -> None:
        self.reasons: list[StallReason | None] = []
        loop = asyncio.get_running_loop()
        self.stall = Stall(self.reasons.append, times=self.times, node_silent_s=lambda: loop.time() - self.received_at)

    def receive(self) -> None:
        self.received_at = asyncio.get_running_loop().time()


async def test_a_read_without_success_is_reported_once_and_its_success_ends_it() -> None:
    stalled = Stalled()
    stalled.stall.read_due()
    stalled.stall.read_due()
    await until(lambda: bool(stalled.reasons))

    stalled.stall.responded()
    stalled.stall.responded()

    assert stalled.reasons == [LOG, None]


async def test_a_read_is_overdue_even_while_the_node_sends() -> None:
    stalled = Stalled(received_at=NEVER_S * 1000)
    stalled.stall.read_due()

    await until(lambda: stalled.reasons == [LOG])


async def test_a_node_silent_for_long_is_reported_at_once() -> None:
    stalled = Stalled()
    stalled.received_at -= 1.0

    stalled.stall.suspect_silence()

    assert stalled.reasons == [LOG]


async def test_a_node_that_sent_in_time_is_not_reported() -> None:
    stalled = Stalled(TailTimes(silence_s=0.05))
    other = Stalled(TailTimes(silence_s=0.1))
    stalled.stall.suspect_silence()
    other.stall.suspect_silence()
    stalled.received_at = NEVER_S * 1000

    await until(lambda: other.reasons == [LOG])

    assert stalled.reasons == []


async def test_a_response_before_the_time_is_up_reports_nothing() -> None:
    stalled = Stalled()
    other = Stalled()
    for stall in (stalled.stall, other.stall):
        stall.read_due()

    stalled.stall.responded()
    await until(lambda: other.reasons == [LOG])

    assert stalled.reasons == []


async def test_the_log_goes_before_the_worker() -> None:
    stalled = Stalled()
    stalled.stall.leased(False)
    stalled.received_at -= 1.0
    stalled.stall.suspect_silence()

    stalled.stall.responded()
    stalled.stall.leased(True)

    assert stalled.reasons == [WORKER, LOG, WORKER, None]


async def test_a_missing_lease_is_suspect_until_it_is_reported() -> None:
    stalled = Stalled(TailTimes(stall_notice_s=0.02))
    stalled.stall.leased(False)
    assert stalled.stall.is_suspect

    async with asyncio.timeout(20):
        while not stalled.reasons:
            stalled.stall.leased(False)
            await asyncio.sleep(0)

    assert stalled.reasons == [WORKER]
    assert not stalled.stall.is_suspect


async def test_entries_prove_that_a_writer_lives() -> None:
    stalled = Stalled()
    stalled.stall.leased(False)

    stalled.stall.moved()

    assert stalled.reasons == [WORKER, None]
    assert not stalled.stall.is_suspect


async def test_a_closed_stall_sends_nothing_more() -> None:
    stalled = Stalled()
    other = Stalled()
    stalled.stall.read_due()
    other.stall.read_due()

    stalled.stall.close()
    await until(lambda: other.reasons == [LOG])

    assert stalled.reasons == []
