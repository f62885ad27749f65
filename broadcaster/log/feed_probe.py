"""The probe of a subscriber connection: does what is published now come back on it?

A connection can be open and deaf: its node was demoted, its host is gone without a word, a proxy in between sleeps.
So we publish a word of our own through the ordinary client, which speaks to the *current* primary, and it must come
back on the connection in time; else the connection is dropped and another one takes its place.
A probe that cannot be published says nothing about the connection; it says that Redis may be silent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from broadcaster.log.feed_connection import NodeConnection
from broadcaster.log.feed_options import FeedStats, FeedTimes
from broadcaster.logs import get_logger

_log = get_logger(__name__)

PublishProbe: TypeAlias = Callable[[str, bytes], Awaitable[object]]
"""``SPUBLISH channel payload`` through the ordinary client (``redis.spublish`` fits)."""

_JITTER: Final = 0.2


class Probe:
    """The listener on one connection's probe channel, and the loop that makes it heard. The channel is its own."""

    def __init__(
        self, connection: NodeConnection, channel: str, *, publish: PublishProbe, on_silence: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._publish = publish
        self._on_silence = on_silence
        self._number = 0
        self._arrived = asyncio.Event()
        connection.subscribe(channel, self)

    async def run(self, times: FeedTimes, *, stats: FeedStats, rng: random.Random) -> None:
        """Probe for ever, about every ``probe_every_s``."""
        while True:
            await asyncio.sleep(times.probe_every_s * rng.uniform(1 - _JITTER, 1 + _JITTER))
            if not self._connection.is_up:
                continue
            if not await self._publish_next(times.probe_s):
                self._on_silence()
            elif not await self._comes_back(times.probe_s):
                stats.probe_failures += 1
                self._connection.drop("a probe did not come back")

    async def _publish_next(self, within_s: float) -> bool:
        self._number += 1
        self._arrived.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._publish(self._channel, str(self._number).encode())
        except Exception as error:  # whatever the client may raise: the probe loop must not end
            _log.warning("feed_probe_not_published", error=f"{type(error).__name__}: {error}")
            return False
        return True

    async def _comes_back(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    def push(self, payload: bytes) -> None:
        """The present probe came back (one of an earlier loop does not count)."""
        if payload == str(self._number).encode():
            self._arrived.set()

    def subscribed(self) -> None:
        """Nothing to make up for."""

    def lost(self) -> None:
        """The connection is being replaced: nothing to wait for."""
        self._arrived.set()
