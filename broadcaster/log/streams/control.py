"""The control listener: a stop reaches the worker that runs the generation within a round trip of Redis.

It is only the fast path. If a message is lost because the connection breaks, the worker finds the stop flag in the
reply to its next append or renewal. After each reconnect the worker is notified and checks at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broadcaster.core.batching import StopRequest
from broadcaster.log.pubsub.connection import SubscriberOptions
from broadcaster.log.pubsub.subscriptions import Subscriptions
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.topology.topology import Topology

_STOP: Final = b"stop"
_ABANDONED: Final = StopRequest.ABANDONED.reason.encode()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _StopListener:
    """One stream's control channel."""

    on_stop: Callable[[StopRequest], None]
    subscribed: Callable[[], None]

    def push(self, payload: bytes) -> None:
        kind, _, reason = payload.partition(b" ")
        if kind == _STOP:
            self.on_stop(StopRequest.ABANDONED if reason == _ABANDONED else StopRequest.STOPPED)

    def lost(self) -> None:
        """Nothing to do: ``subscribed`` follows, and meanwhile the replies to appends carry the stop."""


class ControlListener:
    """Subscribes to the control channels of the streams that this worker writes, over its own connections."""

    def __init__(self, connection: LogConnection, topology: Topology) -> None:
        self._keys = connection.keys
        self._listeners: dict[str, _StopListener] = {}
        self._subscriptions = Subscriptions(
            topology,
            keys=connection.keys,
            publish_probe=connection.redis.spublish,
            options=SubscriberOptions(),
            rng=random.Random(),
            on_silence=_nothing,
        )

    async def run(self) -> None:
        """Keep the connections up until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._subscriptions.start(tasks.create_task)
                await asyncio.Event().wait()
        finally:
            self._subscriptions.stop()

    def listen(
        self, stream_id: str, on_stop: Callable[[StopRequest], None], *, on_subscribed: Callable[[], None]
    ) -> None:
        """Call ``on_stop`` when a stop is requested, ``on_subscribed`` whenever one may have been missed before."""
        listener = _StopListener(on_stop, on_subscribed)
        self._listeners[stream_id] = listener
        self._subscriptions.subscribe(self._keys.control(stream_id), listener)

    def forget(self, stream_id: str) -> None:
        """Unsubscribe the stream's control channel."""
        listener = self._listeners.pop(stream_id, None)
        if listener is not None:
            self._subscriptions.unsubscribe(self._keys.control(stream_id), listener)


def _nothing(node: str) -> None:
    """Appends to a silent node notice its silence."""
