"""A relay between one process and Redis: it cuts connections, or lets one direction hang or lag.

While a direction hangs, connections stay open and new ones are accepted, and nothing passes: what a lost packet filter
entry or a frozen host looks like from the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_READ_BYTES: Final = 65536
UP: Final = "up"
DOWN: Final = "down"


class Relay:
    """Made by ``open_relay``. ``up`` is towards Redis, ``down`` towards the process."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self._lag_s = {UP: 0.0, DOWN: 0.0}
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.heal()

    @property
    def port(self) -> int:
        """Where the process connects."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def hang(self, *directions: str) -> None:
        """Nothing passes in these directions until ``heal``."""
        for direction in directions:
            self._open[direction].clear()

    def lag(self, direction: str, seconds: float) -> None:
        """Each read of this direction passes so much later."""
        self._lag_s[direction] = seconds

    def heal(self) -> None:
        """Everything passes at once."""
        for direction in (UP, DOWN):
            self._open[direction].set()
            self._lag_s[direction] = 0.0

    def cut(self) -> None:
        """Break every connection."""
        for link in list(self._links):
            link.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                answers, upstream = await asyncio.open_connection("127.0.0.1", self._target)
                pumps = [
                    asyncio.create_task(self._pump(reader, upstream, UP)),
                    asyncio.create_task(self._pump(answers, writer, DOWN)),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
        finally:
            self._links.discard(task)
            writer.transport.abort()
            if upstream is not None:
                upstream.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                await self._open[direction].wait()
                if self._lag_s[direction]:
                    await asyncio.sleep(self._lag_s[direction])
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def open_relay(target: int) -> AsyncIterator[Relay]:
    """A relay on a free port of the loopback before the server at this one."""
    relay = Relay(target)
    relay._server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
    try:
        yield relay
    finally:
        relay._server.close()
        relay.heal()
        links = list(relay._links)
        relay.cut()
        await asyncio.gather(*links, return_exceptions=True)
