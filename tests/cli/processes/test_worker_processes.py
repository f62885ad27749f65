"""The children of `up`: which of them can be killed, and what follows."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from broadcaster.cli.processes.workers import WorkerProcesses
from broadcaster.process.tasks import running

DEADLINE_S = 30.0


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the children, which wait in place of a worker."""
    begin, begun = asyncio.create_subprocess_exec, list[int]()

    async def wait_instead(*_: str, **options: Any) -> asyncio.subprocess.Process:
        process = await begin("sleep", "100", **options)
        begun.append(process.pid)
        return process

    monkeypatch.setattr("broadcaster.cli.processes.workers.asyncio.create_subprocess_exec", wait_instead)
    return begun


async def test_a_worker_of_ours_is_killed_and_replaced_and_no_other_process(pids: list[int]) -> None:
    ended = asyncio.Event()
    workers = WorkerProcesses(2, {}, on_end=lambda _: ended.set())
    async with asyncio.timeout(DEADLINE_S), running(workers.run()):
        await workers.until_begun()
        first, second = pids
        for other in (1, os.getpid(), 0, -1):
            assert not workers.kill(other)
        assert not ended.is_set()
        assert workers.kill(second)
        await ended.wait()
        assert not workers.kill(second)
        while len(pids) < 3:
            await asyncio.sleep(0.02)
    assert first in pids


async def test_a_worker_that_cannot_be_started_is_started_later_and_the_others_run_on(
    pids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = WorkerProcesses(2, {})
    begin, refused = asyncio.create_subprocess_exec, asyncio.Event()

    async def refuse_once(*command: str, **options: Any) -> asyncio.subprocess.Process:
        if not refused.is_set():
            refused.set()
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return await begin(*command, **options)

    async with asyncio.timeout(DEADLINE_S), running(workers.run()):
        await workers.until_begun()
        first, second = pids
        monkeypatch.setattr("broadcaster.cli.processes.workers.asyncio.create_subprocess_exec", refuse_once)
        assert workers.kill(second)
        while len(pids) < 3:
            await asyncio.sleep(0.02)
        assert refused.is_set()
        assert workers.kill(first)  # it runs


async def test_without_workers_nothing_is_waited_for() -> None:
    workers = WorkerProcesses(0, {})
    async with asyncio.timeout(DEADLINE_S), running(workers.run()):
        await workers.until_begun()
