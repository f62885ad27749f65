"""The command line as a whole, built from the modules that each bring their commands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Protocol

import typer

from broadcaster import __version__
from broadcaster.cli.terminal.failures import ReportingGroup, describe_exit_codes

_EXIT_CODES: Final = f"Exit codes: {describe_exit_codes()}."


class CommandModule(Protocol):
    """A module with commands."""

    def register(self, app: typer.Typer) -> None:
        """Add them to the application."""


def create_app(modules: Iterable[CommandModule]) -> typer.Typer:
    """The application with these modules' commands, in their order."""
    app = typer.Typer(
        name="broadcaster",
        cls=ReportingGroup,
        no_args_is_help=True,
        epilog=_EXIT_CODES,
        # Locals hold keys and prompts.
        pretty_exceptions_show_locals=False,
    )
    app.callback()(_common)
    for module in modules:
        module.register(app)
    return app


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
