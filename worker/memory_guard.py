"""The guard of the worker's memory: close to its limit, the worker fails the answer that grows, and keeps running.

If the system killed the worker for its memory, another worker would take over all its answers. The growing answer
would then kill that worker too.

Rules
1. Every CHECK_S the guard reads the process's resident memory. At or above the limit it fails the answer that has grown
   most since the last check. If no answer has grown, it fails none: ending one would free nothing.
2. It fails the next one only after the memory has grown by a further STEP_SHARE of the limit: the process reuses the
   memory of an ended answer, but returns it to the system late or never.

Theory of operation. Python does not count memory by task. Nearly all memory of an answer grows with the bytes that its
provider sends and with its writer's re-send buffer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from broadcaster.process.control_groups import usable_bytes

_log = get_logger(__name__)

CHECK_S: Final = 0.1
STEP_SHARE: Final = 0.01
_SHARE: Final = 0.9
_STATM: Final = "/proc/self/statm"
_STATM_BYTES: Final = 256  # more than its seven numbers have


class Growing(Protocol):
    """An answer under way."""

    @property
    def size_bytes(self) -> int:
        """Bytes that it has received and buffers: a measure, not its memory."""

    def fail_for_memory(self) -> None:
        """End it with an error."""


class MemoryGuard:
    """See the module's rules."""

    def __init__(
        self, limit_bytes: int, running: Callable[[], Mapping[str, Growing]], *, read_bytes: Callable[[], int]
    ) -> None:
        """``running`` returns the running answers by stream id, ``read_bytes`` the resident memory."""
        self._limit_bytes = limit_bytes
        self._running = running
        self._read_bytes = read_bytes
        self._sizes: dict[str, int] = {}
        self._fails_from_bytes = limit_bytes

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            self.check()

    def check(self) -> None:
        """Rules 1 and 2."""
        running = self._running()
        sizes = {name: answer.size_bytes for name, answer in running.items()}
        grown = {name: size - self._sizes.get(name, 0) for name, size in sizes.items()}
        self._sizes = sizes
        used_bytes = self._read_bytes()
        if used_bytes < self._limit_bytes:
            self._fails_from_bytes = self._limit_bytes
        elif used_bytes >= self._fails_from_bytes and max(grown.values(), default=0) > 0:
            name = max(grown, key=grown.__getitem__)
            self._fails_from_bytes = used_bytes + int(self._limit_bytes * STEP_SHARE)
            _log.error(
                "memory_low",
                stream=name,
                used_bytes=used_bytes,
                limit_bytes=self._limit_bytes,
                answer_bytes=sizes[name],
                grown_bytes=grown[name],
            )
            limit_reached("WORKER_MEMORY_BYTES")
            running[name].fail_for_memory()


async def guard_memory(limit_bytes: int | None, running: Callable[[], Mapping[str, Growing]]) -> None:
    """Guard this process until cancelled; end at once if its memory cannot be read. No limit given: ``safe_bytes``.

    The file stays open: a process that is out of descriptors can still read its memory.
    """
    try:
        statm = os.open(_STATM, os.O_RDONLY)
    except OSError as error:
        _log.info("memory_unguarded", why=error.strerror)
        return
    try:
        await MemoryGuard(limit_bytes or safe_bytes(), running, read_bytes=partial(_resident_bytes, statm)).run()
    finally:
        os.close(statm)


def _resident_bytes(statm: int) -> int:
    return int(os.pread(statm, _STATM_BYTES, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")


def safe_bytes(root: Path = Path("/")) -> int:
    """Nine tenths of what this process may use."""
    return int(usable_bytes(root) * _SHARE)
