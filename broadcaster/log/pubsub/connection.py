"""The subscriber connection of one node, kept up: one session after another, each of which subscribes everything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from broadcaster.core.backoff import BackOff
from broadcaster.log.pubsub.session import Listener, SubscriberSession
from broadcaster.log.redis.address import Dialer
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

_BACK_OFF: Final = BackOff(first_s=0.05, cap_s=2.0)


@dataclass(frozen=True, slots=True)
class SubscriberOptions:
    """Durations in seconds, sizes in bytes."""

    connect_s: float = 5.0  # dial, AUTH and the first subscription of a connection, together
    backoff: BackOff = _BACK_OFF  # between connections, and of channels that a node refuses
    probe_every_s: float = 2.0
    probe_s: float = 2.0  # a probe that takes longer to arrive ends its connection
    reply_bytes: int = 16 * 2**20  # a longer unfinished reply of Redis ends its connection


@dataclass(slots=True, eq=False, repr=False)
class NodeConnection:
    """Subscriptions to the channels of one node. ``run`` keeps it connected until it is cancelled or ``end`` is called.

    ``refused`` is called with a channel that this node does not serve; the connection has dropped it. ``broke`` is
    called with every end of a session, because another node, or none, may serve now.
    """

    dialer: Dialer
    _: KW_ONLY
    options: SubscriberOptions
    rng: random.Random
    refused: Callable[[str], None]
    broke: Callable[[], None]
    _wanted: dict[bytes, Listener] = field(default_factory=dict, init=False)
    _session: SubscriberSession | None = field(default=None, init=False)
    _is_ended: bool = field(default=False, init=False)
    _received_at: float = field(default_factory=lambda: asyncio.get_running_loop().time(), init=False)

    @property
    def is_up(self) -> bool:
        """Whether a session is under way and the server has confirmed a subscription."""
        return self._session is not None and self._session.opened.is_set() and not self._session.closed.is_set()

    @property
    def received_at(self) -> float:
        """Loop time at which the node last sent anything on this connection."""
        return max(self._received_at, self._session.received_at) if self._session is not None else self._received_at

    def subscribe(self, channel: str, listener: Listener) -> None:
        """Receive the channel's messages; one listener a channel."""
        key = channel.encode()
        self._wanted[key] = listener
        if self._session is not None:
            self._session.change(key)

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Receive them no more. Nothing happens when the channel has another listener by now."""
        key = channel.encode()
        if self._wanted.get(key) is listener:
            del self._wanted[key]
            if self._session is not None:
                self._session.change(key)

    def drop(self, reason: str) -> None:
        """End the present session, which cannot be trusted to deliver. Another one follows."""
        if self._session is not None:
            self._session.drop(reason)

    def end(self) -> None:
        """The node serves nothing any more: disconnect, and do not reconnect."""
        self._is_ended = True
        self.drop("the node serves nothing any more")

    async def run(self) -> None:
        """Connect, subscribe, wait for the end, and repeat with a back-off."""
        failures = 0
        while not self._is_ended:
            try:
                was_up, reason = await self._run_session()
            except Exception as error:
                _log.error("subscriber_connection_crashed", exc_info=error)
                was_up, reason = False, "an unexpected error"
            failures = 1 if was_up else failures + 1
            _log.warning("subscriber_connection_lost", reason=reason, was_up=was_up, failures=failures)
            self.broke()
            await asyncio.sleep(self.options.backoff.pause_s(failures, luck=self.rng.random()))

    async def _run_session(self) -> tuple[bool, str]:
        """Run one session. Returns whether it came up, and why it ended."""
        session: SubscriberSession | None = None
        was_up = False
        try:
            async with asyncio.timeout(self.options.connect_s):
                session = await self.dialer.dial(self._create_session)
                self._session = session
                session.start(self.dialer.greeting())
                await session.opened.wait()
            was_up = self.is_up
            if was_up:
                await session.closed.wait()
        except OSError as error:  # TimeoutError is one
            return was_up, f"no connection: {type(error).__name__}: {error}"
        finally:
            self._end_session(session)
        return was_up, session.reason

    def _create_session(self) -> SubscriberSession:
        return SubscriberSession(self._wanted, reply_bytes=self.options.reply_bytes, refused=self._refuse)

    def _refuse(self, key: bytes) -> None:
        self._wanted.pop(key).lost()
        self.refused(key.decode())

    def _end_session(self, session: SubscriberSession | None) -> None:
        if session is None:
            return
        self._received_at = self.received_at
        self._session = None
        session.drop("the connection was closed")
        for listener in list(self._wanted.values()):
            listener.lost()
