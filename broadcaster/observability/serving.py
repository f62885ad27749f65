"""Metrics of one process: where they go while it runs.

A process serves its own metrics, or writes them to the folder of its parent, which serves the sum of all. Both read
the same sources.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from broadcaster.observability.counting import Reading, Source
from broadcaster.observability.exposition import expose, families
from broadcaster.observability.metrics_server import MetricsAddress, MetricsServer
from broadcaster.observability.process_counts import ProcessCounts, ProcessKind
from broadcaster.observability.shared_folder import SharedFolder, SharedWriter
from broadcaster.process.child_environment import METRICS_FOLDER_VARIABLE


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
            writer = SharedWriter(folder)
            stack.callback(writer.close)
            running.append(asyncio.create_task(writer.run(read)))
        elif address is not None:
            server = MetricsServer(lambda accept: expose(families(read()), accept=accept), address)
            await stack.enter_async_context(server.serving())
        yield


@asynccontextmanager
async def summed_metrics(address: MetricsAddress | None) -> AsyncIterator[SharedFolder | None]:
    """Serve the sum of the processes that write to the folder that this gives; None without an address."""
    if address is None:
        yield None
        return
    with SharedFolder.open() as folder:

        async def expose_sums(accept: str) -> tuple[bytes, str]:
            return await expose(folder.collect(), accept=accept)

        async with MetricsServer(expose_sums, address).serving():
            yield folder


def folder_of_parent() -> Path | None:
    """The folder that the parent of this process serves; None: it has none."""
    path = os.environ.get(METRICS_FOLDER_VARIABLE)
    return Path(path) if path else None


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
