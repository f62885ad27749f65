"""A relay before a server that breaks a connection at a chosen command, before it is done or before it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum


class Moment(Enum):
    """When the connection breaks."""

    BEFORE = "the server never sees the command"
    AFTER = "the server does it, and its answer is lost"


class CuttingRelay:
    """Between clients and their server; ``url`` is where to connect. Each order holds for one command."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut: tuple[bytes, Moment] | None = None
        self._hold: bytes | None = None
        self._go_on = asyncio.Event()
        self.held = asyncio.Event()  # a command waits

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut_at(self, words: bytes, moment: Moment) -> None:
        """Break the connection of the next command that holds these bytes."""
        self._cut = words, moment

    def hold_at(self, words: bytes) -> None:
        """Let the next command that holds these bytes wait for ``go_on``."""
        self._hold = words
        self.held.clear()
        self._go_on.clear()

    def go_on(self) -> None:
        self._go_on.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        from_server, to_server = await asyncio.open_unix_connection(self._socket_path)
        answers = asyncio.create_task(_carry(from_server, writer))
        try:
            while data := await reader.read(65536):
                if self._hold is not None and self._hold in data:
                    self._hold = None
                    self.held.set()
                    await self._go_on.wait()
                if self._cut is not None and self._cut[0] in data:
                    (_, moment), self._cut = self._cut, None
                    answers.cancel()
                    await asyncio.wait({answers})
                    if moment is Moment.AFTER:
                        to_server.write(data)
                        await from_server.read(65536)
                    return
                to_server.write(data)
        except OSError:
            pass  # the client is gone: so is the way to the server
        finally:
            answers.cancel()
            writer.close()
            to_server.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


@asynccontextmanager
async def open_cutting_relay(server_url: str) -> AsyncIterator[CuttingRelay]:
    """A relay on a free port of the loopback before the server at a ``unix://`` URL."""
    relay = CuttingRelay(server_url.removeprefix("unix://"))
    relay._server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
    try:
        yield relay
    finally:
        relay._server.close()
        for task in list(relay._tasks):
            task.cancel()
        await asyncio.gather(*relay._tasks, return_exceptions=True)
