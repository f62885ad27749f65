"""What a call of the sync publisher costs its thread, and how fast events reach Redis.

    python bench/sync_send.py [REDIS_URL] [EVENTS]

Without a URL it starts an embedded server. Prints the median and p99 of `send`, and events and appends a second.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

from broadcaster import sync
from broadcaster.log.redis.embedded import EmbeddedServer


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    if len(sys.argv) > 1:
        measure(sys.argv[1], count)
        return
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        server = EmbeddedServer(Path(folder))
        asyncio.run(server.start())
        measure(server.url, count)
        asyncio.run(server.stop())


def measure(url: str, count: int) -> None:
    """All at once, then at the pace of a job."""
    publisher = sync.Publisher.from_url(url, timeout_s=60.0, buffer_events=count + 1, buffer_bytes=2**30)
    for name, every_s in (("back to back", 0.0), ("every millisecond", 0.001)):
        events = count if not every_s else count // 10
        took_us: list[float] = []
        with publisher.feed(f"bench-{uuid.uuid4().hex}", retention_s=1, max_bytes=8 * 2**20) as feed:
            feed.flush()
            begun = time.perf_counter()
            for number in range(events):
                before = time.perf_counter()
                feed.progress(number, events, "rendering")
                took_us.append((time.perf_counter() - before) * 1e6)
                if every_s:
                    time.sleep(every_s)
            given_s = time.perf_counter() - begun
            feed.flush()
            logged_s = time.perf_counter() - begun
        p99 = statistics.quantiles(took_us, n=100)[98]
        print(
            f"{name}: {events} events; send {statistics.median(took_us):.1f} µs median, {p99:.1f} µs p99; "
            f"given at {events / given_s:,.0f}/s, in Redis at {events / logged_s:,.0f}/s"
        )
    publisher.close()


if __name__ == "__main__":
    main()
