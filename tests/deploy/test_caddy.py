"""Caddy closes connections whose requests do not arrive, and leaves event streams alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.deploy.caddy import caddy

DEADLINE_S = 20.0
QUICKLY = {"read_header 15s": "read_header 500ms", "read_body 2m": "read_body 1s", "idle 65s": "idle 1s"}
EVENTS = 12  # at four a second: three times as long as a body may take


class StubFrontEnd:
    """Streams to every viewer, and reads what is posted; ``left`` is set when a viewer leaves."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /healthz"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                return
            if head.startswith(b"POST"):
                await reader.read()
                return
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"8\r\ndata: 1\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.25)
        except ConnectionError:
            self.left.set()
        finally:
            writer.close()


@asynccontextmanager
async def stub() -> AsyncIterator[tuple[StubFrontEnd, str]]:
    """A front-end, and its address."""
    front_end = StubFrontEnd()
    async with await asyncio.start_server(front_end.serve, "127.0.0.1", 0) as server:
        yield front_end, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_half_sent_requests_are_closed_and_a_stream_outlives_every_limit(tmp_path: Path) -> None:
    async with stub() as (front_end, address), caddy(tmp_path, address, edits=QUICKLY) as url:
        host = urlsplit(url).netloc.encode()

        async def closed(sent: bytes) -> None:
            reader, writer = await asyncio.open_connection(*host.decode().split(":"))
            writer.write(sent)
            async with asyncio.timeout(DEADLINE_S):
                await reader.read()
            writer.close()

        viewer, viewing = await asyncio.open_connection(*host.decode().split(":"))
        viewing.write(b"GET /v1/streams/job/events HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
        await asyncio.gather(
            closed(b""),
            closed(b"GET / HTTP/1.1\r\nHost: %b\r\n" % host),
            closed(b"POST / HTTP/1.1\r\nHost: %b\r\ncontent-length: 1000\r\n\r\nabc" % host),
        )
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(EVENTS):
                await viewer.readuntil(b"data: 1\n")
            viewing.close()
            await front_end.left.wait()
