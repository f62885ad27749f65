"""Markdown that grows is read into blocks, each once, however the text was cut."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.servers.console_modules import ConsoleModules

PIECES = [
    "# H\n", "one\n", "two", "\n\n", "\n", "- a\n", "- b\n", "  - c\n", "1. x\n", "* z\n", "> q\n", "| a | b |\n",
    "|---|---|\n", "| 1 | 2 |\n", "```py\n", "```\n", "~~~\n", "    indented\n", "---\n", "===\n", "**b** ", "`c` ",
    "$x$ ", "$$\n", "$$ y $$\n", "\\[\n", "\\]\n", "<div>\n", "<b>t</b>\n", "[l](u) ", "[r]: http://x\n", "- [x] t\n",
    "  \n", "\t", "a\\\n", "<!-- c\n", "-->\n", "\r\n",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=10).map("".join)


def blocks(modules: ConsoleModules, portions: list[str]) -> list[tuple[str, str]]:
    read: list[tuple[str, str]] = modules.run("blocks", portions)
    found = [(kind, re.sub(r"\n\s*\n", "\n\n", text.rstrip())) for kind, text in read]
    return [each for each in found if each[0] != "space"]


@example(text="one\n$$ y $$\none\n---\n", sizes=[1])
@example(text="$$\n# H\n# H\n$$ y $$\n", sizes=[1])
@settings(max_examples=120, deadline=None)
@given(text=TEXTS, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_a_text_has_the_same_blocks_however_it_comes(modules: ConsoleModules, text: str, sizes: list[int]) -> None:
    portions: list[str] = []
    at = 0
    while at < len(text):
        size = sizes[len(portions) % len(sizes)]
        portions.append(text[at : at + size])
        at += size
    assert blocks(modules, portions) == blocks(modules, [text])


@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_nothing_of_a_text_is_lost(modules: ConsoleModules, text: str) -> None:
    read = modules.run("blocks", list(text))
    shown = re.sub(r"[\s`~]|py", "", "".join(each for _, each in read))
    assert shown == re.sub(r"[\s`~]|py", "", text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("```js\n" + "f(1);\n" * 50_000 + "```\n", "code"),
        ("word " * 40_000, "paragraph"),
        ("- item\n" * 20_000, "list"),
        ("| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 3000, "table"),
    ],
)
def test_a_long_block_is_read_in_portions_and_whole(modules: ConsoleModules, text: str, kind: str) -> None:
    read = blocks(modules, [text])
    assert {each for each, _ in read} == {kind}
    shown = "".join(each for _, each in read).replace("\n", "")
    assert shown == text.removeprefix("```js\n").removesuffix("```\n").replace("\n", "").rstrip()


@pytest.mark.parametrize(
    "hostile",
    [
        "> " * 20_000, "[" * 40_000, "*a " * 20_000, "**a *b " * 9000, "`a``b```" * 5000, "[a](b " * 9000,
        ">" * 60_000 + "a", "\\(" * 30_000 + "\\)", "$$ a\n" * 3000,
    ],
)  # fmt: skip
def test_a_text_that_is_made_to_be_slow_is_read_in_time(modules: ConsoleModules, hostile: str) -> None:
    read = modules.run("blocks", [hostile])
    assert sum(len(text) for _, text in read) == len(hostile)


@pytest.mark.parametrize("opening", ["$$ a\n", "\\[ a\n", "> $$ a\n"])
def test_lines_that_open_formulas_without_an_end_cost_no_more_than_their_number(
    modules: ConsoleModules, opening: str
) -> None:
    text = opening * (120_000 // len(opening))
    began = time.monotonic()
    assert sum(len(raw) for _, raw in modules.run("blocks", [text])) == len(text)
    assert time.monotonic() - began < 20  # without a bound 48 s, where others take 0.4 s


def test_a_table_is_not_filled_up_to_a_million_cells(modules: ConsoleModules) -> None:
    """Markdown gives each row as many cells as the table has columns, whatever is written in it."""
    wide = "|a" * 3000 + "|\n" + "|-" * 3000 + "|\n"
    assert {kind for kind, _ in blocks(modules, [wide + "|b\n" * 500])} == {"paragraph"}
    whole = "| a | b | c |\n|---|---|---|\n" + "| 1 | 2 | 3 |\n" * 1500
    assert {kind for kind, _ in blocks(modules, [whole])} == {"table"}
    assert {kind for kind, _ in blocks(modules, ["| a | b |\n|---|---|\n" + "| 1\n" * 300])} == {"table"}


@pytest.mark.parametrize("lines", ["|-|\n", "x\n|-|-|\n", "a\n--\n", "> x\n> |-|-|\n"])
def test_a_block_of_many_lines_that_may_begin_tables_is_plain(modules: ConsoleModules, lines: str) -> None:
    assert {kind for kind, _ in blocks(modules, [lines * 60])} == {"plain"}
    tables = "| a | b |\n|---|---|\n| 1 | 2 |\n\n" * 60
    assert [kind for kind, _ in blocks(modules, [tables])] == ["table"] * 60


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("an **imp", "an **imp**"),
        ("an **imp*", "an **imp**"),
        ("an **important** wo", "an **important** wo"),
        ("**a *b", "**a *b***"),
        ("**bold ", "**bold**"),
        ("~~x", "~~x~~"),
        ("see `co", "see `co`"),
        ("see `", "see "),
        ("[label](https://a.exa", "label"),
        ("![alt](https://a.exa", "alt"),
        ("a[0] of 2 * 3 in snake_case", "a[0] of 2 * 3 in snake_case"),
        ("as \\(x^2", "as "),
        ("- **x", "- **x**"),
        ("\\**a", "\\**a*"),
    ],
)
def test_the_open_end_of_a_line_is_shown_as_it_will_be_read(modules: ConsoleModules, line: str, shown: str) -> None:
    assert modules.run("call", ["render/markdown/pending.js", "completed", line]) == shown


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("Text\n-", "Text"),
        ("Text\n\n#", "Text"),
        ("- a\n- ", "- a"),
        ("- a\n- [", "- a"),
        ("Text\n\n1.", "Text"),
        ("Text\n\n```pyth", "Text"),
        ("Text\n\n| a | b |\n|--", "Text"),
        ("| a |\n|---|\n| 1", "| a |\n|---|\n| 1"),
        ("0 1 ", "0 1 "),
        ("- a\n- " + "x" * 7000 + " **b", "- a\n- " + "x" * 7000 + " **b"),
        ("x" * 7000 + "\n", "x" * 7000 + "\n"),
    ],
)
def test_a_line_that_may_become_anything_is_held_back(modules: ConsoleModules, source: str, shown: str) -> None:
    assert modules.run("call", ["render/markdown/pending.js", "settled", source]) == shown


@pytest.mark.parametrize(
    ("url", "href"),
    [
        ("https://a.example/x?y=1#z", "https://a.example/x?y=1#z"),
        ("http://a.example", "http://a.example/"),
        ("mailto:a@b.example", "mailto:a@b.example"),
        ("javascript:alert(1)", None),
        (" java\nscript:alert(1)", None),
        ("data:text/html,x", None),
        ("vbscript:x", None),
        ("blob:https://a.example/1", None),
        ("file:///etc/passwd", None),
        ("/relative", None),
        ("//host.example", None),
        ({"toString": "https://a.example"}, None),
        (None, None),
    ],
)
def test_only_links_to_the_web_and_to_mail_can_be_followed(modules: ConsoleModules, url: Any, href: str | None) -> None:
    assert modules.run("call", ["render/links.js", "safeUrl", url]) == href


@pytest.mark.parametrize(
    ("href", "label", "target"),
    [
        ("https://www.a.example/x", "the survey", "a.example"),
        ("https://a.example/x", "https://a.example/x", ""),
        ("https://evil.example/", "https://bank.example", "evil.example"),
        ("mailto:a@b.example", "write", "a@b.example"),
        ("mailto:a@b.example", "A@b.example", ""),
        ("mailto:a@b.example", "aa@b.example", "a@b.example"),
        ("https://www.a.example:8080/x", "www.a.example:8080?y", ""),
        ("https://a.example:8080/x", "a.example", "a.example:8080"),
        ("https://evil.example/", "https://bank.example/login/evil.example", "evil.example"),
        ("https://ank.example/", "bank.example", "ank.example"),
        ("https://evil.example/", "evil.example.bank.example", "evil.example"),
        ("https://evil.example/", "https://bank.example@evil.example", "evil.example"),
        ("https://b\u0430nk.example/", "b\u0430nk.example", "xn--bnk-6cd.example"),
    ],
)
def test_a_link_shows_where_it_leads(modules: ConsoleModules, href: str, label: str, target: str) -> None:
    assert modules.run("call", ["render/links.js", "targetOf", href, label]) == target


def test_references_to_characters_are_read_and_unknown_ones_stay(modules: ConsoleModules) -> None:
    text = "a &lt;b&gt; &amp;amp; &nbsp;&constructor; &unknown; &"
    assert (
        modules.run("call", ["render/markdown/entities.js", "decoded", text])
        == "a <b> &amp; \u00a0&constructor; &unknown; &"
    )


@pytest.mark.parametrize("language", ["py", "ts", "html", "c++", "sh", "yml"])
def test_code_is_coloured_by_ranges_of_its_text(modules: ConsoleModules, language: str) -> None:
    name = modules.run("call", ["render/markdown/highlight.js", "languageOf", language])
    text = '<!-- a --><p class="b">"c" 1</p> # def f(): return "x" /* y */\n'
    ranges = modules.run("call", ["render/markdown/ranges.js", "rangesOf", text, name])
    assert ranges
    ends = [end for _, end, _ in ranges]
    assert all(0 <= start < end <= len(text) for start, end, _ in ranges)
    assert all(start >= end for (start, _, _), end in zip(ranges[1:], ends, strict=False))


def test_a_language_without_colours_keeps_its_name(modules: ConsoleModules) -> None:
    def name(language: str) -> str:
        return modules.run("call", ["render/markdown/highlight.js", "languageName", language])

    assert [name(each) for each in ("py", "TSX", "html", "mermaid", "constructor")] == [
        "Python", "TSX", "HTML", "mermaid", "constructor",
    ]  # fmt: skip
