"""Which test modules meet a Redis server: the only ones that can tell one engine from another.

A module meets one when it, or a module of ``tests`` that it imports (through others too), or a ``conftest.py`` beside
or above it says so in any way: the words are few and the rule is generous, for a module that is left out by mistake
would never run on the second engine. The conftest of all tests is judged by its fixtures instead (``SERVER_FIXTURES``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]
SERVER_FIXTURES: Final = frozenset({"redis_url", "connection"})
# An application of its own ("up") and the commands that look for a server start one without naming it.
SAYS_SO: Final = re.compile(r"redis|valkey|\"up\"|'up'|doctor", re.IGNORECASE)


@cache
def meets_redis(module: Path) -> bool:
    """Whether something that this module runs may be a Redis server, or speak to one; its fixtures apart."""
    return any(SAYS_SO.search(path.read_text("utf-8")) for path in _closure(module))


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
