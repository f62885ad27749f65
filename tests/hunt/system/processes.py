"""The product's own processes: the installed commands, started, killed, frozen, ended and restarted.

Some seeds fork them from a process that has imported everything (tests/support/apps/prepared.py): there a life begins
at once, and more faults fit into the time. A front-end keeps its port over its lives. One with several processes is one
command whose children serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broadcaster.process.lifeline import die_with_parent
from tests.hunt.system.wire import Broken, call
from tests.support.apps.prepared import fork
from tests.support.servers.processes import Process, children

ROOT: Final = Path(__file__).resolve().parents[3]
COMMAND: Final = Path(sys.executable).parent / "broadcaster"
READY_S: Final = 150.0
END_S: Final = 12.0


@dataclass
class Life:
    """One process of ours over all its lives. ``url`` is a front-end's. ``is_busy``: a fault of it is under way."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    ready: str
    url: str = ""
    lives: int = 0
    is_forked: bool = False
    is_busy: bool = False
    process: Process | None = field(default=None, repr=False)
    frozen: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The command's."""
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether the command has not ended."""
        return self.process is not None and self.process.returncode is None

    @property
    def log(self) -> Path:
        """The output of the life of now."""
        return self.folder / f"{self.name}-{self.lives}.log"

    async def start(self) -> None:
        """Begin a life and wait until it serves. Raises AssertionError when it does not."""
        self.lives += 1
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **self.environment}
        if self.is_forked:
            arguments = self.arguments if self.arguments[0] == "worker" else ("broadcaster", *self.arguments)
            self.process = await fork(arguments, environment=environment, output=self.log)
        else:
            self.process = await self._exec(environment)
        async with asyncio.timeout(READY_S):
            while self.ready not in self.log.read_text("utf-8", "replace"):
                if not self.is_running:
                    raise AssertionError(f"{self.name} ended at its start: {self.log.read_text()[-2000:]}")
                await asyncio.sleep(0.05)

    async def _exec(self, environment: Mapping[str, str]) -> Process:
        with self.log.open("wb") as output:
            return await asyncio.create_subprocess_exec(
                str(COMMAND),
                *self.arguments,
                env=environment,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )

    async def serves(self) -> bool:
        """Whether a front-end answers."""
        try:
            return (await call(self.url, "GET", "/healthz", timeout_s=2.0)).status == 200
        except Broken:
            return False

    async def kill(self) -> None:
        """SIGKILL to the command itself; its children find that out by themselves."""
        self.thaw()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self._gone()

    async def end(self) -> str | None:
        """SIGTERM; SIGKILL when it has not ended in time. What was wrong with how it ended."""
        self.thaw()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(END_S):
                await self._gone()
        except TimeoutError:
            await self.kill()
            return f"{self.name} had not ended {END_S} s after SIGTERM"
        return None

    async def _gone(self) -> None:
        assert self.process is not None
        await self.process.wait()

    def members(self) -> list[int]:
        """The command and its descendants."""
        return [self.pid, *children(self.pid)] if self.is_running else []

    def kill_member(self, share: float) -> bool:
        """SIGKILL to one of the children; False: there is none."""
        young = self.members()[1:]
        if not young:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(young[int(share * len(young))], signal.SIGKILL)
        return True

    def freeze(self) -> None:
        """SIGSTOP to all of it."""
        self.frozen = self.members()
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to whatever was frozen."""
        self._signal(signal.SIGCONT)
        self.frozen = []

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
