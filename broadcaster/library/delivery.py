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
6. A feed that this writer opened and that is gone (Redis came back empty) is recreated, once for each call. One that a
   renewal has found ended is not: it was forgotten after its end, and StreamClosed is raised in place of UnknownStream.
7. Each call names the newest entry that an earlier one has brought into the log. When Redis has lost it (came back
   empty, or older), the call writes nothing, and the loss is mended first. The only writer of a feed (``owner``) has
   kept its events and writes them again behind an ``attempt``, MAX_RESENDS times at most. Any other feed gets one
   ``data-dropped`` with the number of entries that are gone, and ends with ``log_lost`` in place of ``finish``.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import Final, Protocol, TypeVar

from broadcaster.core.backoff import BackOff
from broadcaster.core.batching import MAX_RESENDS
from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Attempt, encode_event
from broadcaster.core.requests.publishing import TORN, encode_dropped
from broadcaster.core.status import Status, status_after
from broadcaster.errors import Busy, LogUnavailable, RateLimited, StreamClosed, StreamFull, UnknownStream
from broadcaster.log.feeds.feeds import KEY_KEPT_MS, AppendResult, FeedConfig
from broadcaster.log.feeds.kept_events import KeptEvents
from broadcaster.log.feeds.refusals import EntriesLost
from broadcaster.log.redis.connect import refusals
from broadcaster.observability.logs import get_logger

# A minute before the key is forgotten: the last try may wait for its reply, and clocks drift.
UNKNOWN_S: Final = KEY_KEPT_MS / 1000 - 60
_BACK_OFF: Final = BackOff(0.05, 2.0)
RENEWALS_PER_LEASE: Final = 3
_RENEW_RETRY_S: Final = 1.0
ENDED: Final = "this feed has ended or was replaced, and takes nothing more"

_Reply = TypeVar("_Reply")
_log = get_logger(__name__)


class FeedOperations(Protocol):
    """The calls of the log that a writer uses; ``log.feeds.Feeds`` has them."""

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str) -> bool: ...

    async def append(
        self,
        stream_id: str,
        events: Sequence[bytes],
        *,
        tenant: str,
        idempotency_key: str | None = None,
        after: Cursor | None = None,
    ) -> AppendResult: ...

    async def close(self, stream_id: str, end: bytes, *, tenant: str, after: Cursor | None = None) -> AppendResult: ...

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

    def __init__(
        self,
        feeds: FeedOperations,
        stream_id: str,
        *,
        tenant: str,
        outage: Outage | None = None,
        note_lost: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``outage``: shared by the writers of one log, so that its absence is logged once for all of them.

        ``note_lost`` is called with the number of entries that Redis has lost and this writer cannot write again.
        """
        self.stream_id = stream_id
        self.appends = 0
        self.retries = 0
        self._feeds = feeds
        self._tenant = tenant
        self.outage = outage or Outage()
        self.trouble: Busy | None = None
        """Why the latest call is repeated; None once it was accepted or refused."""
        self.has_lost = False
        """Whether entries are lost that were not written again."""
        self.is_over = False
        """Whether a renewal has found the feed ended, or replaced."""
        self._note_lost = note_lost
        self._config: FeedConfig | None = None
        self._is_doubtful = False
        self._last: Cursor | None = None
        self._kept: KeptEvents | None = None
        self._losses = 0
        self._unreported = 0  # lost entries
        self._is_torn = False  # rule 7: the loss is not mended yet

    async def create(self, config: FeedConfig) -> bool:
        """Open the feed, however long that takes; False when it was there with this configuration."""
        created = await self._repeated(lambda: self._feeds.create(self.stream_id, config, tenant=self._tenant))
        self._config = config
        self._kept = None if config.owner is None else KeptEvents()
        self._is_doubtful = False
        return created

    async def append(self, events: Sequence[bytes], *, is_wanted: Callable[[], bool] = lambda: True) -> list[Cursor]:
        """Append the events; returns the cursors of their entries."""
        if self._is_doubtful:
            await self._repeated(self.renew, is_wanted)
            self._is_doubtful = False
        try:
            appended = await self._mended(self._appending(events, is_wanted), is_wanted)
        except LogUnavailable:
            self._is_doubtful = True
            raise
        self.appends += 1
        if self._kept is not None:
            self._kept.add(events)
        return appended.ids

    async def close(self, end: bytes) -> Cursor:
        """Append the terminal event, however long that takes; by rule 7 TORN in place of ``finish``."""

        async def close() -> AppendResult:
            raw = encode_event(TORN) if self.has_lost and status_after(end) == Status.FINISHED else end
            return await self._feeds.close(self.stream_id, raw, tenant=self._tenant, after=self._last)

        return (await self._mended(lambda: self._repeated(self._recreating(close)))).last

    async def renew(self) -> bool:
        """Renew the lease once; False when the feed is over, or gone and not opened by this writer."""
        try:
            is_open = await self._recreating(lambda: self._feeds.renew(self.stream_id, tenant=self._tenant))()
        except (UnknownStream, StreamClosed):
            return False
        self.is_over = self.is_over or not is_open
        return is_open

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

    def _appending(
        self, events: Sequence[bytes], is_wanted: Callable[[], bool]
    ) -> Callable[[], Awaitable[AppendResult]]:
        """An append under its key, with all its repeats."""
        key = uuid.uuid4().hex
        give_up_at = asyncio.get_running_loop().time() + UNKNOWN_S

        async def append() -> AppendResult:
            return await self._feeds.append(
                self.stream_id, events, tenant=self._tenant, idempotency_key=key, after=self._last
            )

        async def appending() -> AppendResult:
            appended = await self._repeated(self._recreating(append), is_wanted, give_up_at=give_up_at)
            self._last = appended.last
            return appended

        return appending

    async def _mended(
        self, call: Callable[[], Awaitable[AppendResult]], is_wanted: Callable[[], bool] = lambda: True
    ) -> AppendResult:
        """The call with rule 7 applied."""
        while True:
            try:
                if self._is_torn:
                    await self._mend(is_wanted)
                return await call()
            except EntriesLost as loss:
                self._tear(loss)

    def _tear(self, loss: EntriesLost) -> None:
        # Where others have appended since, their entries stand at the numbers of the lost ones.
        lost = 1 if self._last is None else max(1, self._last.seq - loss.last_seq)
        _log.warning("feed_entries_lost", stream=self.stream_id, entries=lost)
        self._is_torn = True
        self._last = None
        self._losses += 1
        self._unreported += lost
        if self._kept is None or not self._kept.is_whole or self._losses > MAX_RESENDS:
            self._give_up()

    def _give_up(self) -> None:
        self._kept = None
        self.has_lost = True

    async def _mend(self, is_wanted: Callable[[], bool]) -> None:
        batches: Iterable[list[bytes]] = [[encode_dropped(self._unreported)]]
        if self._kept is not None:
            attempt = encode_event(Attempt(attempt=1 + self._losses, reason="log_lost"))
            batches = chain([[attempt]], self._kept.batches())
        try:
            for batch in batches:
                await self._appending(batch, is_wanted)()
        except StreamFull:  # no room for it a second time, or for the report
            self._give_up()
        if self._kept is None:
            self._note_lost(self._unreported)
        self._is_torn = False
        self._unreported = 0

    def _recreating(self, call: Callable[[], Awaitable[_Reply]]) -> Callable[[], Awaitable[_Reply]]:
        """The call with rule 6 applied."""
        was_recreated = False

        async def recreating() -> _Reply:
            nonlocal was_recreated
            try:
                return await call()
            except UnknownStream:
                if self.is_over:
                    raise StreamClosed(ENDED) from None
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
