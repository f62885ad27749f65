"""The matrix client × case: which test fills which cell, and how it is shown."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from rich.table import Table

from tests.compat.clients import CLIENTS, Client

FRESH: Final = "fresh run"
OPENED: Final = "opened after every entry"
LATE: Final = "late join"
STOP: Final = "stop"
LOST: Final = "killed worker"
TOOLS: Final = "tool call"
THINKING: Final = "thinking"
CASES: Final = (FRESH, OPENED, LATE, STOP, LOST, TOOLS, THINKING)

MARKER: Final = "compat"
CLIENT_NAMES: Final = tuple(client.name for client in CLIENTS)


def clients(case: str, *chosen: Client) -> pytest.MarkDecorator:
    """Run the test for these clients, each filling its cell of this case; ``client`` is the argument."""
    params = [pytest.param(client, marks=pytest.mark.compat(client.name, case), id=client.label) for client in chosen]
    return pytest.mark.parametrize("client", params)


@dataclass
class Cell:
    """What the tests of one cell came to; ``points`` is how many streams they compared.

    ``reason`` is why no server can satisfy the cell, where a test has shown that none can.
    """

    outcomes: list[str] = field(default_factory=list)
    points: int = 0
    reason: str = ""

    @property
    def shown(self) -> str:
        """Failed, if any test did; ok or the reason, if some ran; else nothing was run."""
        if "failed" in self.outcomes:
            return "failed"
        if "passed" not in self.outcomes:
            return "–"
        if self.reason:
            return self.reason
        return f"ok ({self.points})" if self.points else "ok"


class Matrix:
    """Cells by name and case; a pytest plugin that fills them from what was really run.

    ``left_out`` is the reason why no test runs a cell. It is shown until a test does.
    """

    def __init__(
        self,
        names: Sequence[str] = CLIENT_NAMES,
        *,
        cases: Sequence[str] = CASES,
        left_out: Mapping[tuple[str, str], str] | None = None,
    ) -> None:
        self.names = names
        self.cases = cases
        self.left_out = left_out or {}
        self.cells: dict[tuple[str, str], Cell] = {}
        self.failures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the outcome of a test: its call, or the set-up or end that failed."""
        properties: dict[str, Any] = dict(report.user_properties)
        key = tuple(properties.get("cell", ()))
        if not key or (report.when != "call" and report.passed):
            return
        cell = self.cells.setdefault((key[0], key[1]), Cell())
        cell.outcomes.append(report.outcome)
        cell.points += properties.get("points", 0)
        cell.reason = properties.get("reason", cell.reason)
        if report.failed:
            self.failures.append(report.nodeid)

    def rows(self) -> list[list[str]]:
        """A row for each name, which is its first column."""
        return [[name, *(self.shown(name, case) for case in self.cases)] for name in self.names]

    def shown(self, name: str, case: str) -> str:
        """One cell."""
        cell = self.cells.get((name, case))
        return cell.shown if cell else self.left_out.get((name, case), "–")

    def table(self) -> Table:
        """For a terminal."""
        table = Table("client", *self.cases)
        for name, *shown in self.rows():
            table.add_row(name, *(f"[{_style(cell)}]{cell}" for cell in shown))
        return table

    def markdown(self) -> str:
        """For a document."""
        return "\n".join(map(_line, (["client", *self.cases], ["---"] * (len(self.cases) + 1), *self.rows()))) + "\n"


def _style(shown: str) -> str:
    if shown == "failed":
        return "red"
    return "green" if shown.startswith("ok") else "dim"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def split_at_marks(document: Path, begin: str, end: str) -> tuple[str, str]:
    """The text of a document before and after two lines that mark a place. Raises SystemExit where they are missing."""
    before, has_begin, rest = document.read_text("utf-8").partition(f"{begin}\n")
    _, has_end, after = rest.partition(f"{end}\n")
    if not (has_begin and has_end):
        raise SystemExit(f"{document}: the lines `{begin}` and `{end}` are missing; add them where the table belongs")
    return before, after


def show_versions(versions: str) -> str:
    """What was run, in lines of a document."""
    return textwrap.fill(f"Versions: {versions}.", 120, break_long_words=False, break_on_hyphens=False)


def replace_between(document: Path, begin: str, end: str, *, text: str) -> None:
    """Replace what stands between two such lines."""
    before, after = split_at_marks(document, begin, end)
    document.write_text(f"{before}{begin}\n{text}{end}\n{after}", "utf-8")
