"""The ``broadcaster`` command.

A command's module is imported when the command is called: ``broadcaster ls`` needs neither the front-end's packages nor
Redis's, and they take longer to import than the call itself. ``--help``, the completion of a command's name and an
unknown name import none: they have the commands' names and summaries from here.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Annotated, Final

import typer

from broadcaster import __version__
from broadcaster.cli.arguments import command_in
from broadcaster.cli.terminal.exit_codes import ExitCode, describe_exit_codes
from broadcaster.cli.terminal.reporting import ReportingGroup
from broadcaster.process.interrupts import raising_interrupts

PROGRAM: Final = "broadcaster"

MODULES: Final = {
    "demo": "demo.command",
    "up": "up",
    "serve": "serve",
    "worker": "worker",
    "generate": "streams.generate",
    "chat": "streams.chat",
    "tail": "streams.watch",
    "stop": "streams.watch",
    "delete": "streams.watch",
    "ls": "streams.listing",
    "show": "streams.show",
    "top": "streams.top",
    "publish": "streams.publish",
    "dead": "dead",
    "key": "key",
    "token": "token",
    "schema": "schema",
    "doctor": "doctor.command",
}
"""Command → the module here that defines a function or group of that name; in the order of ``--help``."""

SUMMARIES: Final = {
    "demo": "Watch answers survive: everything of `up`, and a page that kills the worker, the front-end and Redis.",
    "up": "Run everything on this machine: Redis, workers, a front-end and its page. Press Ctrl-C to stop all of it.",
    "serve": "Run a front-end, or several on one port; BROADCASTER_REDIS_URL names its Redis.",
    "worker": "Run a worker (the same as `python -m worker`); BROADCASTER_REDIS_URL names its Redis.",
    "generate": "Start a generation and watch it: the answer on stdout, everything else on stderr.",
    "chat": "Hold a conversation: one line is one message.",
    "tail": "Watch a generation from its beginning, or after a cursor, to its end. Watching does not affect it.",
    "stop": "End a generation for all its viewers.",
    "delete": "Delete generations and feeds: what is open is stopped first, and its viewers see that end.",
    "ls": "List the open generations and feeds, the newest first; with --status also those that are over.",
    "show": "Show everything about a generation (status, model, times, usage, error, tool calls, its answer), or a "
    "feed.",
    "top": "Show workers, the queue, and the open generations and feeds, as they change. Press Ctrl-C to stop.",
    "publish": 'Append events to a feed: {"type": "data-progress", "data": {"done": 3, "total": 10}}, text-delta, …',
    "dead": "Generations that failed on every attempt.",
    "key": "Callers' keys in Redis, for all front-ends with AUTH=keys.",
    "token": "Viewer tokens: short-lived, for one stream or a prefix. `broadcaster token STREAM` makes one.",
    "schema": "Print the JSON Schema of every event type.",
    "doctor": "Check settings, this machine, Redis, the front-end and the providers, and print a remedy for each "
    "problem.",
}
"""Command → the first paragraph of its own help, for the list of commands."""

_ESCAPES: Final = "broadcaster.escapes"
_COMPLETION: Final = "_BROADCASTER_COMPLETE"
# The variable with the line to complete: zsh, fish and PowerShell; bash.
_LINE_VARIABLES: Final = ("_TYPER_COMPLETE_ARGS", "COMP_WORDS")


def create_app_for(arguments: Sequence[str]) -> typer.Typer:
    """The application that these arguments need: their command, or the list of all commands."""
    command = command_in(arguments)
    return create_app([command]) if command in MODULES else create_listing()


def create_app(commands: Iterable[str]) -> typer.Typer:
    """The application with these commands, in their order."""
    app = _create_group()
    for name in commands:
        command = getattr(import_module(f"broadcaster.cli.{MODULES[name]}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name)(command)
    return app


def create_listing() -> typer.Typer:
    """The application with the names and summaries of all commands, for ``--help`` and for a name that is unknown."""
    app = _create_group()
    for name, summary in SUMMARIES.items():
        app.command(name, help=summary)(_listed(name))
    return app


def _create_group() -> typer.Typer:
    app = typer.Typer(
        name=PROGRAM,
        cls=ReportingGroup,
        no_args_is_help=True,
        epilog=f"Exit codes: {describe_exit_codes()}.",
        # Locals hold keys and prompts.
        pretty_exceptions_show_locals=False,
    )
    app.callback()(_common)
    return app


def _listed(name: str) -> Callable[[], None]:
    def run() -> None:
        raise RuntimeError(f"{name} is only listed here: create_app([{name!r}]) has the command")

    return run


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"broadcaster {__version__}")
        raise typer.Exit


def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """LLM answers that outlive the request: start, watch, stop and serve generations."""


def main() -> None:
    """Run the command of this process's arguments; ends the process with an ``ExitCode``."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: what is written goes nowhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the rest of the process
    codecs.register_error(_ESCAPES, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal's encoding lacks must not end the command.
            stream.reconfigure(errors=_ESCAPES)
    arguments = _typed_so_far() if _COMPLETION in os.environ else sys.argv[1:]
    app = create_app_for(arguments)
    try:
        with raising_interrupts():
            app(prog_name=PROGRAM)
    except KeyboardInterrupt:  # before typer runs the command, or after
        sys.exit(ExitCode.INTERRUPTED)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """The characters as JSON escapes: what programs read stays JSON, where ``backslashreplace`` writes ``\\xe9``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


def _typed_so_far() -> Sequence[str]:
    """The arguments of the line to complete, without the last one: it may be half a command's name."""
    line = next((line for name in _LINE_VARIABLES if (line := os.environ.get(name)) is not None), "")
    arguments = line.split()
    return arguments[1:] if line[-1:].isspace() else arguments[1:-1]
