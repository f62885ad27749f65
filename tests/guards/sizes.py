"""``python -m tests.guards.sizes``: files and lines of code of each room, as `make check` prints them.

A line of code is one that holds more than blanks, a comment or a docstring.
"""

import ast
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.guards.source import Module, modules

PACKAGES = ("broadcaster", "worker")


@dataclass
class Room:
    """What one folder holds."""

    lines: list[int] = field(default_factory=list)  # of each file, all of them
    code: int = 0  # lines of code


def code_lines(module: Module) -> int:
    """How many lines of a module are code."""
    left_out = {line for start, end in _docstrings(module.tree) for line in range(start, end + 1)}
    texts = (line.strip() for number, line in enumerate(module.lines, 1) if number not in left_out)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.lineno, first.end_lineno or first.lineno


def main() -> None:
    """Print the table."""
    rooms: dict[str, Room] = {}
    for module in modules(*PACKAGES):
        room = rooms.setdefault(module.path.rpartition("/")[0], Room())
        room.lines.append(module.text.count("\n"))
        room.code += code_lines(module)
    print(f"{'room':44} {'files':>5} {'lines':>6} {'code':>6} {'longest':>7}")
    for name, room in sorted(rooms.items()):
        print(f"{name:44} {len(room.lines):5} {sum(room.lines):6} {room.code:6} {max(room.lines):7}")
    every = [length for room in rooms.values() for length in room.lines]
    code = sum(room.code for room in rooms.values())
    print(f"{'all':44} {len(every):5} {sum(every):6} {code:6} {max(every):7}  median {statistics.median(every):g}")


if __name__ == "__main__":
    main()
