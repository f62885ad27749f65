"""What `serve` and `up` serve with: a front-end in this process, or several below it, on one port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from broadcaster.cli.processes.cores import usable_cores
from broadcaster.cli.processes.front_ends import FrontEndProcesses
from broadcaster.settings import Settings

if TYPE_CHECKING:
    from broadcaster.web.server.runner import FrontEndServer

Serving: TypeAlias = "FrontEndServer | FrontEndProcesses"
"""Has ``port``; ``serve``, until a signal has drained it; and ``until_started``, to be awaited beside ``serve``."""


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
