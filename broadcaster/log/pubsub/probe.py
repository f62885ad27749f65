"""The probe of a subscriber connection: does a message that is published now arrive on it?

A connection can be open and deliver nothing: its node was demoted, its host vanished, or a proxy in between hangs. So
the probe publishes a message through the ordinary client, which uses the *current* primary. If the message does not
arrive on the connection in time, the connection is dropped and replaced. A probe that cannot be published proves
nothing about the connection, but Redis may be silent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Final, TypeAlias

from broadcaster.log.pubsub.connection import NodeConnection, SubscriberOptions
from broadcaster.log.pubsub.counts import SubscriberCounts
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

PublishProbe: TypeAlias = Callable[[str, bytes], Awaitable[object]]
"""``SPUBLISH channel payload`` through the ordinary client (``redis.spublish`` fits)."""

_JITTER: Final = 0.2


@dataclass(slots=True, eq=False, repr=False)
class Probe:
    """The listener on one connection's probe channel, and the loop that publishes to it. No other process uses it.

    ``draw`` finds a channel that this node serves (None: not yet). ``on_silence`` is called when a probe could not be
    published, ``on_deafness`` when a probe did not arrive and the connection was dropped.
    """

    connection: NodeConnection
    _: KW_ONLY
    draw: Callable[[], str | None]
    publish: PublishProbe
    on_silence: Callable[[], None]
    on_deafness: Callable[[], None]
    counts: SubscriberCounts = field(default_factory=SubscriberCounts)
    channel: str | None = field(default=None, init=False)
    _number: int = field(default=0, init=False)
    _losses: int = field(default=0, init=False)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _confirmed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        self.redraw()

    def redraw(self) -> None:
        """Exchange the channel, which this node does not serve any more."""
        if self.channel is not None:
            self.connection.unsubscribe(self.channel, self)
        self._confirmed.clear()
        self.channel = self.draw()
        if self.channel is not None:
            self.connection.subscribe(self.channel, self)

    def forget(self) -> None:
        """The node has refused the channel; the next probe draws another one."""
        self.channel = None
        self._confirmed.clear()

    async def run(self, options: SubscriberOptions, rng: random.Random) -> None:
        """Probe until cancelled, about every ``probe_every_s``."""
        while True:
            await asyncio.sleep(options.probe_every_s * rng.uniform(1 - _JITTER, 1 + _JITTER))
            if self.channel is None:
                self.redraw()
            elif self.connection.is_up:
                await self._probe(self.channel, options.probe_s)

    async def _probe(self, channel: str, within_s: float) -> None:
        losses, begun_at = self._losses, asyncio.get_running_loop().time()
        if not await _happens(self._confirmed, within_s):
            reason = "the probe's channel was not subscribed"
        elif not await self._publish_next(channel, within_s):
            self.on_silence()
            return
        elif not await _happens(self._arrived, within_s):
            reason = "a probe did not come back"
        else:
            self.counts.probe_s.observe(asyncio.get_running_loop().time() - begun_at)
            return
        # Else the connection or the channel was replaced meanwhile.
        if (self.channel, self._losses) == (channel, losses):
            self.counts.probes_lost += 1
            self.connection.drop(reason)
            self.on_deafness()

    async def _publish_next(self, channel: str, within_s: float) -> bool:
        self._number += 1
        self._arrived.clear()
        try:
            async with asyncio.timeout(within_s):
                await self.publish(channel, str(self._number).encode())
        except Exception as error:  # the probe loop must survive whatever the client raises
            _log.warning("subscriber_probe_not_published", error=f"{type(error).__name__}: {error}")
            return False
        return True

    def push(self, payload: bytes) -> None:
        """The current probe has arrived; an earlier one does not count."""
        if payload == str(self._number).encode():
            self._arrived.set()

    def subscribed(self) -> None:
        """Probes arrive from now on."""
        self._confirmed.set()

    def lost(self) -> None:
        """The connection or the channel is being replaced: stop waiting."""
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
