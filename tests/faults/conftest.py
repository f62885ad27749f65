"""How often faults are caused, and what was measured.

``FAULTS_ROUNDS``: how often each fault is caused; without it once. ``FAULTS_REPORT``: a file to which the figures are
appended, a JSON line each; the table of them is printed when the run ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.figures import Figures
from tests.support.log.valkey import ValkeyServer, start_valkey

ONCE = 1
_FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = Figures()


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often each fault is caused."""
    return int(os.environ.get("FAULTS_ROUNDS", ONCE))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Where a test puts what it measured."""
    return pytestconfig.stash[_FIGURES]


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A server of the test's own, without persistence, on a free port of the loopback: to be killed and paused."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder), port=0) as started:
        yield started


# -- the figures of xdist's workers are printed by the process that started them


def pytest_sessionfinish(session: pytest.Session) -> None:
    workeroutput: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput["figures"] = session.config.stash[_FIGURES].dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    node.config.stash[_FIGURES].merge(getattr(node, "workeroutput", {}).get("figures", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    measured = config.stash[_FIGURES]
    if not measured.values:
        return
    terminalreporter.section("figures")
    for line in measured.table():
        terminalreporter.write_line(line)
    if report := os.environ.get("FAULTS_REPORT"):
        with Path(report).open("a", encoding="utf-8") as file:
            file.write(measured.json_lines())
