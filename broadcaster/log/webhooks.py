"""Webhooks that are owed: promised when a generation is created, due when it is over, kept until they are told.

Rules
1. A promise is written before the generation gets its job, so nothing that ends the generation can forget it. The
   webhook becomes due before the generation leaves the open index (log/queue.py does both in one write), whether its
   promise is still there or not: Redis may have lost it. The meta says which generation has a webhook. What ended
   otherwise (by a worker of an earlier version, a lost write) is found by ``look``, within LOOK_MS.
2. A due webhook is taken under a lease that is its score: one delivery at a time, and a delivery whose worker died is
   taken again when the lease has lapsed. Only who took it may settle it.
3. A promise twice made or twice due is harmless: what has been told is written in the generation's meta
   (``webhook_state``), and ``begin`` asks there first.
4. When Redis's clock steps back, the next take sets the times of all that waits back by as much.
5. Bounded: beyond ``max_pending`` no webhook is promised and the generation is refused. One of a generation that is
   known no more (kept no longer, deleted) is dropped and logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from redis.asyncio import Redis

from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.keys import Keys
from broadcaster.log.scripts import (
    WEBHOOK_BEGIN,
    WEBHOOK_DUE,
    WEBHOOK_PROMISE,
    WEBHOOK_SETTLE,
    WEBHOOK_TAKE,
    WEBHOOK_TELL,
    Call,
)
from broadcaster.log.streams import OVER, Streams
from broadcaster.log.webhook_meta import WebhookState
from broadcaster.logs import get_logger

_log = get_logger(__name__)

# Only what nobody has called due is found by looking; a generation runs for up to half an hour.
LOOK_MS: Final = 30_000
LOOKED_AT_ONCE: Final = 200
_NO_BOUND: Final = 2**53


class WebhookSettled(StrEnum):
    """What becomes of a webhook that was taken."""

    DONE = "done"
    AGAIN = "again"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class TakenWebhook:
    """A generation whose webhook this process may deliver until ``until_ms`` of Redis's clock."""

    generation_id: str
    until_ms: int


class PendingWebhooks:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat."""

    def __init__(self, connection: LogConnection, *, max_pending: int) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._max_pending = max_pending

    async def promise(self, generation_id: str) -> bool:
        """Owe this generation's webhook; False when as many are pending as may be."""
        with log_errors():
            return await _promise(self._redis, self._keys, generation_id, max_pending=self._max_pending) >= 0

    async def withdraw(self, generation_ids: Sequence[str]) -> None:
        """Owe these no more: their generations never came to be, or are known no more."""
        if generation_ids:
            with log_errors():
                await self._redis.zrem(self._keys.webhooks_promised, *generation_ids)

    async def take(self, count: int, *, lease_ms: int) -> list[TakenWebhook]:
        """Up to ``count`` due webhooks, each followed by ``settle``."""
        with log_errors():
            keys = [self._keys.webhooks_due, self._keys.webhooks_due_clock]
            until_ms, *ids = await WEBHOOK_TAKE.run(self._redis, keys, count, lease_ms)
        return [TakenWebhook(each.decode(), until_ms) for each in ids]

    async def settle(self, taken: TakenWebhook, outcome: WebhookSettled, *, delay_ms: int = 0) -> bool:
        """Say what becomes of it; False when the lease had lapsed and another process took it."""
        keys = [self._keys.webhooks_due, self._keys.webhooks_promised]
        with log_errors():
            args = (taken.generation_id, taken.until_ms, outcome, delay_ms)
            return bool(await WEBHOOK_SETTLE.run(self._redis, keys, *args))

    async def begin(self, generation_id: str, *, max_attempts: int) -> int:
        """Count an attempt: its number, 0 when there is nothing to tell, -1 when the attempts are spent."""
        with log_errors():
            return int(await WEBHOOK_BEGIN.run(self._redis, [self._keys.meta(generation_id)], max_attempts))

    async def tell(
        self, generation_id: str, state: WebhookState, *, status: int | None = None, fault: str | None = None
    ) -> None:
        """Write down how an attempt ended; ``pending`` when it will be made again."""
        keys = [self._keys.meta(generation_id), self._keys.log(generation_id)]
        final = "" if state is WebhookState.PENDING else state
        with log_errors():
            await WEBHOOK_TELL.run(self._redis, keys, final, "" if status is None else status, fault or "")

    async def look(self, streams: Streams) -> int:
        """Look at promises nobody has called due for a while: what is over becomes due; how many did."""
        with log_errors():
            taken_from = [self._keys.webhooks_promised, self._keys.webhooks_promised_clock]
            _, *raw_ids = await WEBHOOK_TAKE.run(self._redis, taken_from, LOOKED_AT_ONCE, LOOK_MS)
        ids = [each.decode() for each in raw_ids]
        statuses = [tail.status for tail in await streams.tails(ids)] if ids else []
        gone = [each for each, status in zip(ids, statuses, strict=True) if status is None]
        if gone:
            _log.warning("webhooks_dropped", count=len(gone), first=gone[0], why="their generations are known no more")
            await self.withdraw(gone)
        over = [each for each, status in zip(ids, statuses, strict=True) if status in OVER]
        if not over:
            return 0
        script, keys, args = due_call(self._keys, over)
        with log_errors():
            return int(await script.run(self._redis, keys, *args))


def due_call(keys: Keys, generation_ids: Sequence[str]) -> Call:
    """The call that makes the webhooks of these generations due: each has one, and is over."""
    return Call(WEBHOOK_DUE, [keys.webhooks_promised, keys.webhooks_due], list(generation_ids))


async def promise_again(redis: Redis, keys: Keys, generation_id: str) -> None:
    """Promise what Redis has lost; it was admitted once, so no bound refuses it. Raises what redis-py raises."""
    await _promise(redis, keys, generation_id, max_pending=_NO_BOUND)


async def _promise(redis: Redis, keys: Keys, generation_id: str, *, max_pending: int) -> int:
    sets = [keys.webhooks_promised, keys.webhooks_due]
    return int(await WEBHOOK_PROMISE.run(redis, sets, generation_id, max_pending, LOOK_MS))
