"""From the provider's byte to the viewer's socket, on an idle system: one answer after the other.

The scripted provider and the viewer are this process, so that both read one clock; the worker, Redis and the front-end
between them are processes of their own. The provider writes its clock into the text of every delta.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bench.figures import quantile
from bench.plan import Outcome, Site, Step
from bench.processes import Child, until_printed
from bench.servers import Ours
from broadcaster.testing.exchange import Exchange
from broadcaster.testing.script import Script
from broadcaster.testing.server import ScriptedProvider

_DELTAS: Final = 10
_EVERY_S: Final = 0.02
_BEFORE_FIRST_S: Final = 0.05  # the viewer is there before the answer begins
_ANSWER_S: Final = 10.0
_MODEL: Final = "claude-bench"
_STAMP: Final = re.compile(rb'"delta":"<(\d+)>"')
_FIRST: Final = b'"type":"start"'


@dataclass(slots=True)
class StampedAnswer:
    """A step of a script: deltas that hold the time at which they were written, in nanoseconds."""

    begun_ns: list[int] = field(default_factory=list)

    async def run(self, exchange: Exchange) -> None:
        """See Step."""
        composer = exchange.wire.compose(exchange.model)
        await asyncio.sleep(_BEFORE_FIRST_S)
        self.begun_ns.append(time.monotonic_ns())
        await exchange.send_events(*composer.start())
        # At once: a worker tells nothing of an answer before its first content, since until then another may be asked.
        await exchange.send_events(*composer.text("first"))
        for _ in range(_DELTAS):
            await asyncio.sleep(_EVERY_S)
            await exchange.send_events(*composer.text(f"<{time.monotonic_ns()}>"))
        await exchange.send_events(*composer.finish())


class Arrivals(asyncio.Protocol):
    """A viewer's connection: every piece and when it came."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, bytes]] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """A piece came."""
        self.pieces.append((time.monotonic_ns(), data))
        # The last chunk; a delta never holds it.
        if data.endswith(b"0\r\n\r\n") and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """The other side is gone."""
        if not self.ended.done():
            self.ended.set_exception(ConnectionError("the front-end closed the connection"))

    def whole(self) -> bytes:
        """All bytes."""
        return b"".join(data for _, data in self.pieces)

    def came_ns(self, offset: int) -> int:
        """When the byte at this offset came."""
        end = 0
        for at_ns, data in self.pieces:
            end += len(data)
            if offset < end:
                return at_ns
        raise IndexError(offset)


def end_to_end(site: Site) -> list[Step]:
    """As many answers as the size says."""
    return [Step("e2e", "idle", "ours", 0, partial(_run, site), expects_s=5.0 + 0.4 * site.size.answers)]


def _run(site: Site) -> Outcome:
    server = site.yard.get("ours")
    assert isinstance(server, Ours)
    return asyncio.run(_measure(site, server)), []


async def _measure(site: Site, server: Ours) -> dict[str, float]:
    answer = StampedAnswer()
    first_ms: list[float] = []
    later_ms: list[float] = []
    async with ScriptedProvider(default=Script(answer)) as provider:
        working = Child(
            [sys.executable, "-m", "worker"],
            log=site.bench.folder / "e2e-worker.log",
            environment={
                "BROADCASTER_REDIS_URL": server.redis_url,
                "ANTHROPIC_BASE_URL": provider.base_url,
                "ANTHROPIC_API_KEY": "bench",
            },
        )
        try:
            await asyncio.to_thread(until_printed, working, "worker_ready")
            for number in range(site.size.answers + 1):
                arrivals = await _time_arrivals(server.port)
                if number == 0:  # the first one pays for connections that the others find open
                    continue
                whole = arrivals.whole()
                first_ms.append((arrivals.came_ns(whole.index(_FIRST)) - answer.begun_ns[-1]) / 1e6)
                later_ms += [(arrivals.came_ns(it.end()) - int(it[1])) / 1e6 for it in _STAMP.finditer(whole)]
        finally:
            await asyncio.to_thread(working.stop)
    return {
        "first_p50_ms": quantile(first_ms, 0.5),
        "first_p99_ms": quantile(first_ms, 0.99),
        "later_p50_ms": quantile(later_ms, 0.5),
        "later_p99_ms": quantile(later_ms, 0.99),
        "events": float(len(later_ms)),
    }


async def _time_arrivals(port: int) -> Arrivals:
    """Start an answer on a connection of its own, and watch it to its end."""
    body = json.dumps({"model": _MODEL, "messages": [{"role": "user", "content": "go"}], "stream": True}).encode()
    transport, arrivals = await asyncio.get_running_loop().create_connection(Arrivals, "127.0.0.1", port)
    head = (
        "POST /v1/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    transport.write(head.encode() + body)
    try:
        async with asyncio.timeout(_ANSWER_S):
            await arrivals.ended
    finally:
        transport.close()
    return arrivals
