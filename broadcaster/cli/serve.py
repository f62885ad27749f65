"""``broadcaster serve``: a front-end in this terminal, or several on one port."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import AsyncExitStack
from typing import Annotated, Final

import typer
import uvloop
from pydantic import ValidationError

from broadcaster.cli.processes.listening import LOOPBACK_OF, bind, url_of
from broadcaster.cli.processes.serving import being_served, count_of, create_serving, has_started, own_metrics
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.formats import masked
from broadcaster.cli.terminal.usage import expected, quoted
from broadcaster.errors import SetupError
from broadcaster.observability.logs import get_logger
from broadcaster.observability.metrics_server import MetricsAddress
from broadcaster.observability.serving import summed_metrics
from broadcaster.observability.telemetry import set_up_logging
from broadcaster.process.garbage_collection import tune_collector
from broadcaster.settings import PREFIX, Settings, describe_error, unknown_variables

_log = get_logger(__name__)
_VARIABLE: Final = re.compile(rf"\b{PREFIX}[A-Z_]*[A-Z]\b")

Host = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="address to listen on; 0.0.0.0: on all [BROADCASTER_HOST]")
]


def serve(
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 picks a free one [BROADCASTER_PORT]")] = None,
    host: Host = None,
    processes: Annotated[
        int | None, typer.Option(help="front-end processes on this port; 0: one per core [BROADCASTER_PROCESSES]")
    ] = None,
) -> None:
    """Run a front-end, or several on one port; BROADCASTER_REDIS_URL names its Redis."""
    settings = with_options(port=port, host=host, processes=processes)
    start_logging(settings)
    if settings.redis_url is None:
        raise SetupError("a front-end needs a Redis: set BROADCASTER_REDIS_URL, or use `broadcaster up`")
    with bind(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))


def with_options(**options: object) -> Settings:
    """The settings of the environment, with what was given on the command line in front.

    Raises CommandFailed for an option that its setting cannot have, or that contradicts another setting;
    ValidationError when the environment is wrong without it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    environment = Settings().model_dump()
    try:
        return Settings.model_validate({**environment, **given})
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = str(fault["loc"][0]) if fault["loc"] else ""
            if name in given:
                raise CommandFailed(f"{_option(name, given[name])}: {expected(fault)}", ExitCode.USAGE) from error
        shown = {f"{PREFIX}{name.upper()}": _option(name, value) for name, value in given.items()}
        text = _VARIABLE.sub(lambda found: shown.get(found[0], found[0]), describe_error(error))
        raise CommandFailed(text, ExitCode.USAGE) from error


def _option(name: str, value: object) -> str:
    """As it was given, without its secrets."""
    return f"--{name.replace('_', '-')} {quoted(masked(str(value)))}"


def start_logging(settings: Settings) -> None:
    """Set up logging, and first log the variables that look like settings but are not."""
    set_up_logging(settings.log_level, format=settings.log_format)
    for name, nearest in unknown_variables(os.environ):
        _log.warning("unknown_setting", variable=name, nearest=nearest)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    address = MetricsAddress.of(settings)
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(summed_metrics(address)) if count_of(settings) > 1 else None
        server = create_serving(settings, listener, folder=folder)
        await asyncio.sleep(0)  # a Ctrl-C that came during the imports ends the start here
        await stack.enter_async_context(own_metrics(server, address=address, folder=folder))
        serving = await stack.enter_async_context(being_served(server))
        if await has_started(server, serving):
            tune_collector()
            everywhere = f" (and on all addresses: {settings.host})" if settings.host in LOOPBACK_OF else ""
            typer.echo(f"listening on {url_of(settings, server.port)}{everywhere}")
        await serving
