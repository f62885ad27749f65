"""What `broadcaster demo` adds to `up`, in the parent of all processes: it causes the faults, and reports readiness.

A front-end can only name a fault. The parent causes it in its own children and nowhere else, whatever the name is.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import typer

from broadcaster.cli.demo.faults import FRONT_END_MODULE
from broadcaster.cli.processes.front_ends import DemoFrontEnd, FrontEndProcesses
from broadcaster.cli.processes.parent_channel import RequestedFault
from broadcaster.cli.processes.workers import WorkerProcesses
from broadcaster.client import AsyncClient, ClientError
from broadcaster.log.redis.embedded import EmbeddedServer
from broadcaster.observability.logs import get_logger
from broadcaster.process.demo_faults import CUT_REDIS, CUT_S, KILL_WORKER, RESTART_FRONT_END

_POLL_S: Final = 0.05
_log = get_logger(__name__)


class Demo:
    """One run, which began at ``began`` (of ``time.monotonic``)."""

    def __init__(self, began: float) -> None:
        self._began = began

    def over(self, server: EmbeddedServer, workers: WorkerProcesses) -> DemoFrontEnd:
        """How its front-end is started; the faults that it names concern this server and these workers."""
        return DemoFrontEnd(FRONT_END_MODULE, DemoFaults(server, workers).cause)

    async def report_ready(self, url: str, serving: asyncio.Task[None]) -> None:
        """Print how long the page and the worker took, once a worker has loaded its model, if the front-end serves
        for so long."""
        page_s = time.monotonic() - self._began
        ready = asyncio.create_task(_until_a_worker_is_ready(url))
        try:
            await asyncio.wait({ready, serving}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                total_s = time.monotonic() - self._began
                typer.echo(
                    f"  ready in {total_s:.1f} s: the page after {page_s:.1f} s, the worker after {total_s:.1f} s"
                )
        finally:
            ready.cancel()


async def _until_a_worker_is_ready(url: str) -> None:
    """A worker has a heartbeat once its model is loaded."""
    async with AsyncClient(url) as client:
        while True:
            try:
                if any(worker.alive for worker in (await client.workers()).workers):
                    return
            except ClientError as error:
                if not error.retry:
                    raise
            await asyncio.sleep(_POLL_S)


class DemoFaults:
    """Causes the faults that a front-end names."""

    def __init__(self, server: EmbeddedServer, workers: WorkerProcesses) -> None:
        self._server = server
        self._workers = workers
        self._cuts: set[asyncio.Task[None]] = set()

    def cause(self, fault: RequestedFault, front_ends: FrontEndProcesses) -> None:
        """Cause this fault, which one of these front-ends has named; an unknown fault is ignored."""
        _log.warning("demo_fault", fault=fault.name, concerned=fault.concerned)
        if fault.name == KILL_WORKER and fault.concerned.isdecimal():
            self._workers.kill(int(fault.concerned))
        elif fault.name == RESTART_FRONT_END:
            front_ends.kill(fault.front_end_pid)
        elif fault.name == CUT_REDIS:
            cut = asyncio.create_task(self._server.cut(for_s=CUT_S))
            self._cuts.add(cut)
            cut.add_done_callback(self._cuts.discard)
