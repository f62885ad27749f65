"""The subscriber connection of one node, kept up: session after session, everything subscribed again each time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from broadcaster.log.feed_address import Dialer
from broadcaster.log.feed_options import FeedLimits, FeedStats, FeedTimes
from broadcaster.log.feed_session import Listener, Session
from broadcaster.logs import get_logger

_log = get_logger(__name__)

_DIAL_ERRORS: Final = (OSError, TimeoutError)


class NodeConnection:
    """Subscriptions to the channels of one node. ``run`` keeps it connected until cancelled, or ``end``.

    ``refused`` is called with a channel that this node does not serve, which is wanted here no more; ``broke`` with
    every end of a session: the node may be another one now, or none.
    """

    def __init__(
        self,
        dialer: Dialer,
        *,
        times: FeedTimes,
        limits: FeedLimits,
        stats: FeedStats,
        rng: random.Random,
        refused: Callable[[str], None],
        broke: Callable[[], None],
    ) -> None:
        self._dialer = dialer
        self._refused = refused
        self._broke = broke
        self._times = times
        self._limits = limits
        self._stats = stats
        self._rng = rng
        self._wanted: dict[bytes, Listener] = {}
        self._session: Session | None = None
        self._is_ended = False
        self._was_up_before = False
        self._heard_at = asyncio.get_running_loop().time()

    @property
    def is_up(self) -> bool:
        """Whether a session is under way and the server has confirmed a subscription."""
        return self._session is not None and self._session.greeted.is_set() and not self._session.closed.is_set()

    @property
    def heard_at(self) -> float:
        """Loop time at which the node last said anything on this connection."""
        return max(self._heard_at, self._session.heard_at) if self._session is not None else self._heard_at

    def subscribe(self, channel: str, listener: Listener) -> None:
        """Want the channel's messages; one listener a channel."""
        key = channel.encode()
        self._wanted[key] = listener
        if self._session is not None:
            self._session.change(key)

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Want them no more. Nothing happens when the channel has another listener by now."""
        key = channel.encode()
        if self._wanted.get(key) is listener:
            del self._wanted[key]
            if self._session is not None:
                self._session.change(key)

    def drop(self, reason: str) -> None:
        """End the present session: what it would have delivered is not to be trusted. Another one follows."""
        if self._session is not None:
            self._session.drop(reason)

    def end(self) -> None:
        """The node serves nothing any more: hang up, and do not dial again."""
        self._is_ended = True
        self.drop("the node serves nothing any more")

    async def run(self) -> None:
        """Connect, subscribe, wait for the end; again, with a jittered and capped back-off."""
        failures = 0
        while not self._is_ended:
            try:
                was_up, reason = await self._run_session()
            except Exception as error:
                _log.error("feed_connection_crashed", exc_info=error)
                was_up, reason = False, "an unexpected error"
            failures = 1 if was_up else failures + 1
            _log.warning("feed_connection_lost", reason=reason, was_up=was_up, failures=failures)
            self._broke()
            await asyncio.sleep(self._times.backoff_s(failures, self._rng))

    async def _run_session(self) -> tuple[bool, str]:
        """One session; whether it came up, and why it ended."""
        session: Session | None = None
        was_up = False
        try:
            async with asyncio.timeout(self._times.connect_s):
                session = await self._dialer.dial(self._create_session)
                self._session = session
                session.start(self._dialer.greeting())
                await session.greeted.wait()
            was_up = self.is_up
            if was_up:
                self._count_connect()
                await session.closed.wait()
        except _DIAL_ERRORS as error:
            return was_up, f"no connection: {type(error).__name__}: {error}"
        finally:
            self._end_session(session, was_up=was_up)
        return was_up, session.reason

    def _create_session(self) -> Session:
        return Session(self._wanted, reply_bytes=self._limits.reply_bytes, refused=self._refuse)

    def _refuse(self, key: bytes) -> None:
        self._wanted.pop(key).lost()
        self._refused(key.decode())

    def _count_connect(self) -> None:
        self._stats.connected += 1
        self._stats.connects += 1
        self._stats.reconnects += self._was_up_before
        self._was_up_before = True

    def _end_session(self, session: Session | None, *, was_up: bool) -> None:
        if session is None:
            return
        self._heard_at = self.heard_at
        self._session = None
        session.drop("the feed was closed")
        if was_up:
            self._stats.connected -= 1
        for listener in list(self._wanted.values()):
            listener.lost()
