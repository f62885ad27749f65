"""The worker's report: what it runs, and that nothing waits for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broadcaster.errors import LogUnavailable
from broadcaster.log.inspection.worker_reports import REPORTED_ATTEMPTS, WorkerReport, WorkerReports
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import until
from worker.reports import reporter as reporting
from worker.reports.reporter import WorkerReporter
from worker.runner import Runner
from worker.slots import Slots


def runner(running: int) -> Runner:
    attempts = {
        f"gen_{number}": SimpleNamespace(
            meta=SimpleNamespace(id=f"gen_{number}", model="m", attempts=1), writer=SimpleNamespace(epoch=number)
        )
        for number in range(running)
    }
    slots = Slots(concurrency=100, buffer_bytes=100, max_bytes=1)
    return cast(Runner, SimpleNamespace(attempts=attempts, slots=slots, draining=asyncio.Event()))


class Stored:
    """Takes reports; the first ``refused`` fail."""

    def __init__(self, refused: int = 0) -> None:
        self.reports: list[WorkerReport] = []
        self.refused = refused

    async def put(self, worker: str, report: WorkerReport, *, keep_ms: int) -> None:
        if self.refused:
            self.refused -= 1
            raise LogUnavailable("away")
        self.reports.append(report)


async def run_until(reporter: WorkerReporter, stored: Stored, count: int) -> None:
    task = asyncio.create_task(reporter.run())
    try:
        await until(lambda: len(stored.reports) >= count)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_report_names_a_bounded_number_of_attempts_and_counts_all() -> None:
    stored = Stored()
    await run_until(WorkerReporter(cast(Any, stored), "w", runner=runner(60)), stored, 1)
    (report,) = stored.reports
    assert (report.running, len(report.attempts), report.slots, report.free) == (60, REPORTED_ATTEMPTS, 100, 100)
    assert (report.attempts[0].id, report.attempts[0].granted_ms) == ("gen_59", 59)


async def test_a_report_that_redis_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "REPORT_EVERY_S", 0.01)
    stored = Stored(refused=2)
    await run_until(WorkerReporter(cast(Any, stored), "w", runner=runner(0)), stored, 2)
    assert [report.running for report in stored.reports] == [0, 0]


async def test_a_report_expires_and_ends_with_its_worker(connection: LogConnection) -> None:
    reports = WorkerReports(connection)
    reporter = WorkerReporter(reports, "w", runner=runner(1))
    task = asyncio.create_task(reporter.run())
    key = connection.keys.worker_report("w")
    async with asyncio.timeout(20):
        while not await connection.redis.exists(key):
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert 0 < await connection.redis.pttl(key) <= 10_000
    await reporter.end()
    assert not await connection.redis.exists(key)
