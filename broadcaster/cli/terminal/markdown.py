"""An answer as formatted Markdown on a terminal, while it streams.

Theory of operation. The text is split at its top-level blocks (paragraph, list, table, fenced code). A block that
another one follows is complete: it is printed for good. The last block is redrawn at its place as it grows, at most
``REDRAWS_PER_S`` times a second, and never higher than the screen: what has scrolled away cannot be redrawn. A redraw
takes longer the longer its block is, so the pause after it does, too: otherwise a long block takes all of the time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments

REDRAWS_PER_S: Final = 12
# From one redraw to the next, in times of what it took.
REDRAW_EVERY: Final = 5.0
# Lines of the screen that a growing block leaves free.
_FREE_LINES: Final = 2
# rich's own parser also reads HTML, and shows nothing of it: of `Vec<T>` it would show `Vec`. The definition of a link
# would not be shown either, and often comes after the blocks that use it have been printed.
_HIDING: Final = ("html_inline", "html_block", "reference")
_PARSER: Final = MarkdownIt().enable(["strikethrough", "table"]).disable(_HIDING)
_DEFINITION: Final = re.compile(r"\[[^\]]+\]:")


class MarkdownBlocks:
    """``write`` the pieces of an answer, then ``end``. Control characters must have been replaced."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._text = ""
        self._live: Live | None = None
        self._draw_at = 0.0
        self._has_printed = False

    @property
    def is_open(self) -> bool:
        """Whether a block is unfinished."""
        return bool(self._text)

    def write(self, text: str) -> None:
        """The next piece of the answer."""
        self._text += text
        began = self._clock()
        if began < self._draw_at:
            return
        at = self._start_of_last_block()
        if at:
            complete, self._text = self._text[:at], self._text[at:]
            self._print(complete)
        self._draw()
        self._draw_at = began + max(1 / REDRAWS_PER_S, REDRAW_EVERY * (self._clock() - began))

    def end(self) -> None:
        """Print the last block for good. Idempotent; a further ``write`` begins a new block."""
        text, self._text = self._text, ""
        self._print(text)

    def _start_of_last_block(self) -> int:
        """Offset of the last top-level block, 0 when there is only one."""
        starts = [token.map[0] for token in _PARSER.parse(self._text) if token.level == 0 and token.map]
        if len(starts) < 2:
            return 0
        lines = [f"{line}\n" for line in self._text.split("\n")]
        return sum(map(len, lines[: max(starts)]))

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if text.strip():
            if self._has_printed:
                self._console.print()
            self._has_printed = True
            self._console.print(_rendered(text))

    def _draw(self) -> None:
        if not self._text.strip():
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        room = max(1, self._console.height - _FREE_LINES)
        lines = self._console.render_lines(_rendered(self._text), pad=False)[-room:]
        shown = [Segments([*line, Segment.line()]) for line in lines]
        blank = [Segments([Segment.line()])] if self._has_printed and len(shown) < room else []
        self._live.update(Group(*blank, *shown), refresh=True)


def _rendered(text: str) -> Markdown:
    # A link's address is shown: its text may be anything.
    rendered = Markdown(text, hyperlinks=False)
    rendered.parsed = _PARSER.parse(text)
    for token in rendered.parsed:
        _break_before_definitions(token.children or [])
    return rendered


def _break_before_definitions(tokens: list[Token]) -> None:
    for token, following in pairwise(tokens):
        if token.type == "softbreak" and _DEFINITION.match(following.content):
            token.type = "hardbreak"
