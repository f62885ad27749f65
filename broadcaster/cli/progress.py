"""How far a job is, as its ``data-progress`` events say it: ``{"done": 3, "total": 10, "message": "copying"}``.

On a terminal one bar per job, at the end of stderr; elsewhere one line whenever the percentage or the message changes.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from broadcaster.core.events import DataEvent

PROGRESS_TYPE: Final = "data-progress"
BAR_WIDTH: Final = 30
# More would push the rest off the screen; a job beyond it is told in lines.
MOST_BARS: Final = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One word of a job; ``job`` is the event's id, empty when it has none."""

    job: str
    done: float
    total: float
    message: str

    @property
    def percent(self) -> int:
        """Whole percent, never beyond 100, and 100 only when all is done."""
        return min(100, math.floor(100 * self.done / self.total))

    @property
    def is_done(self) -> bool:
        """Nothing is left."""
        return self.done >= self.total

    @property
    def line(self) -> str:
        """The same in words."""
        job = f" {self.job}" if self.job else ""
        return f"progress{job}: {self.percent}% ({self.done:g}/{self.total:g}) {self.message}".rstrip()


def step_of(event: DataEvent) -> Step | None:
    """The step that an event tells; None when it is of another type or shape."""
    told = event.data
    if event.type != PROGRESS_TYPE or not isinstance(told, dict):
        return None
    done, total, message = told.get("done"), told.get("total"), told.get("message")
    if not _is_amount(done) or not _is_amount(total) or total <= 0:
        return None
    return Step(event.id or "", done, total, message if isinstance(message, str) else "")


def _is_amount(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


class ProgressBars:
    """The bars of the jobs under way, drawn by a thread: end them before anything else is written."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: dict[str, Step] = {}
        self._shown: tuple[Progress, dict[str, TaskID]] | None = None

    @property
    def is_shown(self) -> bool:
        """Whether bars are on the screen now."""
        return self._shown is not None

    def show(self, step: Step) -> bool:
        """Move the job's bar, and bring back those taken away. False where there can be none."""
        is_known = step.job in self._steps
        if (
            not sys.stderr.isatty()
            or self._console.is_dumb_terminal
            or (not is_known and len(self._steps) >= MOST_BARS)
        ):
            return False
        self._steps[step.job] = step
        if self._shown is None or not is_known:
            self.end()
            self._start()
        else:
            progress, tasks = self._shown
            progress.update(tasks[step.job], **_fields(step))
        return True

    def drop(self, job: str) -> Step | None:
        """Take the job's bar away for good; what it said last, if there was one."""
        self.end()
        return self._steps.pop(job, None)

    def drop_all(self) -> list[Step]:
        """Take all bars away for good; what they said last."""
        self.end()
        steps, self._steps = list(self._steps.values()), {}
        return steps

    def end(self) -> None:
        """Take the bars off the screen; the next step brings them back. Idempotent."""
        if self._shown is not None:
            (progress, _), self._shown = self._shown, None
            progress.stop()

    def _start(self) -> None:
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=BAR_WIDTH),
            TextColumn("{task.fields[percent]}% ({task.completed:g}/{task.total:g})", markup=False),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._shown = progress, {job: progress.add_task(**_fields(step)) for job, step in self._steps.items()}
        progress.start()


def _fields(step: Step) -> dict[str, Any]:
    return {
        "description": step.message or step.job or "progress",
        "completed": step.done,
        "total": step.total,
        "percent": step.percent,
    }
