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
    """The listener on one connection's probe channel, and the loop that makes it heard. The channel is its own.

    ``draw`` finds a channel that this node serves (None: not yet); ``on_silence`` is called when a probe could not be
    published, ``on_deafness`` when one did not come back: the connection was dropped.
    """

    def __init__(
        self,
        connection: NodeConnection,
        *,
        draw: Callable[[], str | None],
        publish: PublishProbe,
        on_silence: Callable[[], None],
        on_deafness: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._draw = draw
        self._publish = publish
        self._on_silence = on_silence
        self._on_deafness = on_deafness
        self._number = 0
        self._losses = 0
        self._arrived = asyncio.Event()
        self._confirmed = asyncio.Event()
        self.channel: str | None = None
        self.draw_again()

    def draw_again(self) -> None:
        """Leave the channel, which this node serves no more, for another one."""
        if self.channel is not None:
            self._connection.unsubscribe(self.channel, self)
        self._confirmed.clear()
        self.channel = self._draw()
        if self.channel is not None:
            self._connection.subscribe(self.channel, self)

    def forget(self) -> None:
        """The node has refused the channel: another one is drawn with the next probe."""
        self.channel = None
        self._confirmed.clear()

    async def run(self, times: FeedTimes, *, stats: FeedStats, rng: random.Random) -> None:
        """Probe for ever, about every ``probe_every_s``."""
        while True:
            await asyncio.sleep(times.probe_every_s * rng.uniform(1 - _JITTER, 1 + _JITTER))
            if self.channel is None:
                self.draw_again()
            elif self._connection.is_up:
                await self._probe(self.channel, times.probe_s, stats=stats)

    async def _probe(self, channel: str, within_s: float, *, stats: FeedStats) -> None:
        losses = self._losses
        if not await _happens(self._confirmed, within_s):
            words = "the probe's channel was not subscribed"
        elif not await self._publish_next(channel, within_s):
            self._on_silence()
            return
        elif not await _happens(self._arrived, within_s):
            words = "a probe did not come back"
        else:
            return
        if (self.channel, self._losses) == (channel, losses):  # else it is another connection, or channel, by now
            stats.probe_failures += 1
            self._connection.drop(words)
            self._on_deafness()

    async def _publish_next(self, channel: str, within_s: float) -> bool:
        self._number += 1
        self._arrived.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._publish(channel, str(self._number).encode())
        except Exception as error:  # whatever the client may raise: the probe loop must not end
            _log.warning("feed_probe_not_published", error=f"{type(error).__name__}: {error}")
            return False
        return True

    def push(self, payload: bytes) -> None:
        """The present probe came back (one of an earlier loop does not count)."""
        if payload == str(self._number).encode():
            self._arrived.set()

    def subscribed(self) -> None:
        """From now on probes come back."""
        self._confirmed.set()

    def lost(self) -> None:
        """The connection is being replaced, or the channel: nothing to wait for."""
        self._losses += 1
        self._confirmed.clear()
        self._arrived.set()


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
