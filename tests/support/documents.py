"""The commands and programs of the documents, run as a reader would run them.

Rules
1. A block is run when the line before its fence is ``<!-- run: NAME -->``, which no renderer shows. Names are unique
   within a document.
2. It is run as it stands, by ``bash`` or ``python``, with one replacement: addresses of a server that a reader has and
   a test has elsewhere. A block in another language is a file that a test uses.
3. Commands are those of this environment: ``uvicorn``, ``celery``, ``broadcaster`` and ``python`` beside its Python.
4. ``<!-- from: PATH -->`` before a block names the file of the checkout that holds its lines; a guard compares them.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.support.servers.processes import Running, running_program

ROOT: Final = Path(__file__).parents[2]
# What the documents call the reader's own servers.
REDIS_URL: Final = "redis://localhost:6379"
TIMEOUT_S: Final = 60.0
"""A program that prints has ended by then."""
# Lines come as they are printed.
_UNBUFFERED: Final = {"PYTHONUNBUFFERED": "1"}
_MARK: Final = "<!-- run: "
_MARKED: Final = re.compile(
    r"^<!-- run: (?P<name>[a-z-]+) -->\n```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A marked block of a document."""

    name: str
    language: str
    text: str
    where: Path = ROOT

    def with_addresses(self, addresses: Mapping[str, str]) -> Block:
        """The block with a reader's addresses replaced by a test's (rule 2)."""
        text = self.text
        for readers, ours in addresses.items():
            text = text.replace(readers, ours)
        return replace(self, text=text)

    def run_in(self, folder: Path) -> Block:
        """The block, to be run in this folder and not at the checkout's root."""
        return replace(self, where=folder)

    def with_options(self, *options: str) -> Block:
        """The block with options added to its last command."""
        return replace(self, text=" ".join([self.text.rstrip("\n"), *options]) + "\n")

    @property
    def command(self) -> tuple[str, ...]:
        """What runs it. The last command of a shell block takes the shell's place, and gets its signals."""
        if self.language == "python":
            return (sys.executable, "-c", self.text)
        *before, last = self.text.rstrip("\n").split("\n")
        return ("bash", "-euc", "\n".join([*before, f"exec {last}"]))


def marked_blocks(document: str) -> dict[str, Block]:
    """The blocks of a document (path from the checkout's root) that are run, by name, in their order."""
    text = (ROOT / document).read_text("utf-8")
    found = [Block(match["name"], match["language"], match["text"]) for match in _MARKED.finditer(text)]
    blocks = {block.name: block for block in found}
    assert len(blocks) == len(found) == text.count(_MARK), f"{document}: a mark without its block, or a name twice"
    return blocks


@asynccontextmanager
async def started(block: Block, folder: Path, **environment: str) -> AsyncIterator[Running]:
    """The block, running, its output in a file of ``folder``; ended when the context is left."""
    log = folder / f"{block.name}.log"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    whole = {**os.environ, "PATH": path, **_UNBUFFERED, **environment}
    async with running_program(*block.command, environment=whole, folder=block.where, log=log) as running:
        yield running


async def run_to_its_end(block: Block, folder: Path, **environment: str) -> str:
    """What the block prints until it ends, which it must do with 0."""
    async with started(block, folder, **environment) as running, asyncio.timeout(TIMEOUT_S):
        code = await running.process.wait()
    printed = running.log.read_text("utf-8")
    assert code == 0, printed
    return printed


# Lines come as they are printed; Celery warns that a container's root runs it.
_QUIET: Final = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
}
