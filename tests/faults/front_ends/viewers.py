"""A viewer that writes down everything: the native dialect over a raw socket, as an EventSource, and a trace of it.

1. A connection that is refused, breaks or ends is reopened, at the next URL, after the last ``retry`` received (at most
   ``MAX_RETRY_S``, and jittered), with the id of the last whole block.
2. The terminal event or 204 ends it. So does another status than 200, as it would end an EventSource; those in
   ``retried`` come from something between, and count as a broken connection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final
from urllib.parse import urlsplit

from broadcaster.core.events import is_terminal
from broadcaster.core.sse import SseDecoder, SseMessage
from tests.faults.history import NO_MORE, OK, Closed, Got, Noticed, Opened, ViewerTrace

MAX_RETRY_S: Final = 2.0
FIRST_RETRY_S: Final = 0.2
HEAD_S: Final = 10.0
"""Until a status has come."""
IDLE_S: Final = 40.0
"""A connection without a byte, heartbeats included, is given up."""


@dataclass(eq=False)
class RecordedViewer:
    """One viewer of a stream; ``run`` is its life. ``urls`` may change meanwhile: it reads them when it connects."""

    urls: Sequence[str]
    stream: str
    after: str | None = None
    retried: frozenset[int] = frozenset()
    trace: ViewerTrace = field(init=False)
    connections: int = 0
    refused: int = 0
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever something happened

    def __post_init__(self) -> None:
        self.trace = ViewerTrace(self.stream)
        self._decoder = SseDecoder()
        self._last_id = self.after
        self._has_ended = False

    @property
    def entries(self) -> list[tuple[str, bytes]]:
        """Every entry it got, voided ones included."""
        return [(each.id, each.data) for each in self.trace.happenings if isinstance(each, Got)]

    @property
    def notices(self) -> list[str]:
        """Names of the notices it got."""
        return [each.name for each in self.trace.happenings if isinstance(each, Noticed)]

    @property
    def text(self) -> str:
        """All event data so far."""
        return b"".join(data for _, data in self.entries).decode()

    async def run(self) -> None:
        """Until the terminal, a 204, or a status that an EventSource dies of; cancelled, it has left."""
        try:
            await self._live()
        except asyncio.CancelledError:
            self.happened(Closed("left"))
            raise

    async def _live(self) -> None:
        for turn in count(random.randrange(len(self.urls))):
            if await self._connect(self.urls[turn % len(self.urls)]):
                self.is_over.set()
                return
            sent_retry_ms = self._decoder.retry_ms
            retry_s = FIRST_RETRY_S if sent_retry_ms is None else min(sent_retry_ms / 1000, MAX_RETRY_S)
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))

    def happened(self, *happenings: Opened | Got | Noticed | Closed) -> None:
        """Write it down."""
        self.trace.happenings += happenings
        self.changed.set()

    async def _connect(self, url: str) -> bool:
        """One connection to its end; whether the viewer is over."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
        except OSError:
            self.refused += 1
            return False
        try:
            return await self._converse(reader, writer, host=parts.netloc)
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, host: str) -> bool:
        after = self._last_id
        try:
            writer.write(self._head(host, after))
            async with asyncio.timeout(HEAD_S):
                status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1])
        except (OSError, EOFError, TimeoutError):
            self.refused += 1
            return False
        self.connections += 1
        if status in self.retried:
            self.refused += 1
            return False
        self.happened(Opened(after, status))
        if status != OK:
            self.happened(Closed("clean" if status == NO_MORE else "torn"))
            return True
        try:
            how = await self._read(reader)
        except (OSError, EOFError, TimeoutError, ValueError):
            how = "torn"
        self._decoder.flush()
        self.happened(Closed("clean" if how == "clean" else "torn"))
        return self._has_ended

    async def _read(self, reader: asyncio.StreamReader) -> str:
        """Chunk after chunk; "clean" after the last one. A chunk may be of any size: it is read in pieces."""
        while True:
            async with asyncio.timeout(IDLE_S):
                size = int(await reader.readuntil(b"\r\n"), 16)
                while size:
                    piece = await reader.read(min(size, 2**16))
                    if not piece:
                        raise EOFError
                    size -= len(piece)
                    self._take(piece)
                    if not size:
                        await reader.readexactly(2)
                        break
                else:
                    return "clean"

    def _head(self, host: str, after: str | None) -> bytes:
        lines = [
            f"GET /v1/streams/{self.stream}/events HTTP/1.1",
            f"Host: {host}",
            "Accept: text/event-stream",
            *([] if not after else [f"Last-Event-ID: {after}"]),
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    def _take(self, piece: bytes) -> None:
        for message in self._decoder.decode(piece):
            happening = _happening(message)
            self._has_ended |= isinstance(happening, Got) and is_terminal(happening.data)
            self.happened(happening)
        self._last_id = self._decoder.last_event_id or self._last_id


def _happening(message: SseMessage) -> Got | Noticed:
    if message.event == "message":
        return Got(message.id, message.data.encode())
    return Noticed(message.event, message.data.encode(), message.id if message.event == "hub.gap" else None)
