"""A program that publishes by the library.

    python -m tests.support.apps.library_writer URL STREAM COUNT

It appends COUNT numbers to a feed with a lease of two seconds, and ends it.
"""

from __future__ import annotations

import asyncio
import sys

from broadcaster import Broadcaster


async def write(url: str, stream_id: str, count: int) -> None:
    """The whole of it."""
    async with Broadcaster.from_url(url) as broadcaster, broadcaster.feed(stream_id, lease_s=2) as feed:
        for number in range(count):
            await feed.data("n", number)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2], int(sys.argv[3])))
