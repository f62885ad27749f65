"""Processes under measurement: started, asked for their CPU and memory, ended by pid.

CPU is what the kernel counted for every living thread of a process and of its children, in nanoseconds
(/proc/PID/task/TID/schedstat; the same clock as in /proc/PID/stat, which shows it in hundredths of a second). Memory
is PSS: private pages, and of shared ones this process's part.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from broadcaster.process.lifeline import die_with_parent

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_START_S: Final = 30.0
_END_S: Final = 5.0
_POLL_S: Final = 0.02


class ProcessEnded(Exception):
    """A process ended that should be running, or did not come up; with its last output."""


class Child:
    """One process of ours and its children. Its output goes to ``log``."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        """``output``: where standard output goes, when not into the log."""
        self.log = log
        with log.open("ab") as errors, (output or log).open("ab") as printed:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                preexec_fn=die_with_parent,  # noqa: PLW1509 - between fork and exec it makes one system call
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal while it runs."""
        if self.is_running:
            self._process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended by itself within ``timeout_s``."""
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_for_port(self, port: int) -> None:
        """Until it listens there. Raises ProcessEnded."""
        deadline = time.monotonic() + _START_S
        while self.is_running and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(_POLL_S)
        raise ProcessEnded(f"{self.log.stem} does not listen: {self.last_output()}")

    def last_output(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace").strip()[-300:]

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help, or to children that outlive it. Idempotent."""
        family = tree(self.pid) if self.is_running else []
        self.send(signal.SIGTERM)
        if not self.wait(_END_S):
            self._process.kill()
            self._process.wait()
        for pid in family[1:]:
            _kill(pid)


def until_printed(child: Child, words: str) -> str:
    """The first line of its log that holds these words. Raises ProcessEnded."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and child.is_running:
        for line in child.log.read_text("utf-8", "replace").split("\n"):
            if words in line:
                return line
        time.sleep(_POLL_S)
    raise ProcessEnded(f"{child.log.stem} did not print {words!r}: {child.last_output()}")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        for thread in _threads(found[-1]):
            todo += [int(child) for child in _read(thread / "children").split()]
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that these processes and their children have used so far."""
    return sum(_cpu_of(pid) for root in pids for pid in tree(root))


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory of these processes and their children, in bytes."""
    total = 0
    for root in pids:
        for pid in tree(root):
            for line in _read(Path(f"/proc/{pid}/smaps_rollup")).split("\n"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def socket_counts(pids: Iterable[int]) -> list[int]:
    """How many sockets each of these processes holds."""
    counts = []
    for pid in pids:
        names = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
        counts.append(sum(name.startswith("socket:") for name in names))
    return counts


def kernel_tcp_bytes() -> int:
    """What TCP buffers of this whole machine hold in the kernel."""
    for line in _read(Path("/proc/net/sockstat")).split("\n"):
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def free_ports(count: int) -> list[int]:
    """So many free ports of the loopback."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _cpu_of(pid: int) -> float:
    threads = [_read(thread / "schedstat").split() for thread in _threads(pid)]
    if counted := [int(words[0]) for words in threads if words]:
        return sum(counted) / 1e9
    words = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS_PER_S if words else 0.0


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""
