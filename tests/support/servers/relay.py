"""A TCP relay before a server. A test sets what passes.

Rules
1. A connection is carried both ways until either side closes it. Then the other side is closed, after what it was sent.
2. A subclass decides what passes: ``on_request`` and ``on_response`` return the bytes to send on, may wait, and raise
   ``Cut`` to break the connection.
3. ``cut`` breaks the connections of now. While ``target`` is None, new ones are refused, as by a host without a server.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar
from urllib.parse import urlsplit

READ_BYTES: Final = 2**16


class Cut(Exception):
    """The connection breaks here."""


class ReceiverGone(OSError):
    """The side that receives has closed."""


@dataclass(eq=False)
class Link:
    """One connection through a relay."""

    client: asyncio.StreamWriter
    number: int  # of all connections, from 1
    server: asyncio.StreamWriter | None = None
    loses_response: bool = False  # the connection breaks in the place of the next response
    gate: asyncio.Event = field(default_factory=asyncio.Event)  # open: both directions pass

    def break_off(self) -> None:
        """Close both sides; what was not sent yet is lost."""
        for end in (self.client, self.server):
            if end is not None:
                end.transport.abort()


class Relay:
    """See the module's rules. ``opened`` opens it."""

    scheme = "redis"

    def __init__(self, target: str | None) -> None:
        self.target = target
        self.links: dict[Link, asyncio.Task[None]] = {}
        self.connections = 0
        self.responses_lost = 0
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where clients connect."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where clients connect, as a URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections on a free port of the loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)

    def cut(self) -> None:
        """Break every connection."""
        for task in self.links.values():
            task.cancel()

    async def refuse(self) -> None:
        """Break every connection, and refuse new ones until ``switch``."""
        await self.switch(None)

    async def switch(self, target: str | None) -> None:
        """Break every connection; new ones reach this server."""
        self.target = target
        await self._break()

    async def aclose(self) -> None:
        """Break every connection, and accept no more."""
        if self._server is not None:
            self._server.close()
        await self._break()
        await asyncio.sleep(0)  # in this turn the sockets are closed

    def next_target(self, link: Link) -> str | None:
        """The server of a new connection; None: refuse it."""
        return self.target

    async def on_request(self, link: Link, data: bytes) -> bytes:
        """What of this the server receives."""
        return data

    async def on_response(self, link: Link, data: bytes) -> bytes:
        """What of this the client receives."""
        if link.loses_response:
            self.responses_lost += 1
            raise Cut
        return data

    async def on_server_gone(self, link: Link, requests: asyncio.Task[None]) -> None:
        """The server has closed; the client's side is closed when this returns."""

    async def _break(self) -> None:
        self.cut()
        await asyncio.gather(*self.links.values(), return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = Link(writer, self.connections)
        link.gate.set()
        self.links[link] = task = asyncio.get_running_loop().create_task(self._serve(link, reader))
        task.add_done_callback(lambda _: self.links.pop(link))

    async def _serve(self, link: Link, reader: asyncio.StreamReader) -> None:
        try:
            target = self.next_target(link)
            if target is None:
                raise Cut
            from_server, link.server = await dial(target)
            await self._carry_both(link, reader, from_server)
        except (OSError, Cut):
            link.break_off()
        except BaseException:
            link.break_off()
            raise
        else:
            link.client.close()
            link.server.close()

    async def _carry_both(self, link: Link, reader: asyncio.StreamReader, from_server: asyncio.StreamReader) -> None:
        assert link.server is not None
        requests = asyncio.create_task(carry(reader, link.server, partial(self.on_request, link)))
        responses = asyncio.create_task(carry(from_server, link.client, partial(self.on_response, link)))
        both = {requests, responses}
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if requests not in done and isinstance(responses.exception(), ReceiverGone):
                done, _ = await asyncio.wait({requests})  # what the client has sent passes, if only later
            elif requests not in done:
                await self.on_server_gone(link, requests)
            for task in done:
                task.result()
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


async def dial(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the server at a URL: ``unix://path``, or any scheme with host and port."""
    if target.startswith("unix://"):
        return await asyncio.open_unix_connection(target.removeprefix("unix://"))
    parts = urlsplit(target)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: Callable[[bytes], Awaitable[bytes]]
) -> None:
    """Send on what ``passing`` returns of each read, until the reader's end; raises ReceiverGone."""
    while data := await reader.read(READ_BYTES):
        passed = await passing(data)
        if not passed:
            continue
        try:
            writer.write(passed)
            await writer.drain()
        except OSError as error:
            raise ReceiverGone from error


SomeRelay = TypeVar("SomeRelay", bound=Relay)


@asynccontextmanager
async def opened(relay: SomeRelay, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[SomeRelay]:
    """The relay, open."""
    await relay.open(tls)
    try:
        yield relay
    finally:
        await relay.aclose()
