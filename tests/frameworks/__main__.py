"""The second half of ``make compat``: run every cell of the table of frameworks and print it.

``--write`` keeps it in docs/compat.md, and folded in README.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from tests.compat.__main__ import DOCUMENT, README, WIDTH
from tests.compat.matrix import Matrix, replace_between, show_versions, split_at_marks
from tests.frameworks import table as scheduling
from tests.frameworks.table import create_table
from tests.frameworks.versions import versions

BEGIN, END = "<!-- frameworks: begin -->", "<!-- frameworks: end -->"

ABOUT: Final = """\
The second table of `make compat`: released frameworks and coding agents, given an address, a key and a model, and
nothing else. Every cell was run against real processes, with models on three wires of a scripted provider.

{table}
- **plain**, **stream**: the whole text, the finish reason and the counts of tokens, of models on each of the three
  wires.
- **tools**: the model calls a tool, the framework runs it, the model answers the result. **structured**: a parsed
  object.
- **errors**: the provider refuses with 400, 401, 429 and 503, plain and streamed; the framework raises what it raises
  when it is given the provider's own address, with the same status.
- **stop**: a user that leaves a stream stops the answer; a stop from outside ends the stream with the text so far.
- **killed worker**: `kill -9` in mid-answer is an error or the whole answer, and no text appears twice.
- A coding agent is run without a terminal (docs/agents.md has its configuration). With a model of each wire: **plain**,
  **stream**: it shows the whole text once, and succeeds; **tools**: it runs a command that makes a file;
  **structured**: it gives the object of a JSON schema. With a model of its own wire: **errors**: it shows a refused
  key, and retries, or shows the refusal, when there were too many requests; **stop**: SIGINT or SIGTERM to the agent
  stops the answer, and a stop from outside ends the agent's run without a repeated text; **killed worker**: it fails,
  or completes its task.
- Another text in a cell is the reason why it is not `ok`: the client has no such thing (`objects only`,
  `always streams`, `no schemas`), the agent repeats a stopped request by itself and completes its task (`asks again`,
  measured with this server alone), or no server can satisfy it, since the framework behaves so before the provider too.

{versions}
"""
FOLDED: Final = """\
<details>
<summary>Frameworks and coding agents that were run</summary>

{table}
</details>
"""


def write(table: Matrix) -> None:
    """The section of the document, and the folded table in the README."""
    texts = {DOCUMENT: ABOUT.format(table=table.markdown(), versions=show_versions(versions()))}
    texts[README] = FOLDED.format(table=table.markdown())
    for document, text in texts.items():
        replace_between(document, BEGIN, END, text=text)


def main(arguments: list[str]) -> int:
    """The exit code is pytest's."""
    table = create_table()
    chosen = [each for each in arguments if each != "--write"]
    if "--write" in arguments:
        # A missing mark is an error before the run, not after it.
        for document in (DOCUMENT, README):
            split_at_marks(document, BEGIN, END)
    # This program has imported what pytest would have liked to look into.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-q", "--no-header", "--tb=short"]
    code = pytest.main([*quiet, str(Path(__file__).parent), *chosen], plugins=[table, scheduling])
    Console(width=WIDTH).print(table.table())
    if "--write" in arguments and code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        write(table)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
