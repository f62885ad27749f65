"""The control listener: a stop reaches the worker that runs the generation, within a round trip of Redis.

It is only the fast way. A message that is lost (the connection breaks at that moment) is made up for by the stop flag
in the answer of every append and renewal; after each reconnect the owner is told to ask at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from broadcaster.core.batching import StopWish
from broadcaster.log.connect import LogConnection
from broadcaster.log.feed_address import NodeAddress
from broadcaster.log.feed_connection import NodeConnection
from broadcaster.log.feed_options import FeedLimits, FeedStats, FeedTimes
from broadcaster.logs import get_logger

_log = get_logger(__name__)

_STOP: Final = b"stop"
_ABANDONED: Final = StopWish.ABANDONED.reason.encode()


class _StopListener:
    """One stream's control channel."""

    __slots__ = ("_on_stop", "_on_subscribed")

    def __init__(self, on_stop: Callable[[StopWish], None], on_subscribed: Callable[[], None]) -> None:
        self._on_stop = on_stop
        self._on_subscribed = on_subscribed

    def push(self, payload: bytes) -> None:
        word, _, reason = payload.partition(b" ")
        if word == _STOP:
            self._on_stop(StopWish.ABANDONED if reason == _ABANDONED else StopWish.STOPPED)

    def subscribed(self) -> None:
        self._on_subscribed()

    def lost(self) -> None:
        """Nothing to do: ``subscribed`` follows, and the append's answer carries the stop meanwhile."""


class ControlListener:
    """Listens to the control channels of the streams this worker writes, over one connection of its own."""

    def __init__(self, connection: LogConnection, *, worker_id: str) -> None:
        self._keys = connection.keys
        self._listeners: dict[str, _StopListener] = {}
        self._node = NodeConnection(
            NodeAddress.from_url(connection.url),
            times=FeedTimes(),
            limits=FeedLimits(),
            stats=FeedStats(),
            rng=random.Random(),
        )
        # A session counts as up once one subscription is confirmed: an idle worker needs one, too.
        self._node.subscribe(self._keys.probe(worker_id), _StopListener(_unasked, _nothing))

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        await self._node.run()

    def listen(self, stream_id: str, on_stop: Callable[[StopWish], None], *, on_subscribed: Callable[[], None]) -> None:
        """Call ``on_stop`` when a stop is asked for, ``on_subscribed`` whenever one may have been missed until now."""
        listener = _StopListener(on_stop, on_subscribed)
        self._listeners[stream_id] = listener
        self._node.subscribe(self._keys.control(stream_id), listener)

    def forget(self, stream_id: str) -> None:
        """Listen no more."""
        listener = self._listeners.pop(stream_id, None)
        if listener is not None:
            self._node.unsubscribe(self._keys.control(stream_id), listener)


def _unasked(_wish: StopWish) -> None:
    return None


def _nothing() -> None:
    return None
