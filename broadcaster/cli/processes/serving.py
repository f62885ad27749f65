"""What `serve` and `up` serve with: a front-end in this process, or several below it, on one port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final, TypeAlias

from broadcaster.cli.option_settings import variables_of
from broadcaster.cli.processes.cores import usable_cores
from broadcaster.cli.processes.front_ends import DemoFrontEnd, FrontEndProcesses, Supervision
from broadcaster.core.backoff import BackOff
from broadcaster.observability.metrics_address import MetricsAddress
from broadcaster.observability.serving import parent_metrics, process_metrics
from broadcaster.process.child_environment import METRICS_FOLDER_VARIABLE
from broadcaster.process.interrupts import import_undisturbed
from broadcaster.process.start import uncollected
from broadcaster.settings import Settings

if TYPE_CHECKING:
    from broadcaster.observability.shared_folder import SharedFolder
    from broadcaster.web.server.runner import FrontEndServer

# A front-end that a person kills repeatedly comes back as fast as after the first time.
_DEMO_PAUSES: Final = BackOff(0.2, 0.2)

Serving: TypeAlias = "FrontEndServer | FrontEndProcesses"
"""Has ``port``; ``serve``, until a signal or ``request_drain`` has drained it; and ``until_started``, to be awaited
beside ``serve``."""


def count_of(settings: Settings) -> int:
    """How many front-ends there are to be."""
    return settings.processes or usable_cores()


def create_serving(
    settings: Settings,
    listener: socket.socket,
    *,
    folder: SharedFolder | None = None,
    demo: DemoFrontEnd | None = None,
) -> Serving:
    """One front-end in this process, or as many child processes as the settings request.

    ``folder``: where they write their metrics. ``demo``: the front-end of the demo, which may be killed, and so is a
    child.
    """
    count = count_of(settings)
    if count == 1 and demo is None:
        # The parent of several does not need it.
        front_end = import_undisturbed("broadcaster.cli.processes.front_end")
        with uncollected():
            server: FrontEndServer = front_end.create_server(settings, listener)
        return server
    return FrontEndProcesses(
        count,
        listener,
        environment={**variables_of(settings), **folder_variables(folder)},
        provider_keys={variable for variables in settings.key_variables.values() for variable in variables},
        drain_s=settings.drain_window_s,
        on_end=None if folder is None else folder.settle,
        supervision=None if demo is None else Supervision(pauses=_DEMO_PAUSES),
        demo=demo,
    )


def folder_variables(folder: SharedFolder | None) -> dict[str, str]:
    """What makes a child process write its metrics to this folder."""
    return {} if folder is None else {METRICS_FOLDER_VARIABLE: str(folder.path)}


@asynccontextmanager
async def own_metrics(
    server: Serving, *, address: MetricsAddress | None, folder: SharedFolder | None
) -> AsyncIterator[None]:
    """The metrics of a front-end in this process, while the block runs: into ``folder``, or else at ``address``.

    Of the parent of several, the limits that it reaches.
    """
    path = None if folder is None else folder.path
    if isinstance(server, FrontEndProcesses):
        async with nullcontext() if path is None else parent_metrics(path):
            yield
        return
    async with process_metrics(server.readings, kind="front-end", address=address, folder=path):
        yield


@asynccontextmanager
async def being_served(server: Serving) -> AsyncIterator[asyncio.Task[None]]:
    """Serve beside the block. A block that fails or is cancelled first lets the server drain and end.

    A Ctrl-C that comes before the server takes signals cancels the block: what the server needs must outlive it.
    """
    serving = asyncio.create_task(server.serve())
    try:
        yield serving
    finally:
        if not serving.done():
            server.request_drain()
            await asyncio.wait({serving})


async def has_started(server: Serving, serving: asyncio.Task[None]) -> bool:
    """Wait until it serves, or has ended before; ``serving`` then has the error."""
    started = asyncio.create_task(server.until_started())
    await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    return not serving.done()
