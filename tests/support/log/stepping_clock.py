"""A server whose wall clock a test steps while it runs; its monotonic clock and the clocks of others stay as they are.

A small library in C (stepping_clock.c), compiled here once, is preloaded into the server.
"""

from __future__ import annotations

import struct
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.support.log.valkey import ValkeyServer, start_valkey

_SOURCE = Path(__file__).with_suffix(".c")


class SteppingClock:
    """How far the server's clock is off."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._off_s = 0.0
        self._write()

    def step(self, seconds: float) -> None:
        """Step forward, or (less than 0) back."""
        self._off_s += seconds
        self._write()

    def _write(self) -> None:
        # In place: the server has mapped it.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("q", int(self._off_s * 1_000_000)))


@contextmanager
def start_stepping(folder: Path, *, port: int | None = None) -> Iterator[tuple[ValkeyServer, SteppingClock]]:
    """A running server and its clock."""
    file = folder / "clock"
    clock = SteppingClock(file)
    environment = {"LD_PRELOAD": str(_library()), "STEPPING_CLOCK": str(file)}
    with start_valkey(folder, port=port, environment=environment) as server:
        yield server, clock


@cache
def _library() -> Path:
    built = Path(tempfile.mkdtemp(prefix="bc-clock-")) / "stepping_clock.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    command = [*compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return built
