"""Real processes for end-to-end tests: workers and front-ends, started from nothing or forked, ended by pid."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from tests.support.apps.prepared import fork, is_prepared

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0


class Process(Protocol):
    """What tests use of a process."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    async def wait(self) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@dataclass
class Running:
    """One process of ours; its output goes to ``log``."""

    process: Process
    log: Path
    url: str = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def end(self) -> int:
        """SIGTERM (SIGCONT first), SIGKILL when that does not help; the exit code."""
        if self.process.returncode is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            try:
                async with asyncio.timeout(END_TIMEOUT_S):
                    await self.process.wait()
            except TimeoutError:
                await self.kill()
        return self.process.returncode or 0

    async def logged(self, text: str, timeout_s: float = START_TIMEOUT_S) -> str:
        """The first line of its output that contains ``text``."""
        async with asyncio.timeout(timeout_s):
            while True:
                for line in self.log.read_text("utf-8", "replace").split("\n"):
                    if text in line:
                        return line
                if self.process.returncode is not None:
                    raise AssertionError(f"ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
                await asyncio.sleep(0.02)


@asynccontextmanager
async def running_program(
    *command: str, environment: Mapping[str, str], folder: Path, log: Path
) -> AsyncIterator[Running]:
    """A program in this folder, without stdin, its output in ``log``; it is ended with the block."""
    running = Running(await _start_program(*command, environment=environment, folder=folder, log=log), log)
    try:
        yield running
    finally:
        await running.end()


async def _start_program(
    *command: str, environment: Mapping[str, str], folder: Path | None, log: Path
) -> asyncio.subprocess.Process:
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *command, env=environment, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output
        )


@dataclass
class Stack:
    """Workers and front-ends over one Redis, of the code in ``code`` (None: this checkout's)."""

    folder: Path
    environment: Mapping[str, str]
    started: list[Running] = field(default_factory=list)
    code: Path | None = None
    numbers: itertools.count[int] = field(default_factory=itertools.count)  # of logs: several may be starting at once

    def of(self, code: Path | None) -> Stack:
        """The same stack, starting processes of another version's code; ending one ends both."""
        return replace(self, code=code)

    async def start(self, *command: str, environment: Mapping[str, str] | None = None) -> Running:
        """Start ``python -m …``; workers and front-ends of this checkout's code are forked (prepared.py)."""
        log = self.folder / f"{next(self.numbers)}-{command[0]}.log"
        whole = {**os.environ, **self.environment, **self._code_path(), **(environment or {})}
        if "worker" in command[0]:
            whole |= _patience_of_a_worker(whole)
        process = await self._start(command, whole, log)
        running = Running(process, log)
        self.started.append(running)
        return running

    async def _start(self, command: tuple[str, ...], environment: Mapping[str, str], log: Path) -> Process:
        if self.code is None and is_prepared(command):
            return await fork(command, environment=environment, output=log)
        # `python -m` searches in its working folder first.
        return await _start_program(sys.executable, "-m", *command, environment=environment, folder=self.code, log=log)

    def _code_path(self) -> dict[str, str]:
        return {} if self.code is None else {"PYTHONPATH": str(self.code)}

    async def worker(self, **settings: object) -> Running:
        """A worker that is ready; settings as ``lease_ttl_s=1``."""
        running = await self.start("worker", environment=_variables(settings))
        await running.logged("worker_ready")
        return running

    async def front_end(self, **settings: object) -> Running:
        """A front-end that answers, on a free port unless one is given."""
        running = await self.start("broadcaster", "serve", environment=_variables({"port": 0, **settings}))
        line = await running.logged("listening on http")
        running.url = line.partition("listening on ")[2].split()[0]
        return running

    async def aclose(self) -> None:
        """Kill everything that was started, with its children: a worker would finish its answers first."""
        families = [pid for running in self.started for pid in children(running.process.pid)]
        await asyncio.gather(*(running.kill() for running in self.started))
        for pid in families:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _variables(settings: Mapping[str, object]) -> dict[str, str]:
    return {f"BROADCASTER_{name.upper()}": str(value) for name, value in settings.items()}


def _patience_of_a_worker(environment: Mapping[str, str]) -> dict[str, str]:
    """A worker refuses to wait for Redis longer than half of its lease; most tests shorten the lease alone."""
    most_s = float(environment.get("BROADCASTER_LEASE_TTL_S", "5")) / 2
    is_fine = float(environment.get("BROADCASTER_REDIS_TIMEOUT_S", "2")) <= most_s
    return {} if is_fine else {"BROADCASTER_REDIS_TIMEOUT_S": str(most_s)}


def children(pid: int) -> list[int]:
    """Process ids of all descendants. Of a thread or a process that ends meanwhile there are none."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in [*Path(f"/proc/{pid}/task").iterdir()]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for child in map(int, (task / "children").read_text().split()):
                    found += [child, *children(child)]
    return found


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _command(pid: int) -> str:
    """Its command line; empty when it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")[:200].decode("utf-8", "replace")
    return ""


async def until_dead(pids: list[int], timeout_s: float) -> None:
    """Until none of them runs."""
    deadline = time.monotonic() + timeout_s
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, {pid: _command(pid) for pid in left}
        await asyncio.sleep(0.02)


@asynccontextmanager
async def open_stack(folder: Path, *, redis_url: str, provider_url: str, **settings: object) -> AsyncIterator[Stack]:
    """An empty stack whose processes know this Redis and this provider."""
    environment = {
        "BROADCASTER_REDIS_URL": redis_url,
        "ANTHROPIC_BASE_URL": provider_url,
        "ANTHROPIC_API_KEY": "test-key",
        "PYTHONUNBUFFERED": "1",
        "BROADCASTER_MODEL_LIST_S": "0",  # a script is for the requests of the test alone
        **_variables(settings),
    }
    async with AsyncExitStack() as stack:
        opened = Stack(folder, environment)
        stack.push_async_callback(opened.aclose)
        yield opened
