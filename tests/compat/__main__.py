"""``make compat``: run every cell of the matrix and print it; ``--write`` keeps it in docs/compat.md.

A cell is what was really run just now: ``ok`` with the number of streams that were compared, ``failed``, or ``–``.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from tests.compat.matrix import Matrix, replace_between, show_versions
from tests.compat.node_clients import FOLDER, pinned_modules
from tests.compat.python_clients import find_curl

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "compat.md"
README: Final = ROOT / "README.md"
BEGIN, END = "<!-- compat: begin -->", "<!-- compat: end -->"
WIDTH: Final = 150

ABOUT: Final = """\
`make compat` writes this table: every row is a released client, unchanged but for its address, and every cell was run
against the real thing. `ok (n)` counts the streams that were compared.

{table}
- **fresh run**, **late join**, **stop**, **killed worker**: three front-ends behind one address, each connection
  to another, a worker that is ended with `kill -9`, a scripted provider, an embedded Valkey.
- **opened after every entry**: recorded generations (text; thinking, tools, citations over two steps; answers of both
  OpenAI wires; two attempts), opened after each entry in turn: the final object is that of the uninterrupted stream.
  Responses are resumed after every sequence number too; `eventsource` and curl are cut there, and come back by
  `Last-Event-ID`.
- **tool call**, **thinking**: arguments and thoughts arrive unchanged, from any point of the stream.

{versions}
"""


def versions() -> str:
    """What was run."""
    curl = subprocess.run([find_curl(), "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    python = [f"{name} {version(name)}" for name in ("openai", "anthropic")]
    return f"Python {', '.join(python)}; Node {', '.join(pinned_modules(FOLDER))}; curl {curl}"


def write(matrix: Matrix) -> None:
    """The section of the document."""
    text = ABOUT.format(table=matrix.markdown(), versions=show_versions(versions()))
    replace_between(DOCUMENT, BEGIN, END, text=text)


def main(arguments: list[str]) -> int:
    """The exit code is pytest's."""
    matrix = Matrix()
    chosen = [each for each in arguments if each != "--write"]
    # This program has imported what pytest would have liked to look into.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-q", "--no-header", "--tb=short"]
    code = pytest.main([*quiet, str(Path(__file__).parent), *chosen], plugins=[matrix])
    Console(width=WIDTH).print(matrix.table())
    if "--write" in arguments and code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        write(matrix)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
