"""A server in miniature that replies as a test scripts it: a Sentinel, or a cluster's node, with a view of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import hiredis

Reply: TypeAlias = bytes | int | Exception | Sequence["Reply"] | Callable[[], "Reply"]


class ScriptedServer:
    """Replies by the whole command, or by its name; a command that is not in ``replies`` gets no reply.

    An exception is an error with its text; a function gives another reply each time.
    """

    def __init__(self, port: int, replies: Mapping[str, Reply]) -> None:
        self.port = port
        self.replies = dict(replies)
        self.received: list[str] = []
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    def send(self, push: Reply) -> None:
        """Send this on every connection, without a command."""
        for writer in self._writers:
            writer.write(_encode(push))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        commands = hiredis.Reader()
        self._writers.add(writer)
        self.connections += 1
        try:
            while data := await reader.read(65536):
                commands.feed(data)
                while parts := commands.gets():
                    command = b" ".join(parts).decode()
                    self.received.append(command)
                    key = command if command in self.replies else command.partition(" ")[0]
                    if key in self.replies:
                        writer.write(_encode(self.replies[key]))
        except ConnectionError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def open_scripted(**replies: Reply) -> AsyncIterator[ScriptedServer]:
    """A server on a free port that accepts CLIENT; names of commands with ``_`` between their parts."""
    scripted = ScriptedServer(0, {"CLIENT": b"OK"} | {name.replace("_", " "): reply for name, reply in replies.items()})
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()


def _encode(reply: Any) -> bytes:
    if callable(reply):
        return _encode(reply())
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, Exception):
        return b"-%s\r\n" % str(reply).encode()
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(map(_encode, reply))
