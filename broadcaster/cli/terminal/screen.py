"""The terminal: the answer on stdout, unchanged if piped, and everything about it on stderr.

Rules
1. stdout gets only the answer; a line break that only keeps a terminal tidy goes to stderr.
2. A terminal never gets a control character from a model, a tool or a server: it could rewrite the screen. A pipe gets
   the text unchanged.
3. The waiting line and the progress bars are always the last lines: any other output removes them first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from broadcaster.cli.terminal.displays import ProgressBars, WaitingLine
from broadcaster.core.requests.progress import JobProgress

if TYPE_CHECKING:
    from broadcaster.cli.terminal.markdown import MarkdownBlocks

# Wide enough for every row if there is no terminal with a width.
PIPE_WIDTH: Final = 200
# On a narrower terminal a table would lose what stands in it: the terminal breaks its lines instead.
LEAST_WIDTH: Final = 60

_ALLOWED_CONTROLS: Final = "\n\t"
_CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in _ALLOWED_CONTROLS
}


def harmless(text: str) -> str:
    """The text with every control character but line break and tab replaced; a line break may be CRLF."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def _markdown_blocks() -> MarkdownBlocks:
    from broadcaster.cli.terminal.markdown import MarkdownBlocks  # noqa: PLC0415 - only a terminal needs the parser

    return MarkdownBlocks(Console(highlight=False, emoji=False))


class _Open(Enum):
    """The content of the terminal's last, unfinished line."""

    NOTHING = auto()
    ANSWER = auto()
    THOUGHT = auto()


class _WholeBreaks:
    """Text in pieces, none of which ends between the two characters of a CRLF."""

    def __init__(self) -> None:
        self._held = ""

    def next(self, piece: str) -> str:
        """The piece, behind what was held back of the one before it."""
        text = self._held + piece
        self._held = "\r" if text.endswith("\r") else ""
        return text.removesuffix("\r")

    def end(self) -> None:
        """The line has ended in another way."""
        self._held = ""


class Screen:
    """Both streams of one command. It tracks the unfinished line, so that their texts do not mix."""

    def __init__(self, *, is_plain: bool = True) -> None:
        """``is_plain``: an answer is printed as it is also on a terminal, and not as Markdown."""
        self._is_terminal = sys.stdout.isatty()
        self._markdown = None if is_plain or not self._is_terminal else _markdown_blocks()
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._open = _Open.NOTHING
        self._answers, self._thoughts = _WholeBreaks(), _WholeBreaks()
        self._waiting = WaitingLine(self._console)
        self._bars = ProgressBars(self._console)
        self._noted_steps: dict[str, tuple[int, str]] = {}

    def wait(self, text: str) -> bool:
        """Show what the command waits for, until the next output. False if the terminal cannot remove a line."""
        if self._bars.is_visible:
            return True  # they show more
        if self._markdown is not None:
            self._markdown.end()
        return self._open is _Open.NOTHING and self._waiting.show(text)

    def waited(self) -> None:
        """End the waiting line, the bars and a Markdown block. Idempotent; must be called before the command ends."""
        self._end_displays()
        if self._markdown is not None:
            self._markdown.end()

    def progress(self, step: JobProgress) -> None:
        """Show a job's progress: a bar on a terminal; elsewhere, and at its end, a line if the progress has changed."""
        step = replace(step, job=harmless(step.job), message=" ".join(harmless(step.message).split()))
        if not step.is_done:
            self._waiting.end()
            if self._markdown is not None:
                self._markdown.end()
            if self._open is not _Open.NOTHING:
                self._break_line()
            if self._bars.show(step):
                return
        self._bars.drop(step.job)
        news = step.percent, step.message
        if self._noted_steps.get(step.job) != news:
            self._noted_steps[step.job] = news
            self.note(step.line)

    def answer(self, text: str) -> None:
        """The next piece of the answer, to stdout at once."""
        if self._is_terminal:
            text = self._answers.next(text)
        if not text:
            return
        self._end_displays()
        if self._open is _Open.THOUGHT:
            self._console.print()
        if self._markdown is not None:
            self._markdown.write(harmless(text))
            self._open = _Open.NOTHING
            return
        self._write(text)

    def rest(self) -> None:
        """End an unfinished line, so that a shell's prompt has its own line and a text file ends with a line break.

        Unfinished bars become lines.
        """
        self.waited()
        for step in self._bars.drop_all():
            self.note(step.line)
        if self._open is _Open.ANSWER:
            self.answer("\n")
        elif self._open is _Open.THOUGHT:
            self._break_line()
        self._end_breaks()

    def thought(self, text: str) -> None:
        """The next piece of the reasoning, dimmed, to stderr."""
        text = self._thoughts.next(text)
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
        self._end_breaks()
        if self._open is not _Open.NOTHING:
            self._break_line()
        line = " ".join(harmless(text).split())
        self._console.print(Text(line, style=style), soft_wrap=True)

    def fail(self, text: str) -> None:
        """One line with the failure and its remedy, to stderr."""
        self.note(f"error: {text}", style="red")

    def line(self, text: str) -> None:
        """One line of output for programs (JSON, an id), to stdout."""
        self.waited()
        if self._open is _Open.THOUGHT:
            self._console.print()
        self._write(f"{text}\n")

    def table(self, rows: Iterable[Sequence[str | Text]], *columns: Column | str, has_header: bool = True) -> None:
        """A table, to stdout; of a cell that is no ``Text`` every control character is replaced."""
        self.waited()
        table = Table(*columns, box=None, pad_edge=False, show_header=has_header, header_style="bold")
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(harmless(cell)) for cell in row))
        console = Console(highlight=False, markup=False, emoji=False)
        if not self._is_terminal or console.width < LEAST_WIDTH:
            console.width = PIPE_WIDTH
        console.print(table)

    def _end_breaks(self) -> None:
        self._answers.end()
        self._thoughts.end()

    def _end_displays(self) -> None:
        self._waiting.end()
        self._bars.end()

    def _write(self, text: str) -> None:
        sys.stdout.write(harmless(text) if self._is_terminal else text)
        sys.stdout.flush()
        self._open = _Open.NOTHING if text.endswith("\n") else _Open.ANSWER

    def _break_line(self) -> None:
        # A pipe's unfinished line is not on this screen: only a terminal shows both streams.
        if self._open is _Open.THOUGHT or self._is_terminal:
            self._console.print()
            self._open = _Open.NOTHING
