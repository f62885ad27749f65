"""The ``broadcaster`` command.

A command's module is imported when the command is called: ``broadcaster ls`` needs neither the front-end's packages nor
Redis's, and they take longer to import than the call itself. ``--help``, the completion of a command's name and an
unknown name need all of them.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, cast

import typer

from broadcaster.cli.application import CommandModule, create_app

PROGRAM: Final = "broadcaster"

MODULES: Final = {
    "up": "up",
    "serve": "serve",
    "worker": "worker",
    "generate": "watch",
    "tail": "watch",
    "stop": "watch",
    "ls": "watch",
    "show": "show",
    "publish": "publish",
    "dead": "dead",
    "doctor": "doctor.command",
}
"""Command → its module here, in the order of ``--help``."""

_COMPLETION: Final = "_BROADCASTER_COMPLETE"
# The variable with the line to complete: zsh, fish and PowerShell; bash.
_LINE_VARIABLES: Final = ("_TYPER_COMPLETE_ARGS", "COMP_WORDS")


def create_app_for(arguments: Sequence[str]) -> typer.Typer:
    """The application with the modules that these arguments need: the first one that is not an option decides."""
    command = next((each for each in arguments if not each.startswith("-")), None)
    needed = MODULES.get(command or "")
    return create_app([_module(name) for name in ([needed] if needed else dict.fromkeys(MODULES.values()))])


def main() -> None:
    """Run the command of this process's arguments; ends the process with an ``ExitCode``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal's encoding lacks must not end the command.
            stream.reconfigure(errors="backslashreplace")
    arguments = _typed_so_far() if _COMPLETION in os.environ else sys.argv[1:]
    create_app_for(arguments)(prog_name=PROGRAM)


def _typed_so_far() -> Sequence[str]:
    """The arguments of the line to complete, without the last one: it may be half a command's name."""
    line = next((line for name in _LINE_VARIABLES if (line := os.environ.get(name)) is not None), "")
    arguments = line.split()
    return arguments[1:] if line[-1:].isspace() else arguments[1:-1]


def _module(name: str) -> CommandModule:
    return cast(CommandModule, import_module(f"broadcaster.cli.{name}"))
