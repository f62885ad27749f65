"""Pending webhooks: promised when a stream is created, due when it is over, kept until they are delivered.

Rules
1. A promise is written before the generation gets its job, so no end of the generation can miss it. The webhook
   becomes due before the generation leaves the open index (log/jobs/queue.py does both in one write), also if Redis has
   lost its promise: the meta shows which generation has a webhook. A generation that ended otherwise (by a worker of an
   earlier version, a lost write) is found by ``check_promised``, within CHECK_EVERY_MS.
2. A due webhook is taken under a lease that is its score: one delivery at a time, and if its worker dies, it is taken
   again when the lease has lapsed. Only the process that took it may settle it.
3. A webhook that is promised or due twice does no harm: the generation's meta holds how the delivery ended
   (``webhook_state``), and ``begin`` checks that first.
4. When Redis's clock steps back, the next take sets all waiting times back by as much.
5. Bounded, over all tenants and for each: beyond the bounds no webhook is promised and the generation or feed is
   refused. The webhook of a generation that is gone (expired, deleted) is dropped and logged. A process of a version
   without tenants' bounds counts for no tenant.
6. Feeds have webhooks, too, by the same rules (log/feeds/feed_webhooks.py): here the id of a generation is that under
   which either is stored. An id of a feed may be used anew, so an attempt is counted and recorded for the stream that
   was read, known by its creation's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from redis.asyncio import Redis

from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.core.status import OVER
from broadcaster.errors import Busy, LogUnavailable, TenantLimit
from broadcaster.log.redis.connect import LogConnection, reply_to
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.webhook_meta import WebhookState
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

# The check finds only webhooks that were not made due; a generation runs for up to half an hour.
CHECK_EVERY_MS: Final = 30_000
CHECKED_AT_ONCE: Final = 200
# Longer than a webhook is pending; a promise of a tenant prolongs it.
_TENANT_KEPT_MS: Final = 7 * 86_400_000
_TENANT_RETRY_S: Final = 5.0
_NO_BOUND: Final = 2**53
_ALL_FULL: Final = -1  # of webhook_promise.lua
_TENANT_FULL: Final = -2


class WebhookSettled(StrEnum):
    """The outcome of a webhook that was taken."""

    DONE = "done"
    RETRY = "retry"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class WebhookLimits:
    """Most pending webhooks: of all (MAX_WEBHOOKS), and of one tenant (TENANT_WEBHOOKS).

    None: nine tenths of all. The tenant of a server without keys is alone: for it the bound of all is the only one.
    """

    max_pending: int
    tenant_pending: int | None = None

    def pending_of(self, tenant: str) -> int:
        """Most pending webhooks of this tenant."""
        if self.tenant_pending is not None:
            return self.tenant_pending
        return self.max_pending if tenant == LOCAL_TENANT else max(1, self.max_pending * 9 // 10)


class EndLapsed(Protocol):
    """Ends a feed whose lease has lapsed (log/feeds/lapses.py)."""

    async def __call__(self, stream_id: str, *, lease_ms: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class TakenWebhook:
    """A generation whose webhook this process may deliver until ``until_ms`` of Redis's clock."""

    generation_id: str
    until_ms: int


class PendingWebhooks:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat."""

    def __init__(self, connection: LogConnection, *, limits: WebhookLimits) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._limits = limits

    async def promise(self, generation_id: str, *, tenant: str, is_reused: bool = False) -> Busy | None:
        """Promise this generation's webhook; returns why that was refused: as many are pending as may be.

        ``is_reused``: another stream may have had the id (a feed's), and its webhook may be due still.
        """
        name, limits = self._keys, self._limits
        keys = [name.webhooks_promised, name.webhooks_due, name.webhooks_of(tenant)]
        args = (generation_id, limits.max_pending, CHECK_EVERY_MS, int(is_reused))
        share = (limits.pending_of(tenant), _TENANT_KEPT_MS)
        code = int(await SCRIPTS["webhook_promise"].run(self._redis, keys, *args, *share))
        if code == _ALL_FULL:
            limit_reached("MAX_WEBHOOKS")
            return Busy("as many webhooks are pending as the settings allow; try again later")
        if code == _TENANT_FULL:
            limit_reached("TENANT_WEBHOOKS")
            return TenantLimit(
                "as many webhooks of this tenant are pending as TENANT_WEBHOOKS allows, open feeds included; try again "
                "later, or close a feed",
                retry_after_s=_TENANT_RETRY_S,
            )
        return None

    async def restore(self, generation_id: str) -> None:
        """Promise a webhook that was admitted once, whatever is pending."""
        await promise_webhook(self._redis, self._keys, generation_id)

    async def withdraw(self, generation_ids: Sequence[str]) -> None:
        """Drop these promises: their generations were not created, or are gone."""
        if generation_ids:
            await reply_to(self._redis.zrem(self._keys.webhooks_promised, *generation_ids))

    async def drop(self, generation_ids: Sequence[str]) -> None:
        """Drop these webhooks, promised or due: their streams were deleted."""
        for pending in (self._keys.webhooks_promised, self._keys.webhooks_due):
            await reply_to(self._redis.zrem(pending, *generation_ids))

    async def make_due(self, generation_ids: Sequence[str], *, is_new: bool = False) -> None:
        """Each of these streams has a webhook, and is over; ``is_new``: this call has just ended it."""
        script, keys, args = due_call(self._keys, generation_ids, is_new=is_new)
        await script.run(self._redis, keys, *args)

    async def take(self, count: int, *, lease_ms: int) -> list[TakenWebhook]:
        """Up to ``count`` due webhooks, each followed by ``settle``."""
        keys = [self._keys.webhooks_due, self._keys.webhooks_due_clock]
        until_ms, *ids = await SCRIPTS["webhook_take"].run(self._redis, keys, count, lease_ms)
        return [TakenWebhook(each.decode(), until_ms) for each in ids]

    async def settle(self, taken: TakenWebhook, outcome: WebhookSettled, *, delay_ms: int = 0) -> bool:
        """Record its outcome; False when the lease had lapsed and another process took it."""
        keys = [self._keys.webhooks_due, self._keys.webhooks_promised]
        args = (taken.generation_id, taken.until_ms, outcome, delay_ms)
        return bool(await SCRIPTS["webhook_settle"].run(self._redis, keys, *args))

    async def begin(self, generation_id: str, *, created_ms: int, max_attempts: int) -> int:
        """Count an attempt: its number, 0 when there is nothing to deliver, -1 when the attempts are spent."""
        keys, args = [self._keys.meta(generation_id)], (max_attempts, created_ms)
        return int(await SCRIPTS["webhook_begin"].run(self._redis, keys, *args))

    async def record_attempt(
        self,
        generation_id: str,
        state: WebhookState,
        *,
        created_ms: int,
        status: int | None = None,
        fault: str | None = None,
    ) -> bool:
        """Store how an attempt ended; ``pending`` when it will be retried. False: that stream is there no more."""
        keys = [self._keys.meta(generation_id), self._keys.log(generation_id)]
        final = "" if state is WebhookState.PENDING else state
        args = (final, "" if status is None else status, fault or "", created_ms)
        return bool(await SCRIPTS["webhook_record"].run(self._redis, keys, *args))

    async def check_promised(self, streams: Streams, *, end_lapsed: EndLapsed) -> int:
        """Check promises that were not made due for a while: if the stream is over, its webhook is due.

        A stream whose server does not answer is left for the next check of its promise.
        ``end_lapsed``: what ends a feed whose lease has lapsed, and makes its webhook due. How many became due.
        """
        taken_from = [self._keys.webhooks_promised, self._keys.webhooks_promised_clock]
        until_ms, *raw_ids = await SCRIPTS["webhook_take"].run(self._redis, taken_from, CHECKED_AT_ONCE, CHECK_EVERY_MS)
        ids = [each.decode() for each in raw_ids]
        read = zip(ids, await streams.each_tail(ids), strict=True) if ids else []
        tails = [(each, tail) for each, tail in read if not isinstance(tail, LogUnavailable)]
        if len(tails) < len(ids):
            _log.warning("webhooks_checked_later", count=len(ids) - len(tails))
        if gone := [each for each, tail in tails if tail.status is None]:
            _log.warning("webhooks_dropped", count=len(gone), first=gone[0], why="their streams are gone")
            for each in gone:
                await self._drop_promise(each, until_ms)
        added = 0
        if over := [each for each, tail in tails if tail.status in OVER]:
            script, keys, args = due_call(self._keys, over)
            added = int(await script.run(self._redis, keys, *args))
        for each, tail in tails:
            if tail.lease_ms is not None and not tail.leased:
                try:
                    added += await end_lapsed(each, lease_ms=tail.lease_ms)
                except LogUnavailable:  # Redis is full: the others are checked nevertheless
                    _log.warning("feed_ended_later", stream=each)
        return added

    async def _drop_promise(self, generation_id: str, until_ms: int) -> None:
        """Drop a promise that the check has taken, unless it was made anew meanwhile."""
        keys = [self._keys.webhooks_promised, self._keys.webhooks_due]
        await SCRIPTS["webhook_settle"].run(self._redis, keys, generation_id, until_ms, WebhookSettled.DONE, 0)


def due_call(keys: KeyNames, generation_ids: Sequence[str], *, is_new: bool = False) -> ScriptCall:
    """The call that makes the webhooks of these generations due: each has one, and is over (``is_new``: just now)."""
    names = [keys.webhooks_promised, keys.webhooks_due]
    return ScriptCall(SCRIPTS["webhook_due"], names, [int(is_new), *generation_ids])


async def promise_webhook(redis: Redis, keys: KeyNames, generation_id: str) -> None:
    """Promise a webhook that Redis may have lost: it was admitted once, so without a bound. Raises LogUnavailable."""
    sets = [keys.webhooks_promised, keys.webhooks_due]
    await SCRIPTS["webhook_promise"].run(redis, sets, generation_id, _NO_BOUND, CHECK_EVERY_MS, 0)
