"""What `serve` and `up` serve with: a front-end in this process, or several below it, on one port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Final, Protocol

from broadcaster.cli.cores import usable_cores
from broadcaster.cli.failures import CommandFailed, ExitCode
from broadcaster.cli.front_ends import FrontEndProcesses
from broadcaster.settings import Settings
from broadcaster.web.listener import open_listener

# What listens on all addresses of a machine is reached on it by its loopback address.
LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Serving(Protocol):
    """A front-end's server, or the supervisor of several."""

    @property
    def port(self) -> int:
        """The port it listens on."""
        ...

    async def serve(self) -> None:
        """Serve until a signal, drain, and end."""
        ...

    async def until_started(self) -> None:
        """Until requests are served. Wait for ``serve()`` beside it: a start that fails is told there."""
        ...


def bind(settings: Settings, *, is_shared: bool = False) -> socket.socket:
    """A bound socket. Raises CommandFailed when the port is taken."""
    try:
        return open_listener(settings.host, settings.port, is_shared=is_shared)
    except OSError as error:
        text = f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another with --port"
        raise CommandFailed(text, ExitCode.USAGE) from None


def create_serving(
    settings: Settings, listener: socket.socket, *, environment: Mapping[str, str] | None = None
) -> Serving:
    """One in this process, or as many below it as the settings say.

    ``environment``: what those below are told of these settings, where they are not the environment's.
    """
    count = settings.processes or usable_cores()
    if count == 1:
        from broadcaster.cli.front_end import create_server  # noqa: PLC0415 - who starts several needs none of it here

        return create_server(settings, listener)
    return FrontEndProcesses(
        count,
        listener,
        environment=environment or {},
        provider_keys={variable for variables in settings.key_variables.values() for variable in variables},
        drain_s=settings.drain_window_s,
    )


def url_of(settings: Settings, server: Serving) -> str:
    """The URL a client on this machine uses."""
    host = LOOPBACK_OF.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


async def has_started(server: Serving, serving: asyncio.Task[None]) -> bool:
    """Wait until it serves, or has ended without; the end is ``serving``'s to tell."""
    started = asyncio.create_task(server.until_started())
    await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    return not serving.done()
