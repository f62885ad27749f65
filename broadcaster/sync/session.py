"""A publisher's part of one process: its connections to Redis and the couriers of its feeds, on the loop's thread.

A forked child makes a session of its own and never touches the one that it inherits from its parent.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from broadcaster.errors import SetupError
from broadcaster.library.delivery import Delivery, Outage
from broadcaster.log.feeds.bounds import FeedBounds
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.settings import Settings
from broadcaster.sync.buffer import Buffer
from broadcaster.sync.courier import Courier
from broadcaster.sync.loop_thread import loop_thread


class PublisherSession:
    """Made without I/O; ``carry`` and ``close`` are for the program's threads."""

    def __init__(self, settings: Settings, *, tenant: str) -> None:
        """Raises SetupError when the settings name no Redis."""
        if settings.redis_url is None:
            raise SetupError("no Redis to connect to: set BROADCASTER_REDIS_URL, or use Publisher.from_url(url)")
        self._thread = loop_thread()
        self._tenant = tenant
        self._outage = Outage()
        self._tasks: set[asyncio.Task[None]] = set()  # touched on the loop alone
        self._connection = LogConnection(
            settings.redis_url,
            prefix=settings.key_prefix,
            timeout_s=settings.redis_timeout_s,
            max_connections=settings.redis_connections,
        )
        self._feeds = Feeds(self._connection, FeedBounds.of(settings), streams=Streams(self._connection))

    def carry(
        self, stream_id: str, config: FeedConfig, *, max_events: int, max_bytes: int, ended: Callable[[], None]
    ) -> Buffer:
        """A buffer whose events go to this feed, which is opened for it; ``ended`` is called on the loop."""
        wake = asyncio.Event()
        buffer = Buffer(max_events=max_events, max_bytes=max_bytes, wake=lambda: self._thread.call_soon(wake.set))
        delivery = Delivery(self._feeds, stream_id, tenant=self._tenant, outage=self._outage)
        courier = Courier(buffer, delivery, wake=wake, config=config, check=self._connection.check)
        self._thread.call_soon(lambda: self._start(courier.run(), ended))
        return buffer

    def close(self, deadline: float) -> None:
        """End all of it, and wait until ``deadline`` (monotonic) at most; the rest ends in the background."""
        closed = threading.Event()
        self._thread.call_soon(lambda: self._start(self._aclose(closed), lambda: None))
        closed.wait(max(0.0, deadline - time.monotonic()))

    def _start(self, run: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: ended())

    async def _aclose(self, closed: threading.Event) -> None:
        couriers = self._tasks - {asyncio.current_task()}
        for task in couriers:
            task.cancel()
        await asyncio.gather(*couriers, return_exceptions=True)
        await self._connection.aclose()
        closed.set()
