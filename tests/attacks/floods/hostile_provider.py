"""A provider that means harm: the model's name sets how it answers, on any wire.

endless-error       400 with a body that never ends
slow-error          400 with the beginning of a JSON error, and a byte each SLOW_S after it
gzip-error          400 with GZIP_BYTES of text in gzip (a thousandth of that on the wire)
gzip-stream         200 with the same, as an event stream
comments            200 and comments without end
interim             103 responses without end
fields              200 and lines of ``event:`` without end, none with data
short-lines         200 and one event of very many short lines, without end
values              200 and one event of very many JSON values
text                200 and an answer of the chat wire without end
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

GZIP_BYTES: Final = 1_500_000_000
SLOW_S: Final = 0.05
_PIECE: Final = 2**16
_ERROR: Final = b'{"error":{"type":"invalid_request_error","message":"no such thing'
_STREAM: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
_REFUSAL: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"


class HostileProvider:
    """Serves one loopback port; ``sent_bytes`` is what its clients have taken of bodies."""

    def __init__(self, *, gzip_bytes: int = GZIP_BYTES) -> None:
        self.port = 0
        self.sent_bytes = 0
        self.encodings: list[str] = []
        """The Accept-Encoding of each request."""
        self.calls: list[str] = []
        """The model of each request."""
        self._gzip_bytes = gzip_bytes

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer."""
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(await self._model(reader), writer)
        finally:
            writer.close()

    async def _model(self, reader: asyncio.StreamReader) -> str:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        self.encodings.append(headers.get("accept-encoding", ""))
        body = await reader.readexactly(int(headers["content-length"]))
        self.calls.append(str(json.loads(body)["model"]))
        return self.calls[-1]

    async def _answer(self, model: str, writer: asyncio.StreamWriter) -> None:
        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()
            self.sent_bytes += len(data)

        answers: dict[str, Callable[[], Awaitable[None]]] = {
            "endless-error": lambda: _repeat(send, _REFUSAL + b"\r\n", b"x" * _PIECE),
            "slow-error": lambda: _repeat(send, _REFUSAL + b"\r\n" + _ERROR, b" ", every_s=SLOW_S),
            "gzip-error": lambda: send(_REFUSAL + gzip_of(self._gzip_bytes)),
            "gzip-stream": lambda: send(_STREAM + gzip_of(self._gzip_bytes)),
            "comments": lambda: _repeat(send, _STREAM + b"\r\n", b": still here\n\n" * 4096),
            "slow-comments": lambda: _repeat(send, _STREAM + b"\r\n", b": still here\n\n", every_s=SLOW_S),
            "interim": lambda: _repeat(send, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1024),
            "fields": lambda: _repeat(send, _STREAM + b"\r\n", b"event: nothing\n" * 4096),
            "short-lines": lambda: _repeat(send, _STREAM + b"\r\n", b"data: ab\n" * 8192),
            "values": lambda: send(_STREAM + b'\r\ndata: {"a":[' + b"{}," * 4_000_000 + b"{}]}\n\n"),
            "text": lambda: _repeat(send, _STREAM + b"\r\n", _delta("x" * 16_000)),
        }
        await answers[model]()


async def _repeat(send: Callable[[bytes], Awaitable[None]], head: bytes, piece: bytes, *, every_s: float = 0) -> None:
    await send(head)
    while True:
        await send(piece)
        await asyncio.sleep(every_s)


def _delta(text: str) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


@cache
def gzip_of(size: int) -> bytes:
    """The rest of a head and a JSON error with so many bytes of text, in gzip."""
    packer = zlib.compressobj(6, wbits=31)
    piece = b"x" * 2**20
    packed = [packer.compress(_ERROR), *(packer.compress(piece) for _ in range(size // len(piece)))]
    body = b"".join((*packed, packer.compress(b'"}}'), packer.flush()))
    return b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def hostile_provider(*, gzip_bytes: int = GZIP_BYTES) -> AsyncIterator[HostileProvider]:
    """A server on a free loopback port, until the block is left."""
    provider = HostileProvider(gzip_bytes=gzip_bytes)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the server ends
                await provider.serve(reader, writer)
        finally:
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
