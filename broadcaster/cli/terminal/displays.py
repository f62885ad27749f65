"""What a terminal shows for a while: the line that says what a command waits for, and the progress of jobs.

The progress of a job (core/requests/progress.py) is one bar on a terminal, at the end of stderr; elsewhere one line
whenever the percentage or the message changes.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from broadcaster.core.requests.progress import JobProgress

BAR_WIDTH: Final = 30
# More would push the rest off the screen; further jobs are printed as lines.
MOST_BARS: Final = 8
_STYLE: Final = "dim"

_Tasks = TypeVar("_Tasks")


def _can_redraw(console: Console) -> bool:
    """Whether stderr is a terminal that can remove a line."""
    return sys.stderr.isatty() and not console.is_dumb_terminal


def _transient(console: Console, *columns: ProgressColumn) -> Progress:
    """A display of these columns that removes itself at its end, and leaves both streams alone."""
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


class _Seconds(ProgressColumn):
    """Whole seconds since the waiting began; empty in the first second."""

    def render(self, task: Task) -> Text:
        seconds = int(task.elapsed or 0)
        return Text(f"{seconds} s" if seconds else "", style=_STYLE)


class _Display(Generic[_Tasks]):
    """The last lines of stderr, drawn by their own thread: end it before any other output."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._visible: tuple[Progress, _Tasks] | None = None

    def end(self) -> None:
        """Remove it from the screen. Idempotent."""
        if self._visible is not None:
            (progress, _), self._visible = self._visible, None
            progress.stop()


class WaitingLine(_Display[TaskID]):
    """One line that says what the command waits for."""

    def show(self, text: str) -> bool:
        """Show the line, or change its text; the seconds continue. False if it cannot be shown."""
        if not _can_redraw(self._console):
            return False
        if self._visible is not None:
            progress, task = self._visible
            progress.update(task, description=text)
            return True
        description = TextColumn("{task.description}", style=_STYLE, markup=False)
        progress = _transient(self._console, SpinnerColumn(style=_STYLE), description, _Seconds())
        self._visible = progress, progress.add_task(text, total=None)
        progress.start()
        return True


class ProgressBars(_Display[dict[str, TaskID]]):
    """The bars of the jobs under way; after ``end`` the next progress shows them anew."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._steps: dict[str, JobProgress] = {}

    @property
    def is_visible(self) -> bool:
        """Whether bars are on the screen now."""
        return self._visible is not None

    def show(self, step: JobProgress) -> bool:
        """Update the job's bar, and show all bars. False if no bar can be shown."""
        is_known = step.job in self._steps
        if not _can_redraw(self._console) or (not is_known and len(self._steps) >= MOST_BARS):
            return False
        self._steps[step.job] = step
        if self._visible is None or not is_known:
            self.end()
            self._start()
        else:
            progress, tasks = self._visible
            progress.update(tasks[step.job], **_fields(step))
        return True

    def drop(self, job: str) -> JobProgress | None:
        """Remove the job's bar for good; returns its last progress, if any."""
        self.end()
        return self._steps.pop(job, None)

    def drop_all(self) -> list[JobProgress]:
        """Remove all bars for good; returns their last progress."""
        self.end()
        steps, self._steps = list(self._steps.values()), {}
        return steps

    def _start(self) -> None:
        progress = _transient(
            self._console,
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=BAR_WIDTH),
            TextColumn("{task.fields[percent]}% ({task.completed:g}/{task.total:g})", markup=False),
        )
        self._visible = progress, {job: progress.add_task(**_fields(step)) for job, step in self._steps.items()}
        progress.start()


def _fields(step: JobProgress) -> dict[str, Any]:
    return {
        "description": step.message or step.job or "progress",
        "completed": step.done,
        "total": step.total,
        "percent": step.percent,
    }
