"""A viewer that behaves as a browser's EventSource, from Chromium's: hundreds of them run in one loop.

Source: WHATWG HTML, "Server-sent events", 9.2.3 "Processing model".

1. A connection that is refused, breaks or ends is reopened after the last delay received (``retry``), with the last id.
2. 204 ends it well. Any other status than 200, or another media type, ends it for good: no second try.
3. A block that the connection's end cuts is discarded.

Each connection is held to the promises by a Witness: ids dense, nothing after the terminal event.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from broadcaster.core.cursor import START
from broadcaster.core.sse import SseDecoder
from tests.support.witness import TERMINALS, Witness

# Chromium's, until the server sends another.
RETRY_MS: Final = 3000


def events_of(stream_id: str) -> str:
    """The path of a stream's events."""
    return f"/v1/streams/{stream_id}/events"


class Died(AssertionError):
    """It got an answer after which an EventSource never retries."""


@dataclass(eq=False)
class EventSource:
    """One viewer of ``path`` at ``url``; ``run`` is its life, which a test holds as a task."""

    url: str
    path: str
    tls: ssl.SSLContext | None = None
    on_entry: Callable[[str], None] = lambda data: None
    entries: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    connections: int = 0
    refused: int = 0
    torn: int = 0  # connections that ended without a proper end
    raw: bytearray = field(default_factory=bytearray)
    _decoder: SseDecoder = field(default_factory=SseDecoder)

    @property
    def text(self) -> str:
        """All event data so far."""
        return "".join(data for _, data in self.entries)

    @property
    def terminals(self) -> int:
        return sum(f'"type":"{each}"' in data for _, data in self.entries for each in TERMINALS)

    async def run(self) -> None:
        """Until 204. Raises Died."""
        after = START
        while True:
            witness = Witness(after=after, decoder=self._decoder)
            try:
                if not await self._connect(witness):
                    return
            except (OSError, EOFError, ssl.SSLError):
                self.torn += 1
            self._decoder.flush()
            after = witness.after
            retry_ms = RETRY_MS if self._decoder.retry_ms is None else self._decoder.retry_ms
            await asyncio.sleep(retry_ms / 1000)

    async def _connect(self, witness: Witness) -> bool:
        """One connection to its end; False after 204."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=self.tls)
        except OSError:
            self.refused += 1
            return True
        self.connections += 1
        try:
            writer.write(self._head(parts.netloc).encode())
            status, fields = await _read_head(reader)
            if status == 204:
                return False
            if status != 200 or not fields.get("content-type", "").startswith("text/event-stream"):
                raise Died(f"{status} {fields}")
            async for chunk in _body(reader, fields):
                self._take(chunk, witness)
            return True
        finally:
            writer.transport.abort()

    def _head(self, host: str) -> str:
        lines = [f"GET {self.path} HTTP/1.1", f"Host: {host}", "Accept: text/event-stream", "Cache-Control: no-cache"]
        if self._decoder.last_event_id:
            lines.append(f"Last-Event-ID: {self._decoder.last_event_id}")
        return "\r\n".join([*lines, "", ""])

    def _take(self, chunk: bytes, witness: Witness) -> None:
        self.raw += chunk
        had, noticed = len(witness.entries), len(witness.notices)
        witness.feed(chunk)
        self.notices += witness.names[noticed:]
        for entry in list(witness.entries.values())[had:]:
            self.entries.append(entry)
            self.on_entry(entry[1])


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in fields}


async def _body(reader: asyncio.StreamReader, fields: dict[str, str]) -> AsyncIterator[bytes]:
    if "content-length" in fields:
        yield await reader.readexactly(int(fields["content-length"]))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]


@dataclass(eq=False)
class Audience:
    """Viewers that run together."""

    viewers: list[EventSource]
    lives: asyncio.Future[list[None]]

    async def until(self, condition: Callable[[EventSource], bool], deadline_s: float = 20.0) -> None:
        """Wait until the condition holds for every viewer. Raises Died as soon as one has."""
        async with asyncio.timeout(deadline_s):
            for viewer in self.viewers:
                while not condition(viewer):
                    if self.lives.done():
                        self.lives.result()
                    await asyncio.sleep(0.01)

    async def until_over(self, deadline_s: float = 20.0) -> None:
        """Wait until every viewer has had its 204. Raises Died as soon as one has."""
        async with asyncio.timeout(deadline_s):
            await self.lives


@contextlib.asynccontextmanager
async def watching(viewers: list[EventSource]) -> AsyncIterator[Audience]:
    """All of them, running; those that still run at the end of the block are closed."""
    tasks = [asyncio.create_task(viewer.run()) for viewer in viewers]
    lives = asyncio.gather(*tasks)
    try:
        yield Audience(viewers, lives)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, lives, return_exceptions=True)
