"""Markdown on a terminal: what is printed for good, and that pieces of any size give the same text."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from broadcaster.cli.terminal import markdown
from broadcaster.cli.terminal.markdown import MarkdownBlocks

TEXT = """# Fruits

Two **good** ones, see [here](https://example.org):

1. apple
2. pear

   with a paragraph of its own

```python
print("1")

print("2")
```

| a | b |
| - | - |
| 1 | 2 |
"""
# A redrawn block is erased line by line before it is drawn anew.
ERASE = re.compile(r"(?:\r?\x1b\[2K\x1b\[1A)+\x1b\[2K")


def final_lines(text: str, pieces: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stays on a wide and high screen, without styles and line ends."""
    monkeypatch.setattr(markdown, "REDRAWS_PER_S", 10**9)
    output = io.StringIO()
    blocks = MarkdownBlocks(Console(file=output, force_terminal=True, width=80, height=60, color_system=None))
    for piece in pieces:
        blocks.write(piece)
    blocks.end()
    return screen_of(output.getvalue())


def screen_of(output: str) -> list[str]:
    """The lines that a terminal shows after these bytes: a small one that knows what Live sends."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[0-9?;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if token == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token == "\x1b[1A":
            row -= 1
        elif not token.startswith(("\x1b", "\r")):
            lines[row] += token
    return [line.rstrip() for line in lines if line.strip()]


def test_blocks_are_formatted_and_the_address_of_a_link_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = final_lines(TEXT, [TEXT], monkeypatch)
    shown = "\n".join(lines)
    assert "**" not in shown
    assert "```" not in shown
    assert "https://example.org" in shown
    assert any("apple" in line and "1" in line for line in lines)
    assert any(line.split() == ["1", "2"] for line in lines)


def test_the_definitions_of_links_are_shown_below_the_blocks_that_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    definitions = ["[1]: https://example.com/dose", "[2]: https://example.com/label"]
    pieces = ["5 mg [1], see [the label][2].\n\n", "Ask first.\n\n", "\n".join(definitions)]
    assert final_lines("", pieces, monkeypatch) == ["5 mg [1], see [the label][2].", "Ask first.", *definitions]
    assert final_lines("", ["".join(pieces)], monkeypatch)[-2:] == definitions


def test_html_in_an_answer_is_shown_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "A `Vec<T>` is a Vec<T>, see <title>.\n\n<div>\nboxed\n</div>\n\nThe end.\n"
    shown = " ".join(final_lines(text, [text], monkeypatch))
    assert shown == "A Vec<T> is a Vec<T>, see <title>. <div> boxed </div> The end."


@given(cuts=st.lists(st.integers(1, len(TEXT) - 1), max_size=12, unique=True).map(sorted))
def test_pieces_of_any_size_leave_the_same_lines(cuts: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        pieces = [TEXT[a:b] for a, b in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
        assert final_lines(TEXT, pieces, patch) == final_lines(TEXT, [TEXT], patch)


def test_a_block_that_takes_long_to_redraw_is_redrawn_in_a_fifth_of_the_time() -> None:
    now_s = [100.0]

    class SlowConsole(Console):
        def render_lines(self, *arguments: Any, **options: Any) -> Any:
            now_s[0] += 1.0
            return super().render_lines(*arguments, **options)

    console = SlowConsole(file=io.StringIO(), force_terminal=True, width=40, height=10)
    blocks = MarkdownBlocks(console, clock=lambda: now_s[0])
    idle = 0
    for _ in range(1000):
        before = now_s[0]
        blocks.write("word ")
        if now_s[0] == before:
            idle += 1
            now_s[0] += 0.1
    drawn_s = now_s[0] - 100.0 - idle * 0.1
    assert 0 < drawn_s <= 2 + (now_s[0] - 100.0) / 5


def test_a_block_higher_than_the_screen_is_printed_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "REDRAWS_PER_S", 10**9)
    output = io.StringIO()
    blocks = MarkdownBlocks(Console(file=output, force_terminal=True, width=40, height=10, color_system=None))
    numbers = [f"line{at:03}" for at in range(50)]
    blocks.write("```\n")
    for each in numbers:
        blocks.write(f"{each}\n")
    most = max(part.count("\n") for part in ERASE.split(output.getvalue()))
    blocks.write("```\n")
    blocks.end()
    assert most <= 10
    assert [line.strip() for line in screen_of(output.getvalue()) if "line" in line][-50:] == numbers
