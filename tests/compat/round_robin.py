"""A TCP relay before front-ends: a connection goes to the next one that has least to say. It knows no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

DEADLINE_S: Final = 20.0
READ_BYTES: Final = 65536


@dataclass(eq=False)
class _Carried:
    """A connection, and what its client was sent since ``forget``."""

    front_end: str
    answer: bytearray = field(default_factory=bytearray)


class RoundRobin:
    """The relay; ``url`` is the one address of all front-ends."""

    def __init__(self, front_ends: Sequence[str]) -> None:
        self.url = ""
        self._turns = deque(front_ends)
        self._carried: list[_Carried] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()

    def saying(self, words: bytes) -> list[str]:
        """The front-end of each connection that was sent these words."""
        return [each.front_end for each in self._carried if words in each.answer]

    async def until_said(self, words: bytes, *, times: int) -> None:
        """Until so many connections were sent these words."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.saying(words)) >= times)

    def forget(self) -> None:
        """What was said so far counts no longer; connections stay, their clients may use them again."""
        for carried in self._carried:
            carried.answer.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until either side closes."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        carried = _Carried(self._next())
        self._carried.append(carried)
        address = urlsplit(carried.front_end)
        from_server, to_server = await asyncio.open_connection(address.hostname, address.port)
        out = asyncio.create_task(_carry(reader, to_server))
        try:
            with contextlib.suppress(ConnectionError):
                while data := await from_server.read(READ_BYTES):
                    carried.answer += data
                    writer.write(data)
                    await writer.drain()
                    async with self._changed:
                        self._changed.notify_all()
        finally:
            out.cancel()
            to_server.close()
            writer.close()

    def _next(self) -> str:
        self._turns.rotate(-1)
        busy = Counter(each.front_end for each in self._carried if each.answer)
        return min(self._turns, key=lambda url: busy[url])

    async def aclose(self) -> None:
        """Cut whoever is still connected."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()  # the client has left: the front-end must learn of it


@asynccontextmanager
async def open_round_robin(front_ends: Sequence[str]) -> AsyncIterator[RoundRobin]:
    """The relay on a free port of the loopback."""
    relay = RoundRobin(front_ends)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        await relay.aclose()
