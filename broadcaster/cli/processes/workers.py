"""Worker processes as children: started, restarted when they die, ended in order."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

from broadcaster.observability.logs import get_logger
from broadcaster.process.child_environment import with_variables, worker_environment
from broadcaster.process.lifeline import PARENT_VARIABLE
from broadcaster.process.tasks import end_process

_log = get_logger(__name__)

_BACK_OFF_S: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
_STEADY_S: Final = 30.0
_END_TIMEOUT_S: Final = 2.0


class WorkerProcesses:
    """``count`` children `python -m worker`; a worker gets its part of our environment and ``environment``.

    ``on_end`` is called with the process id of each that has ended, and must not raise.
    """

    def __init__(
        self, count: int, environment: Mapping[str, str], *, on_end: Callable[[int], None] | None = None
    ) -> None:
        self._count = count
        self._on_end = on_end
        ours = worker_environment(with_variables(os.environ, environment))
        self._environment = {**ours, PARENT_VARIABLE: str(os.getpid())}
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._begun: set[int] = set()
        self._have_begun = asyncio.Event()

    async def run(self) -> None:
        """Keep them running until cancelled; then end them within two seconds each, all at once."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._count):
                    tasks.create_task(self._keep_one(number))
        finally:
            self._have_begun.set()

    async def until_begun(self) -> None:
        """Wait until each has been started once: from then on they import beside this process."""
        await self._have_begun.wait()

    def kill(self, pid: int) -> bool:
        """SIGKILL for this worker, which is then restarted; False: it is not one of these, or has ended."""
        process = self._running.get(pid)
        if process is None or process.returncode is not None:
            return False
        process.kill()
        return True

    async def _keep_one(self, number: int) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            status = await self._run_one(number)
            failures = 0 if loop.time() - began > _STEADY_S else failures + 1
            _log.error("worker_died", number=number, status=status, failures=failures)
            await asyncio.sleep(_BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)])

    async def _run_one(self, number: int) -> int | str:
        """The exit code of a worker, or why none could be started."""
        try:
            process = await asyncio.create_subprocess_exec(
                # -P: a worker.py of the current folder is another program.
                *(sys.executable, "-P", "-m", "worker"),
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:  # no process, memory or descriptor is free now
            return str(error)
        self._running[process.pid] = process
        self._begun.add(number)
        if len(self._begun) == self._count:
            self._have_begun.set()
        try:
            return await process.wait()
        finally:
            del self._running[process.pid]
            await end_process(process, timeout_s=_END_TIMEOUT_S)
            if self._on_end is not None:
                self._on_end(process.pid)
