"""What `serve` and `up` serve with: a front-end in this process, or several below it, on one port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Protocol

from broadcaster.cli.processes.cores import usable_cores
from broadcaster.cli.processes.front_ends import FrontEndProcesses
from broadcaster.settings import Settings


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
        """Wait until it serves requests. Also wait for ``serve()``, which raises if the start fails."""
        ...


def create_serving(
    settings: Settings, listener: socket.socket, *, environment: Mapping[str, str] | None = None
) -> Serving:
    """One front-end in this process, or as many child processes as the settings request.

    ``environment``: the variables for child processes where these settings differ from the environment.
    """
    count = settings.processes or usable_cores()
    if count == 1:
        from broadcaster.cli.processes.front_end import create_server  # noqa: PLC0415 - the parent of several does not need it

        return create_server(settings, listener)
    return FrontEndProcesses(
        count,
        listener,
        environment=environment or {},
        provider_keys={variable for variables in settings.key_variables.values() for variable in variables},
        drain_s=settings.drain_window_s,
    )


async def has_started(server: Serving, serving: asyncio.Task[None]) -> bool:
    """Wait until it serves, or has ended before; ``serving`` then has the error."""
    started = asyncio.create_task(server.until_started())
    await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    return not serving.done()
