"""Which tests the second engine runs: those whose outcome depends on the Redis server.

1. Of ``tests/log`` and ``tests/topologies`` every module that meets a server: scripts, streams, Sentinels, clusters.
2. Of every other folder the tests marked ``second_engine`` alone: persistence, replication, limits and users of a
   server, and one test of each surface and each process (``tests/README.md`` has the rule).

A module meets a server when its code, or that of a module of ``tests`` that it imports (through others too), or of a
``conftest.py`` beside or above it, names one: an identifier, or a text that is an address, a setting or a command.
Docstrings and comments do not count. The terms are few and the rule is generous, for a module that is left out by
mistake would never run on the second engine. The conftest of all tests is judged by its fixtures instead
(``SERVER_FIXTURES``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).resolve().parents[1]
WHOLE_ROOMS: Final = ("log", "topologies")
MARK: Final = "second_engine"
SERVER_FIXTURES: Final = frozenset({"redis_url", "connection"})
NAMES_ONE: Final = re.compile(r"redis|valkey|embedded|doctor", re.IGNORECASE)
# An application of its own ("up") and the commands that search for a server start one without naming it.
TEXT_OF_ONE: Final = re.compile(r"rediss?[:+]|unix://|BROADCASTER_REDIS|redis-server|valkey|^up$|doctor", re.IGNORECASE)


def may_run(module: Path) -> bool:
    """Whether the second engine may run any test of this module, judged by its text alone."""
    return is_in_whole_room(module) or f"mark.{MARK}" in module.read_text("utf-8")


def runs(item: pytest.Item) -> bool:
    """Whether the second engine runs this test."""
    if not is_in_whole_room(item.path):
        return item.get_closest_marker(MARK) is not None
    return bool(SERVER_FIXTURES & {*getattr(item, "fixturenames", ())}) or meets_redis(item.path)


def is_in_whole_room(module: Path) -> bool:
    """Whether it lies in a folder of which the second engine runs all that meets a server."""
    return module.is_relative_to(TESTS) and module.relative_to(TESTS).parts[0] in WHOLE_ROOMS


@cache
def meets_redis(module: Path) -> bool:
    """Whether something that this module runs may be a Redis server, or call one; its fixtures apart."""
    return any(_names_one(path) for path in _closure(module))


@cache
def _names_one(path: Path) -> bool:
    tree = ast.parse(path.read_text("utf-8"))
    docstrings = set(_docstrings(tree))
    for node in ast.walk(tree):
        if any(NAMES_ONE.search(name) for name in _identifiers(node)):
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if TEXT_OF_ONE.search(node.value):
                return True
    return False


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a text that is no part of anything
            yield id(node.value)


def _identifiers(node: ast.AST) -> Iterator[str]:
    for field in ("id", "attr", "arg", "name", "module"):
        if isinstance(name := getattr(node, field, None), str):
            yield name


def _closure(module: Path) -> set[Path]:
    """The module, the conftests that serve it but the topmost, and what they import of ``tests``."""
    waiting = [module, *(folder / "conftest.py" for folder in module.parents if TESTS in folder.parents)]
    known: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in known and path.exists() and path != TESTS / "conftest.py":
            known.add(path)
            waiting += _imported(path)
    return known


def _imported(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
        for name in names:
            first, *rest = name.split(".")
            if first == "tests" and rest:
                yield TESTS.joinpath(*rest).with_suffix(".py")
                yield TESTS.joinpath(*rest, "__init__.py")
