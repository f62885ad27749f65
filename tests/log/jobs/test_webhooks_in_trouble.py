"""Webhooks while Redis is full, or a server of a cluster is away: a stream that is over is kept for its webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from broadcaster.core.events import Finish, encode_event
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.webhooks import TakenWebhook, WebhookSettled
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from broadcaster.log.streams.webhook_meta import WebhookState
from tests.support.log.log_world import TENANT, World

LEASE_MS = 60_000


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


@asynccontextmanager
async def full(world: World) -> AsyncIterator[None]:
    await world.redis.config_set("maxmemory", 1)
    try:
        yield
    finally:
        await world.redis.config_set("maxmemory", 0)


async def finished(world: World) -> str:
    """A generation that is over, and whose webhook is promised."""
    stream_id = await world.create(webhook={"url": "https://hooks.example.com/h"})
    claim = await world.claim(stream_id)
    await world.append(stream_id, claim.epoch, 1, [encode_event(Finish())])
    return stream_id


async def due(world: World) -> str:
    """A generation that is over, and whose webhook is due."""
    stream_id = await finished(world)
    await world.queue.close_open([stream_id], webhooks_of=[stream_id])
    return stream_id


async def take(world: World) -> list[TakenWebhook]:
    return await world.webhooks.take(10, lease_ms=LEASE_MS)


async def test_a_full_redis_hands_out_a_due_webhook(world: World) -> None:
    stream_id = await due(world)
    async with full(world):
        assert [taken.generation_id for taken in await take(world)] == [stream_id]


async def test_a_full_redis_counts_and_records_an_attempt(world: World) -> None:
    stream_id = await due(world)
    created_ms = (await world.generations.get(stream_id, tenant=TENANT)).created_ms
    async with full(world):
        for number, state in enumerate((WebhookState.PENDING, WebhookState.DELIVERED), 1):
            assert await world.webhooks.begin(stream_id, created_ms=created_ms, max_attempts=3) == number
            assert await world.webhooks.record_attempt(stream_id, state, created_ms=created_ms, status=200)
    webhook = (await world.generations.get(stream_id, tenant=TENANT)).webhook
    assert webhook is not None
    assert (webhook.state, webhook.attempts) == (WebhookState.DELIVERED, 2)


@pytest.mark.parametrize("outcome", WebhookSettled)
async def test_a_full_redis_takes_what_becomes_of_a_webhook(world: World, outcome: WebhookSettled) -> None:
    stream_id = await due(world)
    (taken,) = await take(world)
    async with full(world):
        assert await world.webhooks.settle(taken, outcome)
    assert (await world.redis.zscore(world.keys.webhooks_due, stream_id) is None) == (outcome != WebhookSettled.RETRY)


async def test_a_server_that_does_not_answer_holds_up_no_webhook_of_the_others(world: World) -> None:
    away, over = await finished(world), await finished(world)
    await world.redis.zadd(world.keys.webhooks_promised, {away: 1, over: 1})  # both are to be checked

    class OneServerAway(Streams):
        async def each_tail(self, stream_ids: Sequence[str]) -> list[Tail | LogUnavailable]:
            tails = zip(stream_ids, await super().each_tail(stream_ids), strict=True)
            return [LogUnavailable("its server is away") if each == away else tail for each, tail in tails]

    streams = OneServerAway(world.connection)
    assert await world.webhooks.check_promised(streams, end_lapsed=world.lapses.end) == 1
    assert [taken.generation_id for taken in await take(world)] == [over]
    assert await world.redis.zscore(world.keys.webhooks_promised, away) is not None
