"""The page of the pytest fixtures: names, types and docstrings of the plugin, read from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Final

from broadcaster.fixtures import collecting
from tests.guards.source import ROOT, read

PLUGIN: Final = ROOT / "broadcaster" / "fixtures" / "plugin.py"
_YIELDED: Final = re.compile(r"Iterator\[(.+)\]")


def fixtures_page(note: str, prose: Callable[[str], str]) -> str:
    """The page; ``prose`` makes Markdown of a docstring."""
    head = (
        "The plugin comes with `pip install 'llm-broadcaster[testing]'` ([guide](../testing.md)). A test names a "
        "fixture among its arguments."
    )
    parts = [note, "# pytest fixtures", head]
    for name, kind, document in fixtures():
        parts += [f"## `{name}`", f"```python\n{name}: {kind}\n```", prose(document)]
    call = collecting.StreamCollector.__call__
    parts += [
        "## `StreamCollector`",
        "```python\nawait collect(stream_id: str, *, timeout_s: float = 10.0) -> CollectedStream\n```",
        prose(call.__doc__ or ""),
        "## `CollectedStream`",
        prose(collecting.CollectedStream.__doc__ or ""),
        "| Field | Type |\n| --- | --- |\n| `events` | `list[EntryReceived]` |\n| `types` | `list[str]` |\n"
        "| `text` | `str` |\n| `result` | `StreamResult` |",
        "## `StreamNotEnded`",
        prose(collecting.StreamNotEnded.__doc__ or ""),
    ]
    return "\n\n".join(parts)


def fixtures() -> Iterator[tuple[str, str, str]]:
    """Name, type and docstring of each public fixture."""
    for node in read(PLUGIN).tree.body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        if any(ast.unparse(each).startswith("pytest.fixture") for each in node.decorator_list):
            returns = "" if node.returns is None else ast.unparse(node.returns)
            yielded = _YIELDED.fullmatch(returns)
            yield node.name, yielded[1] if yielded else returns, ast.get_docstring(node) or ""
