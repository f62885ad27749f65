"""Metrics of one process: where they go while it runs.

A process serves its own metrics, or writes them to the folder of its parent, which serves the sum of all. Both read
the same sources. What makes and serves the text is imported by the first process that has metrics on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from broadcaster.observability.counting import Reading, Source, counted
from broadcaster.observability.limits import REACHED
from broadcaster.observability.metrics_address import MetricsAddress
from broadcaster.observability.process_counts import ProcessCounts, ProcessKind
from broadcaster.process.child_environment import METRICS_FOLDER_VARIABLE

if TYPE_CHECKING:
    from broadcaster.observability.metrics_server import Expose, MetricsServer
    from broadcaster.observability.shared_folder import SharedFolder, SharedWriter


@asynccontextmanager
async def process_metrics(
    source: Source, *, kind: ProcessKind, address: MetricsAddress | None, folder: Path | None = None
) -> AsyncIterator[None]:
    """Serve the metrics of this process at ``address``, or write them to ``folder``; neither: do nothing."""
    if folder is None and address is None:
        yield
        return
    counts = ProcessCounts(kind)

    def read() -> Iterable[Reading]:
        return [*source(), *counts.readings()]

    async with AsyncExitStack() as stack:
        running = [asyncio.create_task(counts.run())]
        stack.push_async_callback(_end, running)
        if folder is not None:
            await stack.enter_async_context(_written(read, folder))
        elif address is not None:
            exposition = import_module("broadcaster.observability.exposition")
            server = _server(lambda accept: exposition.expose(exposition.families(read()), accept=accept), address)
            await stack.enter_async_context(server.serving())
        yield


@asynccontextmanager
async def parent_metrics(folder: Path) -> AsyncIterator[None]:
    """Write the limits that a parent of front-ends reaches, and nothing else, to the folder that it serves."""
    async with _written(lambda: counted("broadcaster_limit_reached_total", REACHED), folder):
        yield


@asynccontextmanager
async def summed_metrics(address: MetricsAddress | None) -> AsyncIterator[SharedFolder | None]:
    """Serve the sum of the processes that write to the folder that this gives; None without an address."""
    if address is None:
        yield None
        return
    exposition = import_module("broadcaster.observability.exposition")
    kind: type[SharedFolder] = import_module("broadcaster.observability.shared_folder").SharedFolder
    with kind.open() as folder:

        async def expose_sums(accept: str) -> tuple[bytes, str]:
            text: tuple[bytes, str] = await exposition.expose(folder.collect(), accept=accept)
            return text

        async with _server(expose_sums, address).serving():
            yield folder


def folder_of_parent() -> Path | None:
    """The folder that the parent of this process serves; None: it has none."""
    path = os.environ.get(METRICS_FOLDER_VARIABLE)
    return Path(path) if path else None


@asynccontextmanager
async def _written(source: Source, folder: Path) -> AsyncIterator[None]:
    kind: type[SharedWriter] = import_module("broadcaster.observability.shared_folder").SharedWriter
    writer = kind(folder)
    writing = asyncio.create_task(writer.run(source))
    try:
        yield
    finally:
        await _end([writing])
        writer.close()


def _server(expose: Expose, address: MetricsAddress) -> MetricsServer:
    kind: type[MetricsServer] = import_module("broadcaster.observability.metrics_server").MetricsServer
    return kind(expose, address)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
