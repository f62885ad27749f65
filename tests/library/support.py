"""Reading the log from beside the library."""

from __future__ import annotations

import asyncio

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams

DEADLINE_S = 20.0


async def raw_events(connection: LogConnection, stream_id: str) -> list[bytes]:
    """The events of the log."""
    return [entry.event for entry in await Streams(connection).read(stream_id, count=100_000)]


async def until_in_the_log(connection: LogConnection, stream_id: str, count: int) -> list[bytes]:
    """The events, once there are so many."""
    async with asyncio.timeout(DEADLINE_S):
        while len(events := await raw_events(connection, stream_id)) < count:
            await asyncio.sleep(0.01)
    return events
