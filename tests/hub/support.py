"""Entries, and a viewer driven by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.hub.hub import Hub
from broadcaster.hub.viewer import Viewer
from tests.support.witness import Witness, drain_nowait

DEADLINE_S = 20.0


def text(epoch: int, seq: int, *, size: int = 1) -> Entry:
    return Entry(epoch, seq, b'{"type":"text-delta","id":"t","delta":"%d-%d%b"}' % (epoch, seq, b"x" * size))


def finish(epoch: int, seq: int) -> Entry:
    return Entry(epoch, seq, b'{"type":"finish"}')


def texts(epoch: int, first_seq: int, last_seq: int, *, size: int = 1) -> list[Entry]:
    return [text(epoch, seq, size=size) for seq in range(first_seq, last_seq + 1)]


def answer(count: int, *, epoch: int = 5, size: int = 1) -> list[Entry]:
    """A whole generation of ``count`` entries."""
    return [*texts(epoch, 1, count - 1, size=size), finish(epoch, count)]


class Reader:
    """A viewer, driven by hand, and what its client sees."""

    def __init__(self, viewer: Viewer, *, cursor: Cursor | None) -> None:
        self.viewer = viewer
        self.witness = Witness(after=cursor or START)

    def pull_all(self, *, max_bytes: int = 2**16) -> list[bytes]:
        return drain_nowait(self.viewer, self.witness, max_bytes=max_bytes)

    async def until(self, condition: Callable[[], bool], *, max_bytes: int = 2**16) -> None:
        """Pull and wait until the condition holds."""
        async with asyncio.timeout(DEADLINE_S):
            self.pull_all(max_bytes=max_bytes)
            while not condition():
                await self.viewer.wait(DEADLINE_S)
                self.pull_all(max_bytes=max_bytes)

    async def until_over(self) -> None:
        await self.until(lambda: self.viewer.is_over)

    async def until_seq(self, seq: int) -> None:
        await self.until(lambda: self.witness.last_seq >= seq)

    def contents(self) -> list[tuple[str, str]]:
        return list(self.witness.entries.values())


async def join(hub: Hub, stream_id: str = "g", *, after: str | None = None) -> Reader:
    cursor = Cursor.parse(after) if after is not None else None
    viewer = await hub.join(stream_id, cursor=cursor, timeout_s=DEADLINE_S)
    assert isinstance(viewer, Viewer)
    return Reader(viewer, cursor=cursor)


def seen_by_client(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """What a client that saw these entries holds."""
    return [(str(entry.cursor), entry.event.decode()) for entry in entries]


async def turns(count: int = 3) -> None:
    """Let what is due happen."""
    for _ in range(count):
        await asyncio.sleep(0)
