"""What the second engine runs: nothing that starts a server or speaks to one is left out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.engine import SERVER_FIXTURES, TESTS, meets_redis

# Every way in which tests come by a server.
STARTERS = {"ValkeyServer", "start_valkey", "EmbeddedServer", "find_server", "server_binary", "open_stack", "Stack"}
# Pure, or before a server of ours without a log.
APART = ("core", "dialects", "testing", "hub")


def test_every_module_that_starts_a_server_runs_on_the_second_engine() -> None:
    modules = [path for path in TESTS.rglob("test_*.py") if STARTERS & names_in(path)]
    assert len(modules) > 20
    assert [path for path in modules if not meets_redis(path)] == []


def test_the_fixtures_of_all_tests_that_bring_a_server_are_known() -> None:
    """Whoever asks for one of them, through another fixture too, is run; a new one must be named."""
    tree = ast.parse((TESTS / "conftest.py").read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    fixtures = {each.name for each in functions if any("fixture" in ast.unparse(it) for it in each.decorator_list)}
    assert {each for each in fixtures if not each.startswith("_")} == SERVER_FIXTURES


@pytest.mark.parametrize("room", APART)
def test_rooms_that_know_no_server_do_not_run_twice(room: str) -> None:
    left_out = [path for path in (TESTS / room).glob("test_*.py") if not meets_redis(path)]
    assert left_out


def names_in(path: Path) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)}
