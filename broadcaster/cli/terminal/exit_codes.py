"""How a command fails: one line on stderr, and an exit code that scripts can branch on.

``broadcaster --help`` needs nothing else of the terminal, so what describes a failure is imported when there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANNOT_CONNECT = 3
    INTERRUPTED = 130  # 128 + SIGINT, as shells count


# Where a context keeps the arguments that it was made with.
_ARGUMENTS: Final = "broadcaster.arguments"

_MEANINGS: Final = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "the generation failed or was stopped, the front-end refused, or a check failed",
    ExitCode.USAGE: "the command, its arguments or the settings are wrong",
    ExitCode.CANNOT_CONNECT: "no front-end (or Redis) answers, or not any more",
    ExitCode.INTERRUPTED: "Ctrl-C",
}


def describe_exit_codes() -> str:
    """All of them in one sentence, for ``--help``."""
    return "; ".join(f"{code.value} {meaning}" for code, meaning in _MEANINGS.items())


class CommandFailed(Exception):
    """A failure with its text and its exit code."""

    def __init__(self, text: str, code: ExitCode) -> None:
        super().__init__(text)
        self.code = code


class ReportingGroup(TyperGroup):
    """The command group: an error that the user can remedy becomes one line; others keep their traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = tuple(args)  # the parser takes them out of the list
        with _reporting(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _reporting(ctx):
            return super().invoke(ctx)


@contextmanager
def _reporting(context: Any) -> Iterator[None]:
    failure: CommandFailed | None
    try:
        yield
    except typer.TyperException as error:
        usage_failure = import_module("broadcaster.cli.terminal.usage").usage_failure
        failure = usage_failure(error, context, context.meta[_ARGUMENTS])
        if failure is None:
            raise
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        failure = import_module("broadcaster.cli.terminal.failures").failure_of(error)
        if failure is None:
            raise
    else:
        return
    import_module("broadcaster.cli.terminal.screen").Screen().fail(str(failure))
    raise typer.Exit(failure.code)
