"""A relay before Redis: one URL whose server the test chooses, whose links it cuts, and which loses what the test says.

Rules
1. ``switch`` cuts every connection and sends the next ones to another server; ``cut`` sends them nowhere: they are
   refused, as by a host without a server. ``hang`` leaves them open and carries nothing more on them, as a NAT does
   that has forgotten them; new ones are well. ``hang_at`` does so when the next write that has these bytes arrives.
2. ``hold_at`` lets the first write of a client that has these bytes wait: nothing more of this connection goes on until
   the connection is cut. So a fault is put exactly between two commands.
3. ``lose_answer_to`` lets the next write of a client that has these bytes pass, and cuts its connection in the place
   of the answer: Redis has carried out what the client knows nothing of.
4. ``lose_pushes`` swallows the pushes that have these bytes, as a subscriber's full socket would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_READ_BYTES = 2**16


class RedisRelay:
    """See the module's rules. Made by ``open_relay``; ``url`` stays the same for as long as it stands."""

    def __init__(self, server_url: str) -> None:
        self._target: str | None = server_url
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._ways: set[asyncio.Event] = set()  # of each link: whether it carries anything
        self._hold: bytes | None = None
        self._hang: bytes | None = None
        self.hangs_left = 0
        self._lose: bytes | None = None
        self._lose_answer: bytes | None = None
        self.answers_lost = 0
        self.held = asyncio.Event()  # a write waits
        self.pushes_lost = 0

    @property
    def url(self) -> str:
        """Where clients connect."""
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._target = None
        await self._break()

    def hang(self) -> None:
        """Carry nothing more on the connections of now."""
        for way in self._ways:
            way.clear()

    def hang_at(self, words: bytes, *, times: int) -> None:
        """Hang, so many times, when a write that has these bytes arrives: it is not carried either."""
        self._hang, self.hangs_left = words, times

    async def switch(self, server_url: str) -> None:
        """Break every connection; new ones reach this server."""
        self._target = server_url
        await self._break()

    def hold_at(self, words: bytes) -> None:
        """Let the next write that has these bytes wait."""
        self.held.clear()
        self._hold = words

    def lose_answer_to(self, words: bytes) -> None:
        """Carry out the next write that has these bytes, and lose its answer with the connection."""
        self._lose_answer = words

    def lose_pushes(self, words: bytes | None) -> None:
        """Swallow pushes that have these bytes; None: no more."""
        self._lose = words

    async def aclose(self) -> None:
        """Close it."""
        if self._server is not None:
            self._server.close()
        await self._break()

    async def _break(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._serve(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        way = asyncio.Event()
        way.set()
        self._ways.add(way)
        try:
            if self._target is None:
                return
            parts = urlsplit(self._target)
            from_server, upstream = await asyncio.open_connection(parts.hostname, parts.port)
            async with asyncio.TaskGroup() as group:
                is_doomed = asyncio.Event()
                group.create_task(self._carry_out(reader, upstream, way, is_doomed))
                group.create_task(self._carry_back(from_server, writer, way, is_doomed))
        except* (OSError, EOFError):
            pass  # one side is gone: so is the other
        finally:
            self._ways.discard(way)
            writer.transport.abort()
            if upstream is not None:
                upstream.transport.abort()

    async def _carry_out(
        self,
        reader: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        way: asyncio.Event,
        is_doomed: asyncio.Event,
    ) -> None:
        while data := await reader.read(_READ_BYTES):
            if self.hangs_left and self._hang is not None and self._hang in data:
                self.hangs_left -= 1
                self.hang()
            await way.wait()
            if self._hold is not None and self._hold in data:
                self._hold = None
                self.held.set()
                await asyncio.Event().wait()
            if self._lose_answer is not None and self._lose_answer in data:
                self._lose_answer = None
                is_doomed.set()
            upstream.write(data)
            await upstream.drain()
        raise EOFError

    async def _carry_back(
        self,
        from_server: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: asyncio.Event,
        is_doomed: asyncio.Event,
    ) -> None:
        while data := await from_server.read(_READ_BYTES):
            await way.wait()
            if is_doomed.is_set():
                self.answers_lost += 1
                break
            if self._lose is not None and b"smessage" in data and self._lose in data:
                self.pushes_lost += 1
                continue
            writer.write(data)
            await writer.drain()
        raise EOFError


@asynccontextmanager
async def open_relay(server_url: str) -> AsyncIterator[RedisRelay]:
    """A relay on a free port of the loopback."""
    relay = RedisRelay(server_url)
    relay._server = await asyncio.start_server(relay._accept, "127.0.0.1", 0)
    try:
        yield relay
    finally:
        await relay.aclose()
