"""The progress of a job, as ``data-progress`` events report it: ``{"done": 3, "total": 10, "message": "copying"}``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from broadcaster.core.events import DataEvent, read_event

PROGRESS_TYPE: Final = "data-progress"
# A hundred times this, divided by anything, is still a number.
LARGEST_AMOUNT: Final = 1e300


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress of one job; ``job`` is the event's id, empty without one."""

    job: str
    done: float
    total: float
    message: str

    @property
    def percent(self) -> int:
        """Whole percent, never beyond 100, and 100 only when all is done."""
        return 100 if self.is_done else min(99, math.floor(100 * self.done / self.total))

    @property
    def is_done(self) -> bool:
        """Whether the job is done."""
        return self.done >= self.total

    @property
    def line(self) -> str:
        """The progress as one line of text."""
        job = f" {self.job}" if self.job else ""
        return f"progress{job}: {self.percent}% ({self.done:g}/{self.total:g}) {self.message}".rstrip()


def progress_of(event: DataEvent) -> JobProgress | None:
    """The progress in an event; None if the event has another type or shape."""
    data = event.data
    if event.type != PROGRESS_TYPE or not isinstance(data, dict):
        return None
    done, total, message = data.get("done"), data.get("total"), data.get("message")
    if not _is_amount(done) or not _is_amount(total) or total <= 0:
        return None
    return JobProgress(event.id or "", done, total, message if isinstance(message, str) else "")


def progress_in(part: dict[str, Any]) -> JobProgress | None:
    """The progress in a part of an answer; None for any other part."""
    if part.get("type") != PROGRESS_TYPE:
        return None
    return progress_of(DataEvent(type=PROGRESS_TYPE, data=part.get("data"), id=part.get("id")))


def listed_progress(newest_first: Iterable[bytes]) -> JobProgress | None:
    """The progress that stands for a feed in a list: of the job without a name, else of the one furthest behind.

    That job changes less often than the newest report where several jobs write at the same time.
    """
    newest: dict[str, JobProgress] = {}
    for raw in newest_first:
        event = read_event(raw)
        step = progress_of(event) if isinstance(event, DataEvent) else None
        if step is not None:
            newest.setdefault(step.job, step)
    return newest.get("") or min(newest.values(), key=lambda step: step.done / step.total, default=None)


def _is_amount(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST_AMOUNT
