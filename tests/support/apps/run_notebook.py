"""Execute a notebook in a kernel of this Python; its cells of code are printed as JSON.

    python -m tests.support.apps.run_notebook NOTEBOOK

A cell is {text, html, updates, error}: its last output as plain text and as HTML, how often an output was replaced, and
its exception.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

CELL_TIMEOUT_S: Final = 60


class Executing(NotebookClient):  # type: ignore[misc]  # without types
    """Counts how often each cell replaces an output."""

    def __init__(self, notebook: Any) -> None:
        super().__init__(notebook, timeout=CELL_TIMEOUT_S, kernel_name="python3", allow_errors=True)
        self.updates: dict[int, int] = {}

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "update_display_data":
            self.updates[cell_index] = self.updates.get(cell_index, 0) + 1
        return super().process_message(msg, cell, cell_index)


def shown(cell: Any, updates: int) -> dict[str, Any]:
    """What a cell shows."""
    bundle: dict[str, str] = {}
    error = None
    for output in cell.outputs:
        bundle = dict(output.get("data", bundle))
        if output.output_type == "error":
            error = f"{output.ename}: {output.evalue}"
    return {"text": bundle.get("text/plain"), "html": bundle.get("text/html"), "updates": updates, "error": error}


def main(path: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = Executing(notebook)
    client.execute()
    cells = [(at, cell) for at, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    print(json.dumps([shown(cell, client.updates.get(at, 0)) for at, cell in cells]))


if __name__ == "__main__":
    main(sys.argv[1])
