"""A front-end process for the runner's tests.

    python -m tests.support.servers.tiny_front_end WINDOW_S DRAIN_TIMEOUT_S [DESCRIPTORS]

With DESCRIPTORS it may have so many, and does not bound its connections. It streams every stream requested, prints what
happens to it, and floods the stream ``flood``.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from broadcaster.core.entry import Entry
from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.web.server.connections import ConnectionLimits
from broadcaster.web.server.listener import open_listener
from broadcaster.web.server.runner import FrontEndServer
from tests.support.memory.fake_tail import FakeTail
from tests.support.streaming import stream_app

LARGE_EVENT = b'{"type":"text-delta","id":"t","delta":"%b"}' % (b"x" * 60_000)


async def main(window_s: float, drain_timeout_s: float, limits: ConnectionLimits) -> None:
    tail = FakeTail()
    hub = Hub(tail, tail, limits=HubLimits(heartbeat_s=60, slow_viewer_s=60))
    app = stream_app(hub)

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        yield
        await hub.aclose()
        print("closed", flush=True)

    async def drain() -> None:
        print("draining", flush=True)
        await hub.drain(window_s=window_s)

    app.router.lifespan_context = lifespan
    server = FrontEndServer(
        app,
        listener=open_listener("127.0.0.1", 0),
        on_drain=drain,
        drain_timeout_s=drain_timeout_s,
        limits=limits,
    )
    serving = asyncio.create_task(server.serve())
    await server.until_started()
    tail.append("flood", *(Entry(5, seq, LARGE_EVENT) for seq in range(1, 200)))
    print(f"port {server.port}", flush=True)
    await serving


if __name__ == "__main__":
    window_s, drain_timeout_s, *descriptors = sys.argv[1:]
    limits = ConnectionLimits()
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(descriptors[0]),) * 2)
        limits = ConnectionLimits(max_connections=10**6, sweep_s=0.1)
    uvloop.run(main(float(window_s), float(drain_timeout_s), limits))
