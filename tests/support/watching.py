"""A plain viewer of the native dialect over a real socket: no resuming, no cleverness, everything it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from broadcaster.core.sse import SseDecoder, SseMessage


@dataclass(eq=False)
class Seen:
    """What one connection brought: entries as (id, data), hub notices apart."""

    status: int = 0
    messages: list[SseMessage] = field(default_factory=list)

    @property
    def entries(self) -> list[tuple[str, str]]:
        return [(each.id, each.data) for each in self.messages if each.event == "message"]

    @property
    def notices(self) -> list[tuple[str, str]]:
        return [(each.event, each.data) for each in self.messages if each.event != "message"]


async def watch(
    url: str,
    stream_id: str,
    *,
    after: str | None = None,
    until: Callable[[Seen], bool] = lambda seen: False,
    timeout_s: float = 20.0,
    query: str = "",
    cookie: str | None = None,
) -> Seen:
    """Read until the server ends the response or ``until`` holds (then the connection is cut at once).

    ``url`` may have a path: the prefix under which a router is mounted.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    seen = Seen()
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            head = [
                f"GET {parts.path.rstrip('/')}/v1/streams/{stream_id}/events?{query} HTTP/1.1",
                f"Host: {parts.netloc}",
                "Accept: text/event-stream",
            ]
            if cookie is not None:
                head.append(f"Cookie: {cookie}")
            if after is not None:
                head.append(f"Last-Event-ID: {after}")
            writer.write("\r\n".join([*head, "", ""]).encode())
            seen.status = int((await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1])
            if seen.status == 200:
                await _read_chunks(reader, seen, until)
        finally:
            writer.transport.abort()
    return seen


async def _read_chunks(reader: asyncio.StreamReader, seen: Seen, until: Callable[[Seen], bool]) -> None:
    decoder = SseDecoder()
    while size := int(await reader.readline(), 16):
        chunk = (await reader.readexactly(size + 2))[:-2]
        for message in decoder.decode(chunk):
            seen.messages.append(message)
            if until(seen):
                return


def ids(seen: Seen | Sequence[tuple[str, str]]) -> list[str]:
    """Ids in the order they came."""
    return [each for each, _ in (seen.entries if isinstance(seen, Seen) else seen)]


async def viewers_of(url: str, stream_id: str, *, having: str, count: int = 100) -> list[asyncio.Task[Seen]]:
    """So many viewers, each with an event that contains this text; they read on to the end."""
    ready = 0
    all_ready = asyncio.Event()

    def note(seen: Seen) -> bool:
        nonlocal ready
        if having in seen.messages[-1].data:
            ready += 1
            if ready == count:
                all_ready.set()
        return False

    tasks = [asyncio.create_task(watch(url, stream_id, until=note, timeout_s=60)) for _ in range(count)]
    async with asyncio.timeout(40):
        await all_ready.wait()
    return tasks
