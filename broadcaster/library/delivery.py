"""One writer's calls to the log, each repeated until it is taken once, refused, or nobody waits for it any more.

Rules
1. An append keeps its Idempotency-Key through all its repeats: one whose answer was lost is taken once.
2. RateLimited is waited out as told; LogUnavailable is answered by a back-off that doubles, is capped and jittered.
3. An append about which nothing is known for UNKNOWN_S is given up: the log forgets its key soon after, and would then
   take it a second time. (It forgets sooner only when others have appended KEYS_KEPT times to this feed meanwhile.)
4. After one was given up the log must answer before the next is sent: an outage, however long, puts in doubt only
   the one append that it met. Creating, renewing and closing are safe to repeat without end.
5. A feed that this writer opened and that is gone (Redis came back empty) is created again, once for each call.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from broadcaster.core.cursor import Cursor
from broadcaster.errors import LogUnavailable, RateLimited, UnknownStream
from broadcaster.log.feeds import KEY_KEPT_MS, Appended, FeedConfig
from broadcaster.logs import get_logger

# A minute before the key is forgotten: the last try may wait for its answer, and clocks drift.
UNKNOWN_S: Final = KEY_KEPT_MS / 1000 - 60
_FIRST_S: Final = 0.05
_CAP_S: Final = 2.0

_Answer = TypeVar("_Answer")
_log = get_logger(__name__)


class FeedDoor(Protocol):
    """What a writer needs of the log; ``log.feeds.Feeds`` is one."""

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str) -> bool: ...

    async def append(
        self, stream_id: str, events: Sequence[bytes], *, tenant: str, idempotency_key: str | None = None
    ) -> Appended: ...

    async def close(self, stream_id: str, end: bytes, *, tenant: str) -> Appended: ...

    async def renew(self, stream_id: str, *, tenant: str) -> bool: ...


class Outage:
    """Whether the log is away, as the writers that share this know it: told once, however many they are."""

    def __init__(self) -> None:
        self.is_on = False

    def met(self, error: LogUnavailable) -> None:
        """The log did not answer."""
        if not self.is_on:
            self.is_on = True
            _log.warning("log_is_away", code=error.code)

    def over(self) -> None:
        """The log answered."""
        if self.is_on:
            self.is_on = False
            _log.warning("log_is_back")


class Delivery:
    """The calls of one writer to one feed, one append at a time; see the rules above.

    ``is_wanted`` is asked before each repeat. Every method raises what the log refuses with, and LogUnavailable or
    RateLimited once it is given up.
    """

    def __init__(self, feeds: FeedDoor, stream_id: str, *, tenant: str, outage: Outage) -> None:
        self.stream_id = stream_id
        self.appends = 0
        self.retries = 0
        self._feeds = feeds
        self._tenant = tenant
        self._outage = outage
        self._config: FeedConfig | None = None
        self._is_doubtful = False

    async def create(self, config: FeedConfig) -> bool:
        """Open the feed, however long that takes; False when it was there with this configuration."""
        created = await self._repeated(lambda: self._feeds.create(self.stream_id, config, tenant=self._tenant))
        self._config = config
        self._is_doubtful = False
        return created

    async def append(self, events: Sequence[bytes], *, is_wanted: Callable[[], bool]) -> list[Cursor]:
        """Where the entries stand."""
        if self._is_doubtful:
            await self._repeated(self.renew, is_wanted)
            self._is_doubtful = False
        key = uuid.uuid4().hex
        give_up_at = asyncio.get_running_loop().time() + UNKNOWN_S

        async def append() -> Appended:
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

        async def close() -> Appended:
            return await self._feeds.close(self.stream_id, end, tenant=self._tenant)

        return (await self._repeated(self._recreating(close))).last

    async def renew(self) -> bool:
        """Say once that the writer lives; False when the feed is over, or gone and not opened by this writer."""
        try:
            return await self._recreating(lambda: self._feeds.renew(self.stream_id, tenant=self._tenant))()
        except UnknownStream:
            return False

    def _recreating(self, call: Callable[[], Awaitable[_Answer]]) -> Callable[[], Awaitable[_Answer]]:
        """The call, and rule 5."""
        was_recreated = False

        async def recreating() -> _Answer:
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
        call: Callable[[], Awaitable[_Answer]],
        is_wanted: Callable[[], bool] = lambda: True,
        *,
        give_up_at: float = float("inf"),
    ) -> _Answer:
        failures = 0
        while True:
            trouble: LogUnavailable | RateLimited
            try:
                answer = await call()
            except LogUnavailable as error:
                self._outage.met(error)
                failures += 1
                trouble, wait_s = error, _backoff_s(failures)
            except RateLimited as error:
                trouble, wait_s = error, error.retry_after_s
            else:
                self._outage.over()
                return answer
            if asyncio.get_running_loop().time() + wait_s > give_up_at:
                raise trouble
            if is_wanted():
                await asyncio.sleep(wait_s)
            # Its caller may have gone meanwhile, and was told that the log is away.
            if not is_wanted():
                raise trouble
            self.retries += 1


def _backoff_s(failures: int) -> float:
    return min(_CAP_S, _FIRST_S * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1.0)
