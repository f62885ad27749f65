"""The terminal: the answer on stdout, untouched where it is piped, and everything about it on stderr.

Rules
1. stdout gets the answer and nothing else; a line break that only keeps a terminal tidy goes to stderr.
2. A terminal never gets a control character that a model, a tool or a server chose: it could rewrite what is shown.
   A pipe gets the text as it is.
3. The waiting line and the progress bars are the last lines there are: whatever else is shown takes them back first.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from broadcaster.cli.progress import ProgressBars, Step
from broadcaster.cli.waiting import WaitingLine

# Wide enough for every row when there is no terminal whose width would count.
PIPE_WIDTH: Final = 200

_SHOWN_CONTROLS: Final = "\n\t"
_CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _SHOWN_CONTROLS
}


def harmless(text: str) -> str:
    """The text with every control character but line break and tab replaced."""
    return text.translate(_CONTROLS)


class _Open(Enum):
    """What the terminal's last line, still without its end, belongs to."""

    NOTHING = auto()
    ANSWER = auto()
    THOUGHT = auto()


class Screen:
    """Both streams of one command; knows which line is still open, so that they do not run into each other."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._open = _Open.NOTHING
        self._waiting = WaitingLine(self._console)
        self._bars = ProgressBars(self._console)
        self._told_steps: dict[str, tuple[int, str]] = {}

    def wait(self, text: str) -> bool:
        """Say what is waited for, until something else is shown; only where a terminal can take it back, else False."""
        if self._bars.is_shown:
            return True  # they say more
        return self._open is _Open.NOTHING and self._waiting.say(text)

    def waited(self) -> None:
        """Nothing is waited for any more. Idempotent; must be called before the command ends."""
        self._waiting.end()
        self._bars.end()

    def progress(self, step: Step) -> None:
        """How far a job is: a bar on a terminal; a line elsewhere, when there is news, and for the last step."""
        step = replace(step, job=harmless(step.job), message=" ".join(harmless(step.message).split()))
        if not step.is_done:
            self._waiting.end()
            if self._open is not _Open.NOTHING:
                self._break_line()
            if self._bars.show(step):
                return
        self._bars.drop(step.job)
        news = step.percent, step.message
        if self._told_steps.get(step.job) != news:
            self._told_steps[step.job] = news
            self.note(step.line)

    def answer(self, text: str) -> None:
        """The next piece of the answer, to stdout at once."""
        if not text:
            return
        self.waited()
        if self._open is _Open.THOUGHT:
            self._console.print()
        sys.stdout.write(harmless(text) if self._is_terminal else text)
        sys.stdout.flush()
        self._open = _Open.NOTHING if text.endswith("\n") else _Open.ANSWER

    def rest(self) -> None:
        """End the line that is open, if any: a shell's prompt begins on its own line, a text file ends with one.

        Bars that did not come to their end become lines.
        """
        self.waited()
        for step in self._bars.drop_all():
            self.note(step.line)
        if self._open is _Open.ANSWER:
            self.answer("\n")
        elif self._open is _Open.THOUGHT:
            self._break_line()

    def thought(self, text: str) -> None:
        """The next piece of the reasoning, dimmed, to stderr."""
        if not text:
            return
        self.waited()
        if self._open is _Open.ANSWER:
            self._break_line()
        self._console.print(Text(harmless(text), style="dim"), end="", soft_wrap=True)
        self._open = _Open.NOTHING if text.endswith("\n") else _Open.THOUGHT

    def note(self, text: str, *, style: str = "dim") -> None:
        """One line about the answer, to stderr."""
        self.waited()
        if self._open is not _Open.NOTHING:
            self._break_line()
        line = " ".join(harmless(text).split())
        self._console.print(Text(line, style=style), soft_wrap=True)

    def fail(self, text: str) -> None:
        """One line that says what went wrong and what to do, to stderr."""
        self.note(f"error: {text}", style="red")

    def line(self, text: str) -> None:
        """One line of output for programs (JSON, an id), to stdout."""
        self.answer(f"{text}\n")

    def table(self, table: Table) -> None:
        """A table, to stdout."""
        self.waited()
        width = None if self._is_terminal else PIPE_WIDTH
        Console(highlight=False, markup=False, emoji=False, width=width).print(table)

    def _break_line(self) -> None:
        # A pipe's open line is not on this screen: only a terminal shows both streams in one place.
        if self._open is _Open.THOUGHT or self._is_terminal:
            self._console.print()
            self._open = _Open.NOTHING
