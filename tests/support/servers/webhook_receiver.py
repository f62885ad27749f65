"""A receiver of webhooks on a real socket, which answers as a test sets it and keeps what it was sent."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from standardwebhooks import Webhook

DEADLINE_S = 20.0
SECRET = "whsec_" + "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"


@dataclass(frozen=True)
class Reply:
    """One answer. ``hangs``: none until ``Receiver.release``; ``breaks``: the connection is aborted instead."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    hangs: bool = False
    breaks: bool = False


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def verify(self, secret: str | bytes = SECRET) -> Any:
        """The body, if the published verifier accepts its signature."""
        return Webhook(secret).verify(self.body, dict(self.headers))


class Receiver:
    """Answers with the scripted replies in their order, then with the default one."""

    def __init__(self, *, default: Reply | None = None) -> None:
        self.default = default or Reply()
        self.script: deque[Reply] = deque()
        self.calls: list[Call] = []
        self.at_once = 0
        self.most_at_once = 0
        self.port = 0
        self._released = asyncio.Event()
        self._came = asyncio.Condition()
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=s3cret"

    def release(self) -> None:
        """Let every hanging reply go on."""
        self._released.set()

    async def until_calls(self, count: int) -> list[Call]:
        async with asyncio.timeout(DEADLINE_S), self._came:
            await self._came.wait_for(lambda: len(self.calls) >= count)
        return self.calls

    async def until_payloads(self, count: int) -> dict[str, Any]:
        """The payloads for so many streams, by their ids. A delivery may come twice: a response can come too late."""
        async with asyncio.timeout(DEADLINE_S), self._came:
            await self._came.wait_for(lambda: len(self._payloads()) >= count)
        return self._payloads()

    def _payloads(self) -> dict[str, Any]:
        payloads = [call.verify() for call in self.calls]
        return {payload["data"]["id"]: payload for payload in payloads}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            call = await _read_call(reader)
            reply = self.script.popleft() if self.script else self.default
            async with self._came:
                self.calls.append(call)
                self._came.notify_all()
            if reply.hangs:
                await self._released.wait()
            if reply.breaks:
                writer.transport.abort()
                return
            headers = {"content-length": str(len(reply.body)), **reply.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {reply.status} Whatever\r\n{head}\r\n".encode() + reply.body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a connection that was opened and not used, or left by its caller
        finally:
            self.at_once -= 1
            self._connections.discard(writer)
            writer.close()

    def abort_all(self) -> None:
        for writer in self._connections:
            writer.transport.abort()


async def _read_call(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return Call(head[0].split()[1], headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def open_receiver(
    *, default: Reply | None = None, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """A receiver on the loopback, on a free port unless one is given."""
    receiver = Receiver(default=default)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.release()
        server.close()
        receiver.abort_all()
        await server.wait_closed()
