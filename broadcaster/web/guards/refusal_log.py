"""Lines about refusals, bounded: a crowd of refused requests must not fill the disk.

Rules
1. In one second, ``per_s`` lines are written about a refusal of one tenant with one code. Further ones are counted.
2. The count of a second is written at its end, in one line with the fields of the last refusal and ``suppressed``.
3. At most ``MAX_KINDS`` pairs of tenant and code are counted apart; the others share one count.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broadcaster.observability.limits import limit_reached
from broadcaster.observability.lines import RefusedRequest
from broadcaster.observability.logs import get_logger

MAX_KINDS: Final = 1000
WINDOW_S: Final = 1.0
DEFAULT_PER_S: Final = 5

_TOO_MANY: Final = 429
_SERVER_FAULT: Final = 500
_log = get_logger(__name__)


@dataclass(slots=True)
class _Window:
    """One second of one kind of refusal."""

    ends_at: float
    written: int = 0
    suppressed: int = 0
    last: RefusedRequest | None = None


class RefusalLog:
    """Writes the lines of one front-end, or of one server."""

    def __init__(self, per_s: int = DEFAULT_PER_S, *, write: Callable[[RefusedRequest], None] | None = None) -> None:
        """``write``: None: to the log."""
        self._per_s = per_s
        self._write = write or _write_line
        self._windows: dict[tuple[str | None, str | None], _Window] = {}
        self.counts: Counter[str] = Counter()
        """Refusals by code since the start. Codes are our own: those of problems, of stop reasons, and of statuses."""

    def add(self, line: RefusedRequest) -> None:
        """Write the line, or count it. Called in the event loop."""
        self.counts[line.code or "unknown"] += 1
        loop = asyncio.get_running_loop()
        kind = (line.tenant, line.code)
        if kind not in self._windows and len(self._windows) >= MAX_KINDS:
            kind = (None, None)
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(loop.time() + WINDOW_S)
            loop.call_later(WINDOW_S, self._close, kind)
        if window.written < self._per_s:
            window.written += 1
            self._write(line)
        else:
            window.suppressed += 1
            limit_reached("LOG_REFUSALS_PER_S")
            window.last = line

    def _close(self, kind: tuple[str | None, str | None]) -> None:
        """Rule 2."""
        window = self._windows.pop(kind)
        if window.last is not None:
            window.last.suppressed = window.suppressed
            self._write(window.last)


def _write_line(line: RefusedRequest) -> None:
    status = line.status or _SERVER_FAULT
    is_overload = status == _TOO_MANY or not 400 <= status < _SERVER_FAULT
    (_log.warning if is_overload else _log.info)(line.event, **line.values())
