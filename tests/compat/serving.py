"""A real HTTP server that shows fixtures in any dialect, opened after any entry.

The path is ``/DIALECT/STREAM/K/…``; whatever follows, and the method, are the client's own. A ``Transcript`` is opened
by the snapshot of the first K entries and goes on with the frames of the others, one write each. For ``native``, which
clients resume themselves, the connection is cut after K entries, and a request with ``Last-Event-ID`` gets the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from broadcaster.core.cursor import Cursor
from broadcaster.dialects import DIALECTS, Dialect, NativeEncoder
from broadcaster.dialects.openai_responses.encoding.event_log import frames_after
from tests.compat.fixtures import FIXTURES, Fixture

RETRY_MS: Final = 1
HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-vercel-ai-ui-message-stream": "v1",
    "transfer-encoding": "chunked",
    "connection": "close",
}


@dataclass
class FixtureServer:
    """The running server; ``requests`` are the request lines that came."""

    url: str
    dialects: Mapping[str, Dialect]
    requests: list[str]

    def opened(self, dialect: str, fixture: Fixture, k: int = 0) -> str:
        """The base URL under which a client is shown this fixture, opened after its first ``k`` entries."""
        assert dialect in self.dialects, f"no dialect {dialect}"
        return f"{self.url}/{dialect}/{fixture.stream_id}/{k}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            url, headers = await self._request(reader)
            _, name, stream_id, k, *_ = unquote(url.path).split("/")
            body = self._pieces(FIXTURES[stream_id], self.dialects[name], int(k), headers)
            if "starting_after" in (query := dict(parse_qsl(url.query))):
                body = after_number(body, int(query["starting_after"]))
            await self._answer(writer, body)
        writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> tuple[SplitResult, dict[str, str]]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        self.requests.append(first)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers.get("content-length", 0)))
        return urlsplit(first.split(" ")[1]), headers

    def _pieces(self, fixture: Fixture, dialect: Dialect, k: int, headers: Mapping[str, str]) -> Iterator[bytes]:
        if isinstance(dialect, NativeEncoder):
            return native_pieces(fixture, dialect, k, headers.get("last-event-id"))
        return pieces(fixture, dialect, k)

    async def _answer(self, writer: asyncio.StreamWriter, body: Iterator[bytes]) -> None:
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        for piece in filter(None, body):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def after_number(body: Iterator[bytes], number: int) -> Iterator[bytes]:
    """What a client of Responses is sent that has received everything up to this number."""
    for piece in body:
        yield frames_after(piece, number)


def pieces(fixture: Fixture, dialect: Dialect, k: int) -> Iterator[bytes]:
    """What a client is sent that joins after the first ``k`` entries."""
    transcript = dialect.open(fixture.stream_id)
    yield transcript.hello(status="running", retry_ms=RETRY_MS)
    if k:
        transcript.encode(fixture.entries[:k])
        yield transcript.snapshot()
    for entry in fixture.entries[k:]:
        yield transcript.encode([entry])


def native_pieces(fixture: Fixture, dialect: NativeEncoder, k: int, last_event_id: str | None) -> Iterator[bytes]:
    """The first ``k`` entries for the first connection, and the others for the one that resumes."""
    yield dialect.open(fixture.stream_id).hello(status="running", retry_ms=RETRY_MS)
    after = Cursor.parse(last_event_id) if last_event_id else None
    shown = fixture.entries[:k] if after is None else (each for each in fixture.entries if each.cursor > after)
    for entry in shown:
        yield dialect.frame(*entry)


@asynccontextmanager
async def open_fixture_server(**dialects: Dialect) -> AsyncIterator[FixtureServer]:
    """The server on a free port; the dialects given by name stand beside those of ``DIALECTS``."""
    opened = FixtureServer("", {**DIALECTS, **dialects}, [])
    server = await asyncio.start_server(opened.serve, "127.0.0.1", 0)
    opened.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield opened
