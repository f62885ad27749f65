"""The matrix client × case: which test fills which cell, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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


def clients(case: str, *chosen: Client) -> pytest.MarkDecorator:
    """Run the test for these clients, each filling its cell of this case; ``client`` is the argument."""
    params = [pytest.param(client, marks=pytest.mark.compat(client.name, case), id=client.label) for client in chosen]
    return pytest.mark.parametrize("client", params)


@dataclass
class Cell:
    """What the tests of one cell came to; ``points`` is how many streams they compared."""

    outcomes: list[str] = field(default_factory=list)
    points: int = 0

    @property
    def shown(self) -> str:
        """Failed, if any test did; ok, if some ran; else nothing was run."""
        if "failed" in self.outcomes:
            return "failed"
        if "passed" not in self.outcomes:
            return "–"
        return f"ok ({self.points})" if self.points else "ok"


class Matrix:
    """Cells by client and case; a pytest plugin that fills them from what was really run."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], Cell] = {}
        self.failures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the outcome of a test: its call, or the set-up or end that failed."""
        told: dict[str, Any] = dict(report.user_properties)
        key = tuple(told.get("cell", ()))
        if not key or (report.when != "call" and report.passed):
            return
        cell = self.cells.setdefault((key[0], key[1]), Cell())
        cell.outcomes.append(report.outcome)
        cell.points += told.get("points", 0)
        if report.failed:
            self.failures.append(report.nodeid)

    def rows(self) -> list[list[str]]:
        """A row for each client, the first column its name."""
        return [[client.name, *(self.shown(client.name, case) for case in CASES)] for client in CLIENTS]

    def shown(self, client: str, case: str) -> str:
        """One cell."""
        return self.cells.get((client, case), Cell()).shown

    def table(self) -> Table:
        """For a terminal."""
        table = Table("client", *CASES)
        styles = {"failed": "red", "–": "dim"}
        for name, *shown in self.rows():
            table.add_row(name, *(f"[{styles.get(cell, 'green')}]{cell}" for cell in shown))
        return table

    def markdown(self) -> str:
        """For a document."""
        return "\n".join(map(_line, (["client", *CASES], ["---"] * (len(CASES) + 1), *self.rows()))) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
