"""A writer of a feed under a lease as its own process, which is killed.

    python -m tests.support.log.leased_writer URL STREAM LEASE_S

It creates the feed (or finds it), prints that on stdout, and from then on only renews, until the feed has ended.
"""

from __future__ import annotations

import asyncio
import sys

from broadcaster.errors import LogUnavailable
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from tests.support.log.feed_writers import BOUNDS, TENANT

RENEWALS_PER_LEASE = 3


async def hold(url: str, stream_id: str, *, lease_s: float) -> None:
    """Renew while the feed is open; calls that Redis does not answer are retried."""
    async with LogConnection(url, timeout_s=lease_s / RENEWALS_PER_LEASE) as connection:
        feeds = Feeds(connection, BOUNDS, streams=Streams(connection))
        await feeds.create(stream_id, FeedConfig(lease_s=lease_s), tenant=TENANT)
        print("open", flush=True)
        is_open = True
        while is_open:
            await asyncio.sleep(lease_s / RENEWALS_PER_LEASE)
            try:
                is_open = await feeds.renew(stream_id, tenant=TENANT)
            except LogUnavailable as error:
                print(error.code, flush=True)
        print("ended", flush=True)


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], sys.argv[2], lease_s=float(sys.argv[3])))
