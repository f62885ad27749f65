"""Ctrl-C before a command runs: the process ends by the signal, and prints no traceback of an import."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

DEADLINE_S = 30.0
OF_NOHUP = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from broadcaster.process.interrupt_end import let_interrupts_end
from broadcaster.process.interrupts import raising_interrupts
let_interrupts_end()
with raising_interrupts():
    signal.raise_signal(signal.SIGINT)
signal.raise_signal(signal.SIGINT)
print("done")
"""


async def interrupted(*arguments: str, once_imported: str) -> tuple[int | None, str]:
    """Exit code and output of a program that is interrupted when it has imported this module, in the midst of others.

    Python reports each module that it has imported on stderr.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-X", "importtime", "-m", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20,
        env={**os.environ, "BROADCASTER_URL": "http://127.0.0.1:1"},
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE_S):
        while line := await process.stderr.readline():
            if line.rstrip().endswith(f" {once_imported}".encode()):
                break
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    printed = [line for line in err.decode().split("\n") if not line.startswith("import time:")]
    return process.returncode, out.decode() + "\n".join(printed)


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (("broadcaster", "ls"), "typer.models"),
        (("broadcaster", "ls"), "pydantic_settings"),
        (("broadcaster", "up"), "uvloop"),
        (("worker",), "pydantic_settings"),
    ],
)
async def test_an_interrupt_during_the_imports_ends_the_process_without_a_traceback(
    arguments: tuple[str, ...], module: str
) -> None:
    code, printed = await interrupted(*arguments, once_imported=module)
    assert (code, printed.strip()) == (-signal.SIGINT, "")


def test_a_process_whose_parent_ignores_interrupts_ignores_them_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OF_NOHUP], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


IMPORTED_BY = """
import sys
before = set(sys.modules)
import %s
print(*sorted(set(sys.modules) - before))
"""


def test_before_an_interrupt_ends_a_command_only_packages_on_the_way_are_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED_BY % "broadcaster.cli.entry"], capture_output=True, text=True, check=True
    )
    own = "broadcaster broadcaster.cli broadcaster.cli.entry broadcaster.process broadcaster.process.interrupt_end"
    assert set(ran.stdout.split()) <= {"__future__", *own.split()}
