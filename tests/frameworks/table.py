"""The table framework × case: its rows, and which test fills which cell."""

from __future__ import annotations

from typing import Any, Final

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.compat.matrix import Matrix
from tests.frameworks import node_rows, python_rows
from tests.frameworks.agents import programs
from tests.frameworks.rows import CASES, Row

MARKER: Final = "frameworks"
# Each environment adds its own here.
_DRIVEN: Final[tuple[Row, ...]] = (*python_rows.ROWS, *node_rows.ROWS)
# agents/test_agents.py runs the agents.
ROWS: Final[tuple[Row, ...]] = (*_DRIVEN, *programs.ROWS)
_ENVIRONMENT_OF: Final = {row.label: row.environment for row in ROWS}


def rows(case: str) -> pytest.MarkDecorator:
    """Run the test for every framework that does not leave the case out, each filling its cell as ``row``."""
    params = [
        pytest.param(
            row,
            marks=pytest.mark.frameworks(row.label, case),
            id=row.label,
        )
        for row in _DRIVEN
        if case not in row.left_out
    ]
    return pytest.mark.parametrize("row", params)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Rows of one environment share a process of xdist, and with it a driver, whose imports take long.

    This module is a plugin of ``python -m tests.frameworks``. What is no row is shared by its module.
    """
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _environment_of
    return scheduler


def _environment_of(nodeid: str) -> str:
    label = nodeid.partition("[")[2].rpartition("]")[0]
    return _ENVIRONMENT_OF.get(label, nodeid.partition("::")[0])


def create_table() -> Matrix:
    """One without a run: its cells are empty, or show why no test runs them."""
    left_out = {(row.label, case): reason for row in ROWS for case, reason in row.left_out.items()}
    return Matrix([row.label for row in ROWS], cases=CASES, left_out=left_out)
