"""Reading the log from beside the library."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams

DEADLINE_S = 20.0
_PART_ID: Final = re.compile(rb'(?<="id":")[0-9a-f]{8}-([0-9]+)(?=")')


async def raw_events(connection: LogConnection, stream_id: str) -> list[bytes]:
    """The events of the log."""
    return [entry.event for entry in await Streams(connection).read(stream_id, count=100_000)]


async def until_in_the_log(connection: LogConnection, stream_id: str, count: int) -> list[bytes]:
    """The events, once there are so many."""
    async with asyncio.timeout(DEADLINE_S):
        while len(events := await raw_events(connection, stream_id)) < count:
            await asyncio.sleep(0.01)
    return events


def renumbered(events: Sequence[bytes]) -> list[bytes]:
    """The events of one writer, whose parts have the ids "0", "1" … instead of random ones."""
    return [_PART_ID.sub(rb"\1", event) for event in events]
