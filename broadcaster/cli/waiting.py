"""The waiting line: on a terminal, what is waited for and for how many seconds; gone without a trace afterwards."""

from __future__ import annotations

import sys
from typing import Final

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

_STYLE: Final = "dim"


class _Seconds(ProgressColumn):
    """Whole seconds since the waiting began; nothing in the first one."""

    def render(self, task: Task) -> Text:
        seconds = int(task.elapsed or 0)
        return Text(f"{seconds} s" if seconds else "", style=_STYLE)


class WaitingLine:
    """One line at the end of stderr, drawn by a thread of its own: end it before anything else is written."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: tuple[Progress, TaskID] | None = None

    @property
    def is_possible(self) -> bool:
        """Whether stderr is a terminal that can take a line back."""
        return sys.stderr.isatty() and not self._console.is_dumb_terminal

    def say(self, text: str) -> bool:
        """Show the line, or change its words; the seconds go on. False where it cannot be shown."""
        if not self.is_possible:
            return False
        if self._shown is not None:
            progress, task = self._shown
            progress.update(task, description=text)
            return True
        words = TextColumn("{task.description}", style=_STYLE, markup=False)
        progress = Progress(
            SpinnerColumn(style=_STYLE),
            words,
            _Seconds(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._shown = progress, progress.add_task(text, total=None)
        progress.start()
        return True

    def end(self) -> None:
        """Take the line back. Idempotent."""
        if self._shown is not None:
            (progress, _), self._shown = self._shown, None
            progress.stop()
