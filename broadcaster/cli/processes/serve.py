"""What ``broadcaster serve`` runs: a front-end in this terminal, or several on one port."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

import typer
import uvloop

from broadcaster.cli.option_settings import start_logging, with_options
from broadcaster.cli.processes.listening import LOOPBACK_OF, bind, url_of
from broadcaster.cli.processes.serving import being_served, count_of, create_serving, has_started, own_metrics
from broadcaster.errors import SetupError
from broadcaster.observability.metrics_address import MetricsAddress
from broadcaster.observability.serving import summed_metrics
from broadcaster.process.memory import tune_memory
from broadcaster.settings import Settings


def run_serve(**options: object) -> None:
    """Serve until a signal; the options of the command are settings."""
    settings = with_options(**options)
    start_logging(settings)
    if settings.redis_url is None:
        raise SetupError("a front-end needs a Redis: set BROADCASTER_REDIS_URL, or use `broadcaster up`")
    with bind(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, listener))


async def _serve(settings: Settings, listener: socket.socket) -> None:
    address = MetricsAddress.of(settings)
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(summed_metrics(address)) if count_of(settings) > 1 else None
        server = create_serving(settings, listener, folder=folder)
        await asyncio.sleep(0)  # a Ctrl-C that came during the imports ends the start here
        await stack.enter_async_context(own_metrics(server, address=address, folder=folder))
        serving = await stack.enter_async_context(being_served(server))
        if await has_started(server, serving):
            tune_memory()
            everywhere = f" (and on all addresses: {settings.host})" if settings.host in LOOPBACK_OF else ""
            typer.echo(f"listening on {url_of(settings, server.port)}{everywhere}")
        await serving
