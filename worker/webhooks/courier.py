"""The courier: takes due webhooks, delivers them beside the generations, and drains.

Rules
1. At most ``concurrency`` deliveries run at once; the courier takes only as many as there is room for.
2. It wakes when this worker makes a webhook due, and polls every POLL_S: other workers make webhooks due too, and
   back-offs end.
3. If Redis interrupts a delivery, its lease lapses, and the next worker that takes it continues.
4. Draining: the courier takes nothing new, running deliveries may end within the grace, the rest is given back at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.webhooks import TakenWebhook
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from broadcaster.process.tasks import end_tasks
from worker.draining import wait_within
from worker.webhooks.delivery import WebhookDelivery

_log = get_logger(__name__)

# An idle worker polls Redis this often for webhooks that others made due.
POLL_S: Final = 0.5
CHECK_EVERY_S: Final = 5.0
_RETRY_S: Final = 1.0
_GIVE_BACK_S: Final = 2.0


@dataclass(eq=False, repr=False)
class WebhookCourier:
    """See the module's rules. ``woken`` is set whenever a webhook may have become due."""

    delivery: WebhookDelivery
    concurrency: int
    woken: asyncio.Event
    _under_way: dict[asyncio.Task[None], TakenWebhook] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Take and deliver until cancelled; ``drain`` must follow."""
        loop = asyncio.get_running_loop()
        check_at_s = loop.time()
        while True:
            self.woken.clear()
            try:
                if loop.time() >= check_at_s:
                    check_at_s = loop.time() + CHECK_EVERY_S
                    await self.delivery.check_promised()
                count = await self._take()
            except LogUnavailable:
                _log.warning("webhooks_later")
                await asyncio.sleep(_RETRY_S)
                continue
            if count == 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S * random.uniform(0.5, 1.5)):
                        await self.woken.wait()

    async def drain(self, *, grace_s: float, hurried: asyncio.Event) -> None:
        """Rule 4; ``hurried`` ends the grace. Cancel ``run`` before."""
        await wait_within(self._under_way.keys, grace_s=grace_s, hurried=hurried)
        late = dict(self._under_way)
        await end_tasks(*late)
        try:
            async with asyncio.timeout(_GIVE_BACK_S):
                for taken in late.values():
                    await self.delivery.give_back(taken)
        except (LogUnavailable, TimeoutError):
            _log.warning("webhooks_given_back_later", count=len(late))  # their leases lapse by themselves

    async def _take(self) -> int:
        free = self.concurrency - len(self._under_way)
        if free <= 0:
            limit_reached("WEBHOOK_CONCURRENCY")
            return 0
        taken_at_s = asyncio.get_running_loop().time()
        found = await self.delivery.pending.take(free, lease_ms=int(self.delivery.bounds.lease_s * 1000))
        for taken in found:
            task = asyncio.create_task(self._deliver(taken, taken_at_s))
            self._under_way[task] = taken
            task.add_done_callback(self._ended)
        return len(found)

    async def _deliver(self, taken: TakenWebhook, taken_at_s: float) -> None:
        try:
            await self.delivery.deliver(taken, taken_at_s=taken_at_s)
        except LogUnavailable:
            _log.warning("webhook_interrupted", stream=taken.generation_id)
        except Exception:
            # Its attempt is counted: a webhook whose delivery always crashes is given up like any other.
            _log.exception("webhook_crashed", stream=taken.generation_id)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self.woken.set()
