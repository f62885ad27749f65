"""A feed's writer as its own process, which is killed in the middle.

    python -m tests.support.log.feed_writers URL STREAM NAME COUNT

It appends COUNT events, one after the other, each under its own Idempotency-Key ``NAME:n``, from the first one on:
restarted, it sends everything anew. A line on stdout per answer.
"""

from __future__ import annotations

import asyncio
import sys

from broadcaster.core.events import DataEvent, encode_event
from broadcaster.log.feeds.bounds import FeedBounds
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams

TENANT = "local"
BOUNDS = FeedBounds(
    max_events=50_000,
    max_bytes=8 * 2**20,
    max_event_bytes=2**20,
    appends_per_s=100_000,
    push_max_bytes=65_536,
    live_ttl_ms=60_000,
    retention_ms=30_000,
)


def text_of(name: str, number: int) -> bytes:
    """The event of a writer's n-th append."""
    return encode_event(DataEvent(type="data-said", data=f"{name}:{number}"))


async def write(url: str, stream_id: str, *, name: str, count: int) -> None:
    """Append, each event once, whatever was appended before."""
    async with LogConnection(url) as connection:
        feeds = Feeds(connection, BOUNDS, streams=Streams(connection))
        for number in range(count):
            key = f"{name}:{number}"
            taken = await feeds.append(stream_id, [text_of(name, number)], tenant=TENANT, idempotency_key=key)
            print(key, taken.last, flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], name=sys.argv[3], count=int(sys.argv[4])))
