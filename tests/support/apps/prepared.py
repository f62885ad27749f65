"""A process that has imported everything a worker and a front-end need, and forks one on request.

A worker's imports take three seconds of a core and a front-end's more than one, and tests start hundreds of them. What
is forked runs ``python -m …`` from there on as ever: its own environment, arguments, output, signals, exit code. What
is not the same: the modules are there already, so a test about imports or about command lines starts a real one.

    python -u -m tests.support.apps.prepared FILE_DESCRIPTOR

1. One connection per process: a request line (JSON), the answer ``PID\\n``, and ``CODE\\n`` when it has ended.
2. It imports when the first request comes: a run whose tests fork nothing does not pay for it.
3. It ends with the process that started it; what it forked is the tests' own to end, as everything they start.
4. A run has one, however many tests run at once: the process that starts the others calls ``share`` before them.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from broadcaster.process.lifeline import die_with_parent
from worker.forking import __main__ as forking

IMPORTED: Final = (
    *forking.IMPORTED,
    *("broadcaster.cli.main", "broadcaster.cli.processes.serve", "broadcaster.cli.processes.front_end"),
)
RECORDED_WORKER: Final = "tests.faults.workers.recorded_worker"
START_TIMEOUT_S: Final = 110.0
EXEC_VARIABLE: Final = "TESTS_EXEC"
"""Set to anything: every process is started from nothing, as a user's is."""
SHARED_VARIABLE: Final = "PYTEST_PREPARED"
"""The socket of the run's one. A pytest inside a test forks its own: it is given no variable of this pytest."""


class ForkedProcess:
    """What tests use of ``asyncio.subprocess.Process``."""

    def __init__(self, pid: int, ended: asyncio.StreamReader, connection: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._connection = connection
        self._code = asyncio.ensure_future(self._until_ended(ended))

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        """Until it has ended; the exit code, or minus the signal's number."""
        return await asyncio.shield(self._code)

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def _until_ended(self, ended: asyncio.StreamReader) -> int:
        try:
            return int(await ended.readline())
        finally:
            self._connection.close()


def is_prepared(command: tuple[str, ...]) -> bool:
    """Whether this command may be forked."""
    if os.environ.get(EXEC_VARIABLE):
        return False
    is_single = command[0] == "uvicorn" and "--workers" not in command  # several start one another from nothing
    return is_single or command[0] in ("worker", RECORDED_WORKER) or command[:2] == ("broadcaster", "serve")


async def fork(command: tuple[str, ...], *, environment: Mapping[str, str], output: Path) -> ForkedProcess:
    """``python -m`` this command, its output into a file."""
    output.write_bytes(b"")
    reader, writer = await asyncio.open_unix_connection(os.environ.get(SHARED_VARIABLE) or _forge())
    request = {"command": command, "environment": dict(environment), "output": str(output), "folder": str(Path.cwd())}
    writer.write(json.dumps(request).encode() + b"\n")
    async with asyncio.timeout(START_TIMEOUT_S):  # its imports take seconds: the first request waits for them
        line = await reader.readline()
    assert line, "the process that forks the others has ended"
    return ForkedProcess(int(line), reader, writer)


def share() -> None:
    """Let the processes that this one starts from now on use its own."""
    os.environ[SHARED_VARIABLE] = _forge()


@cache
def _forge() -> str:
    """The socket of this process's own, which listens already."""
    folder = tempfile.TemporaryDirectory(prefix="bc-")
    path = str(Path(folder.name) / "forge")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.support.apps.prepared", str(listener.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=(listener.fileno(),),
            preexec_fn=die_with_parent,  # noqa: PLW1509  between fork and exec it makes one system call
        )

    def end() -> None:
        process.terminate()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    return path


# -- the process itself


class Forge:
    """Forks on request, and reports the end of each."""

    def __init__(self, listener: socket.socket) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._children: dict[int, socket.socket] = {}
        self._ended, woken = socket.socketpair()
        self._woken = woken
        for end in (self._ended, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)

    def run(self) -> dict[str, Any]:
        """For ever; it returns in the forked processes alone, with what each is to be."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._ended:
                    self._ended.recv(4096)
                    self._reap()
                else:
                    request = self._fork()
                    if request is not None:
                        return request

    def _fork(self) -> dict[str, Any] | None:
        connection, _ = self._listener.accept()
        with connection.makefile("rb") as lines:
            line = lines.readline()
        if not line.endswith(b"\n"):  # the test that would have requested it is over
            connection.close()
            return None
        request: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            self._leave()
            connection.close()
            return request
        self._children[pid] = connection
        _send(connection, pid)
        return None

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            connection = self._children.pop(pid)
            _send(connection, os.waitstatus_to_exitcode(status))
            connection.close()

    def _leave(self) -> None:
        """In the fork: nothing of this is its own."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for each in (self._listener, self._ended, self._woken, *self._children.values()):
            each.close()


def _send(connection: socket.socket, number: int) -> None:
    try:
        connection.sendall(b"%d\n" % number)
    except OSError:
        return  # the test that requested it is over


def become(request: dict[str, Any]) -> None:
    """Run the command of a request in this process, which is its own from now on."""
    output = os.open(request["output"], os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    name, *arguments = request["command"]
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def main() -> None:
    """Import once the first request waits, and fork on request."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    select.select([listener], [], [])
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    become(Forge(listener).run())


if __name__ == "__main__":
    main()
