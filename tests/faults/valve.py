"""A valve in one client's way to its server: what it says is held, and goes on when the valve opens; or all is cut.

What a held client has sent arrives later even if the client gave its connection up meanwhile: as from a network that
was slow, or a process that stood still between two instructions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PIECE = 2**16


class Valve:
    """Between one client and its server. ``url`` is where the client connects."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = asyncio.Event()
        self._is_open.set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def is_open(self) -> bool:
        return self._is_open.is_set()

    def hold(self) -> None:
        """Let nothing through from now on."""
        self._is_open.clear()

    def release(self) -> None:
        """Let everything through, what was held first."""
        self._is_open.set()

    def cut(self) -> None:
        """Break every connection, with what is held in it."""
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Break every connection and take no more."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # in this turn the sockets are closed

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_unix_connection(self._socket_path)
        except OSError:
            writer.transport.abort()
            return
        answers = asyncio.create_task(_carry(from_server, writer))
        try:
            while piece := await reader.read(_PIECE):
                await self._is_open.wait()
                to_server.write(piece)
        except OSError:
            pass  # one of the two is gone, so is the way
        finally:
            answers.cancel()
            writer.transport.abort()
            to_server.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
    writer.close()


@asynccontextmanager
async def open_valve(server_url: str) -> AsyncIterator[Valve]:
    """A valve on a free port of the loopback before the server at a ``unix://`` URL."""
    valve = Valve(server_url.removeprefix("unix://"))
    valve._server = await asyncio.start_server(valve._accept, "127.0.0.1", 0)
    try:
        yield valve
    finally:
        await valve.aclose()
