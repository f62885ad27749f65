"""The programs that run the JavaScript client: node, and Deno and Bun as npm packages (``make js-runtimes``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.servers.programs import find_program, lacking

FOLDER: Final = Path(__file__).parent / "runtimes"
RUNTIMES: Final = ("node", "deno", "bun")
# Their packages hold the program for this machine in a package of its own; no script of theirs is run to copy it.
_PROGRAMS: Final = {"deno": "@deno/*/deno", "bun": "@oven/bun-*/bin/bun"}
# Deno asks before it reads or connects; bare specifiers would make it look for packages.
_OPTIONS: Final = {"deno": ("run", "--allow-all", "--no-lock", "--quiet")}


class Runtime(NamedTuple):
    """A program that runs a script, and its options before the script's name."""

    program: str
    options: Sequence[str] = ()


def find_runtime(name: str) -> Runtime:
    """The runtime of this name. Ends the test as ``lacking`` when it is not there."""
    if name == "node":
        return Runtime(find_program("node", remedy="install it, e.g. apt install nodejs"))
    program = next((FOLDER / "node_modules").glob(_PROGRAMS[name]), None)
    if program is None:
        lacking(f"no {name} found: get it with `make js-runtimes`")
    return Runtime(str(program), _OPTIONS.get(name, ()))


def runtime_params(*, without: Sequence[str] = ()) -> list[object]:
    """A parameter for each runtime: the tests of node run in `make test`, the others in `make compat`."""
    others = [name for name in RUNTIMES if name not in ("node", *without)]
    return ["node", *(pytest.param(name, marks=pytest.mark.thorough) for name in others)]
