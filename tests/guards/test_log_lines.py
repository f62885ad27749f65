"""docs/operations.md describes each line of the log and each of its fields as the code has them.

``python -m tests.guards.test_log_lines`` prints the tables.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from broadcaster.observability.lines import LINES, RequestLine
from tests.guards.source import modules

ROOT = Path(__file__).parents[2]


def lines_section() -> str:
    """The tables, as they stand in the document."""
    shared = RequestLine.meanings()
    parts = ["#### Every line about a request", "", *_table(shared)]
    for line in LINES:
        own = line.meanings()
        if issubclass(line, RequestLine):
            own = {name: meaning for name, meaning in own.items() if name not in shared}
        parts += ["", f"#### `{line.event}`", "", line.about, "", *_table(own)]
    return "\n".join(parts)


def _table(meanings: Mapping[str, str]) -> list[str]:
    return ["| Field | Meaning |", "| --- | --- |", *(f"| `{name}` | {each} |" for name, each in meanings.items())]


def test_the_document_has_the_tables_of_the_lines() -> None:
    assert lines_section() in (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_no_other_call_writes_an_event_of_these_lines() -> None:
    """A call with a name in quotes would add a line whose fields no table lists."""
    events = {line.event for line in LINES}
    offences = [
        module.at(node)
        for module in modules("broadcaster", "worker")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and node.args and getattr(node.args[0], "value", None) in events
    ]
    assert not offences, "\n".join(offences)


if __name__ == "__main__":
    print(lines_section())
