"""What every process counts about itself: its event loop, its memory and CPU, and the limits that were reached."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

from broadcaster import __version__
from broadcaster.observability.counting import SHORT_S, Buckets, Reading, counted
from broadcaster.observability.limits import REACHED

ProcessKind: TypeAlias = Literal["front-end", "worker"]

SAMPLE_EVERY_S: Final = 0.5
DESCRIPTORS_EVERY_S: Final = 10.0
_STATM: Final = Path("/proc/self/statm")
_DESCRIPTORS: Final = Path("/proc/self/fd")


class ProcessCounts:
    """One for each process; ``run`` samples the event loop."""

    def __init__(self, kind: ProcessKind) -> None:
        self._kind = kind
        self._started_at = time.time()
        self._loop_lag = Buckets(SHORT_S)
        self._descriptors: int | None = None
        self._counted_at = 0.0  # on the monotonic clock

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SAMPLE_EVERY_S
            await asyncio.sleep(SAMPLE_EVERY_S)
            self._loop_lag.observe(max(0.0, loop.time() - due))

    def readings(self) -> Iterator[Reading]:
        """See ``Source``."""
        kind = (self._kind,)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield Reading("broadcaster_event_loop_lag_seconds", self._loop_lag)
        yield Reading("broadcaster_processes", 1, kind)
        yield Reading("broadcaster_build_info", 1, (__version__, platform.python_version()))
        yield Reading("broadcaster_process_cpu_seconds_total", usage.ru_utime + usage.ru_stime, kind)
        yield Reading("broadcaster_process_resident_memory_bytes", _resident_bytes(usage), kind)
        if (descriptors := self._open_descriptors()) is not None:
            yield Reading("broadcaster_process_open_fds", descriptors, kind)
        yield Reading("broadcaster_process_start_time_seconds", self._started_at, kind)
        yield from counted("broadcaster_limit_reached_total", REACHED)

    def _open_descriptors(self) -> int | None:
        """Counting those of ten thousand viewers takes milliseconds: the number may be some seconds old."""
        now = time.monotonic()
        if self._descriptors is None or now - self._counted_at > DESCRIPTORS_EVERY_S:
            self._counted_at = now
            with contextlib.suppress(OSError):
                self._descriptors = len(os.listdir(_DESCRIPTORS))
        return self._descriptors


def _resident_bytes(usage: resource.struct_rusage) -> int:
    """Resident memory now; the most there was, where the system does not show it."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
