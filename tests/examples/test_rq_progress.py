"""examples/rq_progress over a real RQ worker: live progress, and the honest end of a job whose process was killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.documents import REDIS_URL, ROOT, Block, marked_blocks, run_to_its_end, started
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.processes import Running, children, until_dead
from tests.support.servers.programs import lacking

README = "examples/rq_progress/README.md"
PACKAGES = ROOT / ".venv" / "hosts"
PATH = os.pathsep.join(map(str, (ROOT, PACKAGES)))
DEADLINE_S = 30.0


@pytest.fixture
async def worker(server: ValkeyServer, tmp_path: Path) -> AsyncIterator[Running]:
    """The worker of the README."""
    if not (PACKAGES / "rq").is_dir():
        lacking("no RQ here: get it with `make hosts`")
    block = marked_blocks(README)["worker"].with_addresses({REDIS_URL: server.url})
    path = os.pathsep.join([str(PACKAGES / "bin"), os.environ["PATH"]])
    async with started(block, tmp_path, PYTHONPATH=PATH, PATH=path) as running:
        await running.logged("Listening on progress")
        yield running
    await until_dead([running.pid, *children(running.pid)], 10)


async def test_progress_is_seen_while_the_job_runs_and_a_killed_job_ends_as_lost(
    worker: Running, server: ValkeyServer, tmp_path: Path
) -> None:
    block = marked_blocks(README)["watch"].with_addresses({REDIS_URL: server.url})
    (tmp_path / "first").mkdir()
    async with started(block, tmp_path / "first", PYTHONPATH=PATH, SECONDS_PER_ROW="0.02") as seen:
        await seen.logged("row 3 of orders")
        async with asyncio.timeout(DEADLINE_S):
            assert await seen.process.wait() == 0
        lines = seen.log.read_text().strip().split("\n")
        assert lines[1:] == [*(f"{row:>4}/30  row {row} of orders" for row in range(1, 31)), "finished"]
    (tmp_path / "second").mkdir()
    async with started(block, tmp_path / "second", PYTHONPATH=PATH) as seen:
        await seen.logged("row 3 of orders")
        (child,) = children(worker.pid)
        os.kill(child, signal.SIGKILL)
        async with asyncio.timeout(DEADLINE_S):
            assert await seen.process.wait() == 1
        assert seen.log.read_text().strip().endswith("failed: writer_lost")


RUN_TWICE = """
from redis import Redis
from rq import Queue, SimpleWorker

from examples.rq_progress import jobs
from examples.rq_progress.watch import REDIS_URL, watch

connection = Redis.from_url(REDIS_URL)
queue = Queue("once", connection=connection)
worker = SimpleWorker([queue], connection=connection)
jobs.SECONDS_PER_ROW = -1  # the first run fails
job = queue.enqueue(jobs.load, "orders", 3)
worker.work(burst=True)
assert not watch(job)
jobs.SECONDS_PER_ROW = 0
job.requeue()
worker.work(burst=True)
assert watch(job)
print(job.get_status(), job.return_value())
"""


async def test_a_job_that_has_failed_and_is_run_once_more_is_seen_to_its_end(
    server: ValkeyServer, tmp_path: Path
) -> None:
    if not (PACKAGES / "rq").is_dir():
        lacking("no RQ here: get it with `make hosts`")
    twice = Block("twice", "python", RUN_TWICE)
    printed = await run_to_its_end(twice, tmp_path, PYTHONPATH=PATH, BROADCASTER_REDIS_URL=server.url)
    shown = [line for line in printed.split("\n") if "row " in line or line.startswith("f") or "Status" in line]
    assert shown == [
        "failed: publisher_failed",
        *(f"{row:>4}/3  row {row} of orders" for row in range(1, 4)),
        "finished",
        "JobStatus.FINISHED 3",
    ]
