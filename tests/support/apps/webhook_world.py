"""Generations that are over and whose webhooks are due, and a worker's way of delivering them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from broadcaster.core.events import Abort, Error, Event, Finish, TextDelta, TextEnd, TextStart, Usage, encode_event
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.streams.webhook_meta import WebhookMeta
from broadcaster.webhooks.signature import read_secrets
from broadcaster.webhooks.url import WebhookHosts
from tests.support.log.log_world import TENANT, World
from tests.support.servers.webhook_receiver import SECRET
from worker.webhooks.courier import WebhookCourier
from worker.webhooks.delivery import DeliveryBounds, WebhookDelivery
from worker.webhooks.post import Resolve, WebhookPoster

MAX_ATTEMPTS = 4
TEXT = "the answer"
ANSWER: Sequence[Event] = (
    TextStart(id="0"),
    TextDelta(id="0", delta=TEXT),
    TextEnd(id="0"),
    Usage(input_tokens=3, output_tokens=2),
)
ENDS: dict[str, Event] = {
    "finished": Finish(),
    "failed": Error(error_text="the provider failed", code="provider_error"),
    "aborted": Abort(reason="stopped"),
}
HOSTS = WebhookHosts(["127.0.0.1:*", "localhost:*"])


@dataclass
class WebhookWorld:
    """A world with one worker's delivery in it."""

    world: World
    delivery: WebhookDelivery
    courier: WebhookCourier

    async def over(self, url: str, *, status: str = "finished", **options: Any) -> str:
        """A generation that ended so and whose webhook is due."""
        fields = {name: options.pop(name) for name in ("events",) if name in options}
        key = options.pop("idempotency_key", None)
        request = {"messages": [{"role": "user", "content": "why?"}], "metadata": options.pop("metadata", {"chat": 42})}
        request_made = GenerationRequest(model="m", request=request, webhook={"url": url, **fields}, **options)
        stream_id = (await self.world.generations.create(request_made, tenant=TENANT, idempotency_key=key)).id
        claim = await self.world.claim(stream_id)
        events = [encode_event(event) for event in (*ANSWER, ENDS[status])]
        await self.world.append(stream_id, claim.epoch, 1, events)
        await self.world.queue.close_open([stream_id], webhooks_of=[stream_id])
        return stream_id

    async def step(self) -> int:
        """Every due webhook's time has come: take and deliver each once; how many."""
        key = self.world.keys.webhooks_due
        for member in await self.world.redis.zrange(key, 0, -1):
            await self.world.redis.zadd(key, {member: 1})
        taken_at_s = asyncio.get_running_loop().time()
        taken = await self.world.webhooks.take(100, lease_ms=int(self.delivery.bounds.lease_s * 1000))
        await asyncio.gather(*(self.delivery.deliver(each, taken_at_s=taken_at_s) for each in taken))
        return len(taken)

    async def webhook(self, stream_id: str) -> WebhookMeta:
        meta = await self.world.generations.get(stream_id, tenant=TENANT)
        assert meta.webhook is not None
        return meta.webhook

    async def recorded(self, stream_id: str) -> tuple[str, int, int | None, str | None]:
        """State, attempts, last status, last fault."""
        webhook = await self.webhook(stream_id)
        return str(webhook.state), webhook.attempts, webhook.last_status, webhook.last_fault

    async def due_in_s(self, stream_id: str) -> float | None:
        """Seconds until the next attempt; None when nothing is pending."""
        score = await self.world.redis.zscore(self.world.keys.webhooks_due, stream_id)
        seconds, micros = await self.world.redis.time()
        return None if score is None else score / 1000 - seconds - micros / 1e6


@asynccontextmanager
async def open_webhook_world(
    world: World,
    *,
    timeout_s: float = 2,
    max_bytes: int = 100_000,
    concurrency: int = 8,
    resolve: Resolve | None = None,
) -> AsyncIterator[WebhookWorld]:
    """A courier that is not running yet, over a real poster."""
    poster = WebhookPoster(HOSTS, timeout_s=timeout_s, resolve=resolve)
    bounds = DeliveryBounds(timeout_s, MAX_ATTEMPTS, max_bytes, per_failing_host=2)
    delivery = WebhookDelivery(
        world.webhooks,
        world.streams,
        world.lapses.end,
        hosts=HOSTS,
        poster=poster,
        secrets=read_secrets(SECRET),
        bounds=bounds,
    )
    courier = WebhookCourier(delivery, concurrency=concurrency, woken=world.queue.webhook_due)
    yield WebhookWorld(world, delivery, courier)


@asynccontextmanager
async def running(courier: WebhookCourier, *, grace_s: float = 5) -> AsyncIterator[None]:
    """The courier's loop, drained at the end."""
    task = asyncio.create_task(courier.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        await courier.drain(grace_s=grace_s, hurried=asyncio.Event())
