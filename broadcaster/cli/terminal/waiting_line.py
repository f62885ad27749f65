"""The waiting line: on a terminal, what the command waits for and for how many seconds; removed afterwards."""

from __future__ import annotations

import sys
from typing import Final

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

_STYLE: Final = "dim"


class _Seconds(ProgressColumn):
    """Whole seconds since the waiting began; empty in the first second."""

    def render(self, task: Task) -> Text:
        seconds = int(task.elapsed or 0)
        return Text(f"{seconds} s" if seconds else "", style=_STYLE)


def can_redraw(console: Console) -> bool:
    """Whether stderr is a terminal that can remove a line."""
    return sys.stderr.isatty() and not console.is_dumb_terminal


def transient(console: Console, *columns: ProgressColumn) -> Progress:
    """A display of these columns that removes itself at its end, and leaves both streams alone."""
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


class WaitingLine:
    """One line at the end of stderr, drawn by its own thread: end it before any other output."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._visible: tuple[Progress, TaskID] | None = None

    def show(self, text: str) -> bool:
        """Show the line, or change its text; the seconds continue. False if it cannot be shown."""
        if not can_redraw(self._console):
            return False
        if self._visible is not None:
            progress, task = self._visible
            progress.update(task, description=text)
            return True
        description = TextColumn("{task.description}", style=_STYLE, markup=False)
        progress = transient(self._console, SpinnerColumn(style=_STYLE), description, _Seconds())
        self._visible = progress, progress.add_task(text, total=None)
        progress.start()
        return True

    def end(self) -> None:
        """Remove the line. Idempotent."""
        if self._visible is not None:
            (progress, _), self._visible = self._visible, None
            progress.stop()
