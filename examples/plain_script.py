"""Publish and read in one file: an answer goes on although its reader goes away, and the next reader misses nothing.

    python examples/plain_script.py redis://localhost:6379

The URL of a Redis ≥ 7.0 or Valkey: redis://, rediss:// or unix://.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

from broadcaster import Broadcaster, Cursor
from broadcaster.client import EntryReceived
from broadcaster.core.events import TextDelta


async def answer() -> AsyncIterator[str]:
    """Where your model's stream would be: text, piece by piece, as it comes."""
    for word in ["Readers", "resume", "with", "a", "cursor", "and", "get", "the", "rest,", "once", "and", "whole."]:
        await asyncio.sleep(0.05)
        yield f"{word} "


async def read(broadcaster: Broadcaster, stream_id: str, *, after: Cursor | None, pieces: int) -> Cursor | None:
    """Print up to so many pieces of text after a cursor (None: from the beginning); the cursor of what was seen."""
    seen = after
    # `aclosing`, because we leave in the middle: the stream is no longer watched from that moment on.
    async with aclosing(broadcaster.events(stream_id, after=after, wait_s=5)) as events:
        async for received in events:
            if isinstance(received, EntryReceived):
                seen = received.cursor
                if isinstance(received.event, TextDelta):
                    print(received.event.delta, end="", flush=True)
                    pieces -= 1
            if pieces == 0:
                break
    return seen


async def main(redis_url: str) -> None:
    # No connection is made here: each opens at its first use, and all end with the block.
    async with Broadcaster.from_url(redis_url) as broadcaster:
        publication = broadcaster.publish_nowait(answer())
        seen = await read(broadcaster, publication.id, after=None, pieces=4)
        print("| the reader goes away")
        await publication.result()  # it needs no viewers
        await read(broadcaster, publication.id, after=seen, pieces=1000)
        print("| and another has read the rest")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
