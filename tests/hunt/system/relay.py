"""A relay before Redis. It cuts connections, lets a direction hang or lag, forgets connections, or loses pushes.

1. While a direction hangs, connections stay open and new ones are accepted, and nothing passes: what a lost packet
   filter entry or a frozen host looks like from the other side.
2. A forgotten connection is half open: Redis has lost it, the process has not, and new connections work.
3. A lost push is one message of a stream's live channel, left out whole. Everything else on that connection passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_READ_BYTES: Final = 65536
UP: Final = "up"
DOWN: Final = "down"
_PUSH: Final = b"*3\r\n$8\r\nsmessage\r\n"
_LIVE: Final = b":live\r\n"
_CHANNEL_BYTES: Final = 300


class _Link:
    """One connection through the relay."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.upstream: asyncio.StreamWriter | None = None
        self.is_forgotten = False
        self.subscribes = False
        self.held = b""

    def forget(self) -> None:
        """Redis sees the connection break, and the process does not."""
        if self.upstream is not None:
            self.is_forgotten = True
            self.upstream.transport.abort()


class Relay:
    """Made by ``open_relay``. ``up`` is towards Redis, ``down`` towards the process."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self._lag_s = {UP: 0.0, DOWN: 0.0}
        self._lost_share = 0.0
        self._rng = random.Random(target)
        self._links: set[_Link] = set()
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

    def lose(self, share: float, seed: int) -> None:
        """This share of the pushes is lost from now on."""
        self._lost_share, self._rng = share, random.Random(seed)

    def forget(self, share: float, seed: int) -> None:
        """This share of the connections is half open until ``heal``, which cuts them."""
        rng = random.Random(seed)
        for link in list(self._links):
            if rng.random() < share:
                link.forget()

    def heal(self) -> None:
        """Everything passes at once."""
        for direction in (UP, DOWN):
            self._open[direction].set()
            self._lag_s[direction] = 0.0
        for link in list(self._links):
            if link.is_forgotten:
                link.task.cancel()

    def cut(self) -> None:
        """Break every connection."""
        for link in list(self._links):
            link.task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        link = _Link(task)
        self._links.add(link)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                answers, link.upstream = await asyncio.open_connection("127.0.0.1", self._target)
                pumps = [
                    asyncio.create_task(self._pump(link, reader, link.upstream, UP)),
                    asyncio.create_task(self._pump(link, answers, writer, DOWN)),
                ]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                    if link.is_forgotten:
                        await pumps[0]  # until the process itself gives the connection up
                finally:
                    for pump in pumps:
                        pump.cancel()
        finally:
            self._links.discard(link)
            writer.transport.abort()
            if link.upstream is not None:
                link.upstream.transport.abort()

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                await self._open[direction].wait()
                if self._lag_s[direction]:
                    await asyncio.sleep(self._lag_s[direction])
                if link.is_forgotten:
                    continue
                if direction == UP:
                    link.subscribes |= b"SSUBSCRIBE" in data
                elif link.subscribes:
                    data = self._without_lost(link, data)
                writer.write(data)
                await writer.drain()

    def _without_lost(self, link: _Link, data: bytes) -> bytes:
        """What passes of this, and of what was held back because its message was not whole."""
        held, at, passing = link.held + data, 0, []
        while (end := reply_end(held, at)) is not None:
            is_push = held.startswith(_PUSH, at) and _LIVE in held[at : min(end, at + _CHANNEL_BYTES)]
            if not (is_push and self._rng.random() < self._lost_share):
                passing.append(held[at:end])
            at = end
        link.held = held[at:]
        return b"".join(passing)


def reply_end(raw: bytes, at: int) -> int | None:
    """Where the RESP2 reply that begins at ``at`` ends; None: it is not whole."""
    line_end = raw.find(b"\r\n", at)
    if line_end < 0:
        return None
    end = line_end + 2
    if raw[at : at + 1] == b"$":
        length = int(raw[at + 1 : line_end])
        end += length + 2 if length >= 0 else 0
        return end if end <= len(raw) else None
    if raw[at : at + 1] == b"*":
        for _ in range(int(raw[at + 1 : line_end])):
            after = reply_end(raw, end)
            if after is None:
                return None
            end = after
    return end


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
        tasks = [link.task for link in relay._links]
        relay.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
