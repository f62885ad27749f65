"""``broadcaster serve``: a front-end in this terminal."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Annotated, Final

import structlog
import typer
import uvloop

from broadcaster.cli.failures import CommandFailed, ExitCode
from broadcaster.errors import SetupError
from broadcaster.settings import Settings, unknown_variables
from broadcaster.telemetry import set_up_logging
from broadcaster.web.app import create_app
from broadcaster.web.runner import FrontEndServer, open_listener
from broadcaster.web.services import Services

_DRAIN_MARGIN_S: Final = 0.5
# What listens on all addresses of a machine is reached on it by its loopback address.
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_log = structlog.get_logger(__name__)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 picks a free one [BROADCASTER_PORT]")] = None,
) -> None:
    """Run a front-end; BROADCASTER_REDIS_URL names its Redis."""
    settings = with_options(port=port)
    start_logging(settings)
    if settings.redis_url is None:
        raise SetupError("a front-end needs a Redis: set BROADCASTER_REDIS_URL, or use `broadcaster up`")
    listener = bind(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
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


def bind(settings: Settings) -> socket.socket:
    """A bound socket. Raises CommandFailed when the port is taken."""
    try:
        return open_listener(settings.host, settings.port)
    except OSError as error:
        text = f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another with --port"
        raise CommandFailed(text, ExitCode.USAGE) from None


def create_server(settings: Settings, listener: socket.socket) -> FrontEndServer:
    """The front-end's server; it drains its viewers when it is asked to end."""
    app = create_app(settings)

    async def drain() -> None:
        services: Services = app.state.services
        services.draining.set()
        await services.hub.drain(window_s=settings.drain_window_s)

    return FrontEndServer(
        app, listener=listener, on_drain=drain, drain_timeout_s=settings.drain_window_s + _DRAIN_MARGIN_S
    )


def url_of(settings: Settings, server: FrontEndServer) -> str:
    """The URL a client on this machine uses."""
    host = _LOOPBACK_OF.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


async def _serve(settings: Settings, listener: socket.socket) -> None:
    server = create_server(settings, listener)
    serving = asyncio.create_task(server.serve())
    started = asyncio.create_task(server.until_started())
    await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        everywhere = f" (and on all addresses: {settings.host})" if settings.host in _LOOPBACK_OF else ""
        typer.echo(f"listening on {url_of(settings, server)}{everywhere}")
    started.cancel()
    await serving
