"""The command group, which reports the errors that a user can remedy.

``broadcaster --help`` needs nothing else of the terminal, so what describes a failure is imported when there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from broadcaster.cli.terminal.exit_codes import CommandFailed

# Where a context keeps the arguments that it was made with.
_ARGUMENTS: Final = "broadcaster.arguments"


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
