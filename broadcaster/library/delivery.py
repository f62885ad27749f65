"""One writer's calls to the log, each repeated until it is accepted, refused, or its caller no longer waits.

Rules
1. An append keeps its Idempotency-Key through all its repeats: if a reply is lost, the log still accepts it only once.
2. After RateLimited the call waits for its ``retry_after_s``; after LogUnavailable, and any other Busy, for a back-off
   (core/backoff.py). ``trouble`` is why it waits.
3. An append without a reply for UNKNOWN_S is given up: the log forgets its key soon after, and would then accept it a
   second time. (It forgets sooner only when others have appended KEYS_KEPT times to this feed meanwhile.)
4. After an append was given up, the log must respond before the next one is sent: an outage, however long, leaves
   only one append in doubt. Creating, renewing and closing are safe to repeat without limit.
5. While the feed is open its lease is renewed three times as often as needed.
6. A feed that this writer opened and that is gone (Redis came back empty) is recreated, once for each call.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from broadcaster.core.backoff import BackOff
from broadcaster.core.cursor import Cursor
from broadcaster.errors import Busy, LogUnavailable, RateLimited, UnknownStream
from broadcaster.log.feeds.feeds import KEY_KEPT_MS, AppendResult, FeedConfig
from broadcaster.log.redis.connect import refusals
from broadcaster.observability.logs import get_logger

# A minute before the key is forgotten: the last try may wait for its reply, and clocks drift.
UNKNOWN_S: Final = KEY_KEPT_MS / 1000 - 60
_BACK_OFF: Final = BackOff(0.05, 2.0)
RENEWALS_PER_LEASE: Final = 3
_RENEW_RETRY_S: Final = 1.0

_Reply = TypeVar("_Reply")
_log = get_logger(__name__)


class FeedOperations(Protocol):
    """The calls of the log that a writer uses; ``log.feeds.Feeds`` has them."""

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str) -> bool: ...

    async def append(
        self, stream_id: str, events: Sequence[bytes], *, tenant: str, idempotency_key: str | None = None
    ) -> AppendResult: ...

    async def close(self, stream_id: str, end: bytes, *, tenant: str) -> AppendResult: ...

    async def renew(self, stream_id: str, *, tenant: str) -> bool: ...


class Outage:
    """Whether the log is unavailable; shared by writers, so that it is logged once for all of them."""

    def __init__(self) -> None:
        self.error: LogUnavailable | None = None
        """The latest, while the log is unavailable."""

    def met(self, error: LogUnavailable) -> None:
        """The log did not respond."""
        if self.error is None:
            _log.warning("log_is_away", code=error.code, error=str(error))
        self.error = error

    def over(self) -> None:
        """The log responded."""
        if self.error is not None:
            self.error = None
            _log.warning("log_is_back")


class Delivery:
    """The calls of one writer to one feed, one append at a time; see the rules above.

    ``is_wanted`` is checked before each repeat. Every method raises the log's refusal (SetupError when Redis refuses
    the user), or Busy (LogUnavailable, RateLimited) once it gives up.
    """

    def __init__(self, feeds: FeedOperations, stream_id: str, *, tenant: str, outage: Outage | None = None) -> None:
        """``outage``: shared by the writers of one log, so that its absence is logged once for all of them."""
        self.stream_id = stream_id
        self.appends = 0
        self.retries = 0
        self._feeds = feeds
        self._tenant = tenant
        self.outage = outage or Outage()
        self.trouble: Busy | None = None
        """Why the latest call is repeated; None once it was accepted or refused."""
        self._config: FeedConfig | None = None
        self._is_doubtful = False

    async def create(self, config: FeedConfig) -> bool:
        """Open the feed, however long that takes; False when it was there with this configuration."""
        created = await self._repeated(lambda: self._feeds.create(self.stream_id, config, tenant=self._tenant))
        self._config = config
        self._is_doubtful = False
        return created

    async def append(self, events: Sequence[bytes], *, is_wanted: Callable[[], bool] = lambda: True) -> list[Cursor]:
        """Append the events; returns the cursors of their entries."""
        if self._is_doubtful:
            await self._repeated(self.renew, is_wanted)
            self._is_doubtful = False
        key = uuid.uuid4().hex
        give_up_at = asyncio.get_running_loop().time() + UNKNOWN_S

        async def append() -> AppendResult:
            return await self._feeds.append(self.stream_id, events, tenant=self._tenant, idempotency_key=key)

        try:
            appended = await self._repeated(self._recreating(append), is_wanted, give_up_at=give_up_at)
        except LogUnavailable:
            self._is_doubtful = True
            raise
        self.appends += 1
        return appended.ids

    async def close(self, end: bytes) -> Cursor:
        """Append the terminal event, however long that takes."""

        async def close() -> AppendResult:
            return await self._feeds.close(self.stream_id, end, tenant=self._tenant)

        return (await self._repeated(self._recreating(close))).last

    async def renew(self) -> bool:
        """Renew the lease once; False when the feed is over, or gone and not opened by this writer."""
        try:
            return await self._recreating(lambda: self._feeds.renew(self.stream_id, tenant=self._tenant))()
        except UnknownStream:
            return False

    async def keep_renewed(self, lease_s: float | None) -> None:
        """Renew the lease, if there is one, until the feed is over or this is cancelled."""
        if lease_s is None:
            return
        wait_s = every_s = lease_s / RENEWALS_PER_LEASE
        while True:
            await asyncio.sleep(wait_s)
            wait_s = every_s
            try:
                if not await self.renew():
                    return
            except LogUnavailable:
                wait_s = min(every_s, _RENEW_RETRY_S)
            except Exception as error:
                _log.warning("feed_not_renewed", stream=self.stream_id, error=type(error).__name__)

    def _recreating(self, call: Callable[[], Awaitable[_Reply]]) -> Callable[[], Awaitable[_Reply]]:
        """The call with rule 6 applied."""
        was_recreated = False

        async def recreating() -> _Reply:
            nonlocal was_recreated
            try:
                return await call()
            except UnknownStream:
                if self._config is None or was_recreated:
                    raise
            await self._feeds.create(self.stream_id, self._config, tenant=self._tenant)
            was_recreated = True
            _log.warning("feed_created_again", stream=self.stream_id)
            return await call()

        return recreating

    async def _repeated(
        self,
        call: Callable[[], Awaitable[_Reply]],
        is_wanted: Callable[[], bool] = lambda: True,
        *,
        give_up_at: float = float("inf"),
    ) -> _Reply:
        failures = 0
        while True:
            trouble: Busy
            try:
                with refusals():
                    reply = await call()
            except RateLimited as error:
                trouble, wait_s = error, error.retry_after_s
            except Busy as error:
                if isinstance(error, LogUnavailable):
                    self.outage.met(error)
                failures += 1
                trouble, wait_s = error, _BACK_OFF.pause_s(failures, luck=random.random())
            except Exception:
                self.trouble = None
                raise
            else:
                self.trouble = None
                self.outage.over()
                return reply
            self.trouble = trouble
            if asyncio.get_running_loop().time() + wait_s > give_up_at:
                raise trouble
            if is_wanted():
                await asyncio.sleep(wait_s)
            # Its caller may have left meanwhile, with LogUnavailable.
            if not is_wanted():
                raise trouble
            self.retries += 1
