"""Several front-ends on one port, one process each, and the parent that supervises them and serves nothing itself.

1. Each process is a whole, independent front-end with its own event loop, hub, tail and Redis connections.
2. If one dies, the parent restarts it after a pause that grows while it keeps dying, jittered, at most half a minute.
   Its viewers resume at the others. If its event loop sends no beat for half a minute, the parent kills it first. The
   parent also kills one that does not serve two minutes after its start. It counts beats of its own loop, so that it
   kills no process after its machine was suspended.
3. Failed starts do not repeat for ever: the parent ends with the failure at once if the child has sent it, else after
   the third in a row. After all have served, it ends only when none serves any more: one must not end the others.
4. The first SIGTERM or SIGINT drains all of them at once, the second ends them without a drain. A process that has not
   ended when its window is over is killed. Ctrl-C reaches them only through the parent: they have their own session.
5. They end when the parent is gone (``parent_channel.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from broadcaster.cli.processes.parent_channel import (
    DRAIN,
    END,
    ENDS_IMPORTS,
    SERVING,
    RequestedFault,
    read_failure,
    read_fault,
)
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.core.backoff import BackOff
from broadcaster.observability.logs import get_logger
from broadcaster.process.child_environment import front_end_environment, with_variables
from broadcaster.web.server.listener import SPREADS, share

_log = get_logger(__name__)

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_END_AT_ONCE_S: Final = 1.0
_PAUSES: Final = BackOff(0.2, 30.0)
_MODULE: Final = "broadcaster.cli.processes.front_end"


@dataclass(frozen=True, slots=True)
class Supervision:
    """The parent's bounds: the interval of a front-end's beats, how many it may miss, and how many may pass until it
    serves; how often a start may fail; the pauses before a restart; and the time beyond its window in which a front-end
    may end its last requests and close its connections."""

    beat_s: float = 5.0
    max_missed_beats: int = 6
    max_start_beats: int = 24
    tries: int = 3
    pauses: BackOff = _PAUSES
    end_spare_s: float = 4.0


class DemoFrontEnd(NamedTuple):
    """The module that a front-end of `broadcaster demo` runs, and what is called with a fault that it names."""

    module: str
    cause: Callable[[RequestedFault, FrontEndProcesses], None]


class _End(NamedTuple):
    """How a front-end ended, or why it could not start. ``failure``: the one that it sent, if any."""

    pid: int | None
    status: str
    had_served: bool
    failure: CommandFailed | None


class _FrontEnd:
    """One process, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, line: asyncio.StreamWriter) -> None:
        self.process = process
        self.has_served = False
        self.failure: CommandFailed | None = None
        self.missed_beats = 0
        self._channel = line

    @property
    def end(self) -> _End:
        """How it ended."""
        code = self.process.returncode or 0
        status = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if self.failure is not None:
            status = f"{status}: {self.failure}"
        return _End(self.process.pid, status, self.has_served, self.failure)

    def record(self, line: str) -> None:
        """Take a message of the child."""
        self.missed_beats = 0
        self.has_served |= line == SERVING
        self.failure = read_failure(line) or self.failure

    def send(self, message: str) -> None:
        """Send ``DRAIN`` or ``END``."""
        if not self._channel.is_closing():
            self._channel.write(f"{message}\n".encode())

    def drain(self) -> None:
        """Let it drain and end. One that has not served yet also gets a signal: its imports take seconds on a busy
        machine, and the signal ends them."""
        self.send(DRAIN)  # first: a child that ignores the signal finds the message
        if not self.has_served:
            self.signal(ENDS_IMPORTS)

    def signal(self, number: signal.Signals) -> None:
        """Send it, unless it has ended."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def close(self) -> None:
        """Kill the process if it runs, and close its channel."""
        self.signal(signal.SIGKILL)
        self._channel.transport.abort()
        await self.process.wait()


class FrontEndProcesses:
    """``count`` front-ends on the port of ``listener``, which stays bound in this process and does not listen here.

    ``environment`` is added to the part of ours that a front-end may have; ``provider_keys`` are the variables of
    providers' keys, which are removed. ``spreads``: each child has its own socket; otherwise all share ``listener``.
    ``on_end`` is called with the process id of each that has ended, and must not raise. ``demo``: they serve
    `broadcaster demo`.
    """

    def __init__(
        self,
        count: int,
        listener: socket.socket,
        *,
        environment: Mapping[str, str],
        provider_keys: Collection[str] = (),
        drain_s: float,
        supervision: Supervision | None = None,
        spreads: bool = SPREADS,
        rng: random.Random | None = None,
        on_end: Callable[[int], None] | None = None,
        demo: DemoFrontEnd | None = None,
    ) -> None:
        self._demo = demo
        self._count = count
        self._on_end = on_end
        self._listener = listener
        self._spreads = spreads
        if spreads:
            share(listener)
        overrides = {**environment, "BROADCASTER_PORT": str(self.port), "BROADCASTER_PROCESSES": "1"}
        ours = front_end_environment(os.environ, provider_keys=provider_keys)
        self._environment = with_variables(ours, overrides)
        self._drain_s = drain_s
        self._supervision = supervision or Supervision()
        self._rng = rng or random.Random()
        self._front_ends: set[_FrontEnd] = set()
        self._served: set[int] = set()
        self._has_started = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self._last_resort: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port they listen on."""
        return int(self._listener.getsockname()[1])

    async def until_started(self) -> None:
        """Wait until all of them have served. Also wait for ``serve()``, which raises if a start fails."""
        await self._has_started.wait()

    def request_stop(self) -> None:
        """Drain and end, as the first signal does; the second call ends at once."""
        is_first = not self._is_stopping.is_set()
        self._is_stopping.set()
        for each in self._front_ends:
            if is_first:
                each.drain()
            else:
                each.send(END)
        if self._last_resort is not None:
            self._last_resort.cancel()
        patience_s = self._drain_s + self._supervision.end_spare_s if is_first else _END_AT_ONCE_S
        self._last_resort = asyncio.get_running_loop().call_later(patience_s, self._kill)

    def request_drain(self) -> None:
        """Drain and end. Calls after the first, or after a signal, change nothing."""
        if not self._is_stopping.is_set():
            self.request_stop()

    def kill(self, pid: int) -> None:
        """SIGKILL for this front-end, which is then restarted."""
        for each in self._front_ends:
            if each.process.pid == pid:
                each.signal(signal.SIGKILL)

    async def serve(self) -> None:
        """Supervise them until a signal or ``request_stop``. Raises CommandFailed if they cannot be started."""
        keeping = [asyncio.create_task(self._keep_one(number)) for number in range(1, self._count + 1)]
        watching = asyncio.create_task(self._watch())
        try:
            with self._taken_signals():
                _, others = await asyncio.wait(keeping, return_when=asyncio.FIRST_EXCEPTION)
                if others:  # one of them gave up
                    if not self._is_stopping.is_set():
                        self.request_stop()
                    await asyncio.wait(others)
        finally:
            for task in (watching, *keeping):
                task.cancel()
            ends = await asyncio.gather(watching, *keeping, return_exceptions=True)
            if self._last_resort is not None:
                self._last_resort.cancel()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _keep_one(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        pauses = self._supervision.pauses
        failures = failed_starts = 0
        while not self._is_stopping.is_set():
            begun_at = loop.time()
            end = await self._run_one(number)
            if self._is_stopping.is_set():
                return
            failures = 1 if loop.time() - begun_at > pauses.cap_s else failures + 1
            failed_starts = 0 if end.had_served else failed_starts + 1
            self._give_up(end, failed_starts)
            pause_s = pauses.pause_s(failures, luck=self._rng.random())
            _log.error(
                "front_end_died",
                number=number,
                pid=end.pid,
                status=end.status,
                had_served=end.had_served,
                failures=failures,
                retry_in_s=round(pause_s, 1),
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._is_stopping.wait()

    def _give_up(self, end: _End, failed_starts: int) -> None:
        """Raises CommandFailed by rule 3."""
        if end.had_served or (self._has_started.is_set() and any(each.has_served for each in self._front_ends)):
            return
        if end.failure is not None:
            raise end.failure
        if failed_starts >= self._supervision.tries:
            raise CommandFailed(
                f"a front-end process ended at its start, {failed_starts} times in a row ({end.status}); see its log",
                ExitCode.FAILED,
            )

    async def _run_one(self, number: int) -> _End:
        try:
            front_end, lines = await self._begin(number)
        except OSError as error:  # no process, memory or descriptor is free now
            return _End(None, str(error), had_served=False, failure=None)
        self._front_ends.add(front_end)
        if self._is_stopping.is_set():
            front_end.drain()
        try:
            with contextlib.suppress(ConnectionError):  # it has ended with unread messages
                async for line in lines:
                    had_served = front_end.has_served
                    message = line.decode("utf-8", "replace").rstrip("\n")
                    front_end.record(message)
                    fault = None if self._demo is None else read_fault(message, front_end.process.pid)
                    if self._demo is not None and fault is not None:
                        self._demo.cause(fault, self)
                    if front_end.has_served and not had_served:
                        self._note_served(number, front_end.process.pid)
            await front_end.process.wait()
        finally:
            self._front_ends.discard(front_end)
            await front_end.close()
            if self._on_end is not None:
                self._on_end(front_end.process.pid)
        return front_end.end

    def _note_served(self, number: int, pid: int) -> None:
        _log.info("front_end_serves", number=number, pid=pid)
        self._served.add(number)
        if len(self._served) == self._count:
            self._has_started.set()

    async def _begin(self, number: int) -> tuple[_FrontEnd, asyncio.StreamReader]:
        ours, theirs = socket.socketpair()
        inherited = [theirs.fileno(), *([] if self._spreads else [self._listener.fileno()])]
        with theirs:
            lines, line = await asyncio.open_unix_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    # -P: no module of the current folder replaces one of ours.
                    *(sys.executable, "-P", "-m", _MODULE if self._demo is None else self._demo.module, str(number)),
                    *(str(inherited[0]), str(self._supervision.beat_s), *map(str, inherited[1:])),
                    stdin=asyncio.subprocess.DEVNULL,
                    env=self._environment,
                    pass_fds=inherited,
                    start_new_session=True,
                )
            except BaseException:
                line.transport.abort()
                raise
        return _FrontEnd(process, line), lines

    async def _watch(self) -> None:
        """Kill each front-end that has missed too many beats, or does not begin to serve."""
        bounds = self._supervision
        while True:
            await asyncio.sleep(bounds.beat_s)
            for each in self._front_ends:
                each.missed_beats += 1
                most = bounds.max_missed_beats if each.has_served else bounds.max_start_beats
                if each.missed_beats > most and not self._is_stopping.is_set():
                    _log.error("front_end_hangs", pid=each.process.pid)
                    each.signal(signal.SIGKILL)

    def _kill(self) -> None:
        for each in self._front_ends:
            _log.error("front_end_killed", pid=each.process.pid)
            each.signal(signal.SIGKILL)

    @contextmanager
    def _taken_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.request_stop)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
