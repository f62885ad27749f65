"""``broadcaster serve``: a front-end in this terminal, or several on one port."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Annotated

import structlog
import typer
import uvloop

from broadcaster.cli.serving import LOOPBACK_OF, bind, create_serving, has_started, url_of
from broadcaster.collector import settle_collector
from broadcaster.errors import SetupError
from broadcaster.settings import Settings, unknown_variables
from broadcaster.telemetry import set_up_logging

_log = structlog.get_logger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 picks a free one [BROADCASTER_PORT]")] = None,
    processes: Annotated[
        int | None, typer.Option(help="front-end processes on this port; 0: one per core [BROADCASTER_PROCESSES]")
    ] = None,
) -> None:
    """Run a front-end, or several on one port; BROADCASTER_REDIS_URL names its Redis."""
    settings = with_options(port=port, processes=processes)
    start_logging(settings)
    if settings.redis_url is None:
        raise SetupError("a front-end needs a Redis: set BROADCASTER_REDIS_URL, or use `broadcaster up`")
    with bind(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))


def with_options(**options: object) -> Settings:
    """The settings of the environment, with what was given on the command line in front."""
    given = {name: value for name, value in options.items() if value is not None}
    return Settings.model_validate({**Settings().model_dump(), **given})


def start_logging(settings: Settings) -> None:
    """Log as the settings say, and say first which variables look like settings and are none."""
    set_up_logging(settings.log_level)
    for name, nearest in unknown_variables(os.environ):
        _log.warning("unknown_setting", variable=name, nearest=nearest)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    server = create_serving(settings, listener)
    serving = asyncio.create_task(server.serve())
    if await has_started(server, serving):
        settle_collector()
        everywhere = f" (and on all addresses: {settings.host})" if settings.host in LOOPBACK_OF else ""
        typer.echo(f"listening on {url_of(settings, server)}{everywhere}")
    await serving
