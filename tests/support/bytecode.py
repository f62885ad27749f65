"""Compiles every module of the tests and of the project before the processes that run the tests start.

pytest rewrites the ``assert`` of a test module as it imports it, and keeps the result. The processes of a run import
all tests at the same moment: in a fresh checkout each of them would rewrite every module, which takes twelve seconds of
a core. This command does it once, with a process for each core.

    python -m tests.support.bytecode
"""

from __future__ import annotations

import compileall
import os
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Final

from _pytest.assertion import AssertionState, rewrite
from _pytest.config import Config, get_config

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("broadcaster", "worker", "tests")
AT_A_TIME: Final = 8
"""Files that a process takes at a time: few enough that all processes end together."""


def compile_module(file: Path) -> None:
    """Keep the bytecode of a module where pytest or Python will look for it.

    A test that cannot be parsed raises SyntaxError; of another module the run itself reports it.
    """
    if not (file.name.startswith("test_") or file.name == "conftest.py"):
        compileall.compile_file(file, quiet=2)
        return
    folder = rewrite.get_cache_dir(file)
    kept = folder / f"{file.stem}{rewrite.PYC_TAIL}"
    if rewrite._read_pyc(file, kept) is None:
        folder.mkdir(parents=True, exist_ok=True)
        digest, code = rewrite._rewrite_test(file, _config())
        rewrite._write_pyc(AssertionState(_config(), "rewrite"), code, digest, kept)


@cache
def _config() -> Config:
    return get_config()


def main() -> None:
    """Compile what is not compiled yet."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py") if "node_modules" not in file.parts]
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        list(processes.map(compile_module, files, chunksize=AT_A_TIME))


if __name__ == "__main__":
    main()
