"""A client that hides nothing: a socket, a request, and the bytes that come back."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from broadcaster.testing import ScriptedProvider

TIMEOUT_S = 30.0


@dataclass
class RawClient:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def post(self, model: str = "m", *, path: str = "/v1/messages", **fields: Any) -> None:
        body = json.dumps({"model": model, "stream": True, **fields}).encode()
        self.send(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Test: One\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await self._within(self.reader.readuntil(b"\r\n\r\n"))

    async def chunk(self) -> bytes:
        """The next chunk of the body; empty at its proper end. Raises IncompleteReadError when it is cut."""
        size = int(await self._within(self.reader.readuntil(b"\r\n")), 16)
        return (await self._within(self.reader.readexactly(size + 2)))[:-2]

    async def chunks(self) -> list[bytes]:
        found = []
        while chunk := await self.chunk():
            found.append(chunk)
        return found

    async def rest(self) -> bytes:
        return await self._within(self.reader.read())

    async def _within(self, reading: Any) -> bytes:
        return await asyncio.wait_for(reading, TIMEOUT_S)


@asynccontextmanager
async def connected(provider: ScriptedProvider) -> AsyncIterator[RawClient]:
    host, _, port = provider.base_url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
