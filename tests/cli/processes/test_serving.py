"""What `serve` and `up` serve with, from the start to the end."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import structlog

from broadcaster.cli.processes.front_ends import FrontEndProcesses
from broadcaster.cli.processes.serving import being_served, has_started, own_metrics
from broadcaster.observability.limits import REACHED
from broadcaster.observability.metrics_address import MetricsAddress
from broadcaster.observability.serving import summed_metrics
from broadcaster.observability.shared_folder import SharedFolder
from broadcaster.web.server.runner import FrontEndServer
from tests.support.scraping import exchange

DEADLINE_S = 10.0


def lifespan_only(steps: list[str]) -> Any:
    """An app that serves nothing, and notes its start and its end."""

    async def app(_: Any, receive: Any, send: Any) -> None:
        for step, done in (("startup", "started"), ("shutdown", "ended")):
            await receive()
            steps.append(done)
            await send({"type": f"lifespan.{step}.complete"})

    return app


@pytest.fixture
def listener() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


async def test_a_block_that_is_cancelled_lets_its_server_drain_and_end_first(listener: socket.socket) -> None:
    begun, steps = asyncio.Event(), list[str]()

    async def drain() -> None:
        steps.append("drained")

    server = FrontEndServer(lifespan_only(steps), listener=listener, on_drain=drain, drain_timeout_s=1)

    async def run() -> None:
        async with being_served(server) as serving:
            assert await has_started(server, serving)
            begun.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    async with asyncio.timeout(DEADLINE_S):
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert steps == ["started", "drained", "ended"]


async def test_a_drain_that_is_requested_before_the_start_starts_no_process(listener: socket.socket) -> None:
    with listener:
        processes = FrontEndProcesses(2, listener, environment={}, drain_s=0.1)
        processes.request_drain()
        processes.request_drain()
        async with asyncio.timeout(DEADLINE_S):
            await processes.serve()
        assert processes.port == listener.getsockname()[1]


async def test_a_parent_of_several_counts_the_connections_to_their_metrics_that_it_refuses(
    listener: socket.socket,
) -> None:
    address = MetricsAddress(host="127.0.0.1", port=0, max_connections=1, timeout_s=DEADLINE_S)
    before = REACHED["METRICS_CONNECTIONS"]
    parent = FrontEndProcesses(2, listener, environment={}, drain_s=0.1)
    with listener, structlog.testing.capture_logs() as lines:
        async with summed_metrics(address) as folder, own_metrics(parent, address=address, folder=folder):
            assert folder is not None
            port = next(line["port"] for line in lines if line["event"] == "metrics_served")
            _, held = await asyncio.open_connection("127.0.0.1", port)
            assert await exchange(port, b"") == b""
            held.close()
            async with asyncio.timeout(DEADLINE_S):
                while refused(folder) != before + 1:
                    await asyncio.sleep(0.02)


def refused(folder: SharedFolder) -> float:
    """Connections to the metrics, by the counts that a scrape reads."""
    samples = (sample for family in folder.collect() for sample in family.samples)
    return sum(sample.value for sample in samples if sample.labels.get("limit") == "METRICS_CONNECTIONS")
