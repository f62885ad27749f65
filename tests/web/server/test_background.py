"""What runs beside a front-end: a defect ends none of it for good."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from redis import exceptions as rex
from structlog.testing import capture_logs

from broadcaster.core.backoff import BackOff
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.web.server.background import PAUSES, Begin, kept_running
from tests.support.servers.scripted_server import open_scripted

DEADLINE_S: Final = 30.0
SOON: Final = BackOff(0.01, 0.02)
REFUSED: Final = rex.ResponseError("NOPERM User default has no permissions to run the 'del' command")


class Beginnings:
    """Each beginning fails until ``fails`` are over; the next runs until it is cancelled."""

    def __init__(self, fails: int) -> None:
        self.fails = fails
        self.begun = 0
        self.is_running = asyncio.Event()
        self.was_cancelled = False

    async def run(self) -> None:
        self.begun += 1
        if self.begun <= self.fails:
            raise RuntimeError(f"defect {self.begun}")
        self.is_running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


async def test_a_task_that_failed_is_reported_restarted_and_cancelled_at_the_end() -> None:
    once, sound = Beginnings(fails=1), Beginnings(fails=0)
    with capture_logs() as logged:
        async with kept_running({"once": once.run, "sound": sound.run}, pauses=SOON), asyncio.timeout(DEADLINE_S):
            await once.is_running.wait()
            await sound.is_running.wait()
    assert (once.begun, sound.begun) == (2, 1)
    assert once.was_cancelled
    assert sound.was_cancelled
    assert [(each["event"], each["log_level"], each["task"]) for each in logged] == [
        ("front_end_task_failed", "critical", "once")
    ]


async def test_a_task_that_waits_for_its_restart_is_ended_with_the_rest() -> None:
    failing = Beginnings(fails=1)
    async with asyncio.timeout(DEADLINE_S):
        async with kept_running({"failing": failing.run}, pauses=BackOff(3600, 3600)):
            await until(lambda: failing.begun == 1)
    assert failing.begun == 1


async def test_a_task_that_returns_is_not_restarted() -> None:
    ends = 0

    async def end() -> None:
        nonlocal ends
        ends += 1

    failing = Beginnings(fails=3)
    begins: dict[str, Begin] = {"ends": end, "failing": failing.run}
    async with kept_running(begins, pauses=SOON), asyncio.timeout(DEADLINE_S):
        await failing.is_running.wait()
    assert ends == 1


def test_pauses_grow_are_jittered_and_have_a_bound() -> None:
    rng = random.Random(1)
    for failures, full_s in ((1, 1.0), (2, 2.0), (5, 16.0), (7, 60.0), (10_000, 60.0)):
        drawn = [PAUSES.pause_s(failures, luck=rng.random()) for _ in range(100)]
        assert full_s / 2 <= min(drawn) < max(drawn) <= full_s


class NotedPauses(BackOff):
    """Remembers the failures in a row that it was called with."""

    runs: Final[list[int]] = []

    def pause_s(self, failures: int, *, luck: float) -> float:
        self.runs.append(failures)
        return 0.0


async def test_a_task_that_ran_for_long_before_it_failed_is_restarted_as_after_a_first_failure() -> None:
    pauses = NotedPauses(1.0, 0.05)
    failing = Beginnings(fails=2)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(loop.time() + 2 * pauses.cap_s):
            await failing.run()

    async with kept_running({"failing": run}, pauses=pauses), asyncio.timeout(DEADLINE_S):
        await until(lambda: len(pauses.runs) >= 4)
    assert pauses.runs[:4] == [1, 2, 1, 1]


async def test_the_probe_of_redis_goes_on_after_an_unexpected_reply() -> None:
    """Rights that were taken from us, and given back."""
    async with open_scripted(CLIENT=b"OK", INFO=b"run_id:abc\r\n", TIME=clock, DEL=REFUSED) as server:
        server.replies["CLIENT ID"] = 7
        async with LogConnection(f"redis://127.0.0.1:{server.port}") as connection:
            steadiness = Steadiness(connection, lease_ttl_s=1.0)
            async with kept_running({"steadiness": steadiness.run}, pauses=SOON), asyncio.timeout(DEADLINE_S):
                await until(lambda: any(each.startswith("DEL") for each in server.received))
                server.replies["DEL"] = 0
                await steadiness.answering.wait()
                await until(lambda: steadiness.is_steady)


def clock() -> list[bytes]:
    """Redis's answer to TIME: seconds and microseconds."""
    return [b"%d" % part for part in divmod(time.time_ns() // 1000, 10**6)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)
