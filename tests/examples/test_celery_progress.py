"""examples/celery_progress over a real Celery worker: live progress, honest ends, a task that Redis cannot hold up."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.documents import REDIS_URL, marked_blocks, started
from tests.support.log.valkey import ValkeyServer, start_valkey
from tests.support.servers.processes import Running, children, until_dead

README = "examples/celery_progress/README.md"
FRAMES = 30
# What the publisher of the example allows any call to take (tasks.py).
TIMEOUT_S = 2.0
# A machine that is busy with other tests.
MARGIN_S = 2.0
RENDERED = "rendered sunrise in "

# A worker takes seconds to start: one of each pool serves all tests, and the last one kills it.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as opened:
        yield opened


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["prefork", pytest.param("threads", marks=pytest.mark.thorough)]
)
async def worker(
    server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Running]:
    """The worker of the README, ready, with one of Celery's pools; no process of it is left."""
    block = marked_blocks(README)["worker"].with_addresses({REDIS_URL: server.url})
    async with started(block.with_options("--pool", request.param), tmp_path_factory.mktemp("worker")) as running:
        await running.logged(" ready.")
        family = children(running.pid)
        yield running
    await until_dead([running.pid, *family], 10)


@asynccontextmanager
async def watching(server: ValkeyServer, folder: Path) -> AsyncIterator[Running]:
    """The README's script that enqueues a task of ``FRAMES`` frames and watches it."""
    block = marked_blocks(README)["watch"].with_addresses({REDIS_URL: server.url})
    async with started(block, folder) as running:
        yield running


async def last_lines(running: Running, code: int) -> list[str]:
    """Every line after the first, once it has ended with this code."""
    async with asyncio.timeout(30):
        await running.process.wait()
    lines = running.log.read_text().strip().split("\n")
    assert running.process.returncode == code, lines
    assert lines[0].startswith("task ")
    return lines[1:]


def frames(lines: list[str]) -> list[int]:
    return [int(line.split("/")[0]) for line in lines if re.match(r" *\d+/\d+ ", line)]


async def test_progress_is_seen_while_the_task_runs(worker: Running, server: ValkeyServer, tmp_path: Path) -> None:
    async with watching(server, tmp_path) as seen:
        await seen.logged("frame 3 of sunrise")
        assert f"frame {FRAMES} " not in seen.log.read_text()
        lines = await last_lines(seen, 0)
    assert frames(lines) == list(range(1, FRAMES + 1))
    assert lines[FRAMES:] == ["result     /films/sunrise.mp4", "finished"]


async def test_a_redis_that_does_not_answer_holds_a_task_no_longer_than_its_timeout(
    worker: Running, server: ValkeyServer, tmp_path: Path
) -> None:
    rendered_before = worker.log.read_text().count(RENDERED)
    async with watching(server, tmp_path) as seen:
        await seen.logged("frame 3 of sunrise")
        server.pause()
        async with asyncio.timeout(30):
            while (worker_log := worker.log.read_text()).count(RENDERED) == rendered_before:
                await asyncio.sleep(0.02)
        server.resume()
        lines = await last_lines(seen, 0)
    took_s = float(worker_log.rpartition(RENDERED)[2].split()[0])
    print(f"{FRAMES} frames of 0.1 s took {took_s} s while Redis was away")
    assert took_s < FRAMES * 0.1 + TIMEOUT_S + MARGIN_S
    # Nothing was lost meanwhile, and the end came too: the publisher sent it once Redis was back.
    assert frames(lines) == list(range(1, FRAMES + 1))
    assert lines[-1] == "finished"


async def test_viewers_are_notified_when_the_worker_is_killed(
    worker: Running, server: ValkeyServer, tmp_path: Path
) -> None:
    async with watching(server, tmp_path) as seen:
        await seen.logged("frame 3 of sunrise")
        for pid in [worker.pid, *children(worker.pid)]:
            os.kill(pid, signal.SIGKILL)
        lines = await last_lines(seen, 1)
    assert len(frames(lines)) < FRAMES
    assert "stalled    worker_lost" in lines
    assert lines[-1].startswith("failed     writer_lost: ")
