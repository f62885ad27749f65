"""A relay before a server: it can turn deaf, say what the server did not, speak TLS, and count what it sees."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Between a subscriber connection and its server. ``url`` is where to connect."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._server: asyncio.Server | None = None
        self._clients: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_deaf = False  # what the server says is swallowed
        self.connections = 0
        self.writes: list[bytes] = []  # what came from the client, read by read

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def say(self, words: bytes) -> None:
        """Put bytes into the answer stream of every client."""
        for client in self._clients:
            client.write(words)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._clients.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        from_server, to_server = await asyncio.open_unix_connection(self._socket_path)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry_out(reader, to_server))
                group.create_task(self._carry_back(from_server, writer))
        finally:
            self._clients.remove(writer)
            writer.close()
            to_server.close()

    async def _carry_out(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.writes.append(data)
                to_server.write(data)
        except OSError:
            pass  # the client is gone: so is the way to the server
        to_server.close()

    async def _carry_back(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await from_server.read(65536):
            if not self.is_deaf:
                writer.write(data)
        writer.close()


@asynccontextmanager
async def open_relay(server_url: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Relay]:
    """A relay on a free port of the loopback before the server at a ``unix://`` URL."""
    relay = Relay(server_url.removeprefix("unix://"))
    relay._server = await asyncio.start_server(relay._serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield relay
    finally:
        relay._server.close()
        for task in list(relay._tasks):
            task.cancel()
        await asyncio.gather(*relay._tasks, return_exceptions=True)
