"""Pending webhooks: promised, due, leased, settled (log/jobs/webhooks.py)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadcaster.core.events import Finish, encode_event
from broadcaster.errors import Busy, QueueFull, WebhookNotAllowed
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.generations import GenerationLives, GenerationRequest, Generations
from broadcaster.log.jobs.queue import Job, Settled
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.jobs.webhooks import CHECK_EVERY_MS, TakenWebhook, WebhookSettled
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams import terminals
from broadcaster.log.streams.webhook_meta import WebhookState
from tests.support.log.log_world import TENANT, WEBHOOK_MS, World, until

HOOK = {"url": "https://hooks.example.com/h"}
REQUEST = GenerationRequest(model="m", request={"messages": []}, webhook=HOOK)
FINISH = encode_event(Finish())
LEASE_MS = 60_000
DEADLINE_S = 20.0


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


async def begin(world: World, stream_id: str, *, max_attempts: int) -> int:
    return await world.webhooks.begin(
        stream_id, created_ms=await created_ms(world, stream_id), max_attempts=max_attempts
    )


async def record(world: World, stream_id: str, state: WebhookState, **result: Any) -> bool:
    return await world.webhooks.record_attempt(
        stream_id, state, created_ms=await created_ms(world, stream_id), **result
    )


async def created_ms(world: World, stream_id: str) -> int:
    return int(await world.redis.hget(world.keys.meta(stream_id), "created_ms") or 0)


async def promised(world: World) -> list[str]:
    return [each.decode() for each in await world.redis.zrange(world.keys.webhooks_promised, 0, -1)]


async def due(world: World) -> list[str]:
    return [each.decode() for each in await world.redis.zrange(world.keys.webhooks_due, 0, -1)]


async def finished(world: World, **options: Any) -> str:
    """A generation whose end is written and whose job is not settled yet."""
    stream_id = await world.create(webhook=HOOK, **options)
    claim = await world.claim(stream_id)
    await world.append(stream_id, claim.epoch, 1, [FINISH])
    return stream_id


async def delivered_over(world: World, **options: Any) -> str:
    """The same, with its webhook due."""
    stream_id = await finished(world, **options)
    await world.queue.close_open([stream_id], webhooks_of=[stream_id])
    return stream_id


async def only_job(world: World) -> Job:
    reader = world.reader()
    (job,) = await reader.take(2)
    await reader.aclose()
    return job


async def lapse(world: World, key: str, stream_id: str) -> None:
    """Its time has come."""
    await world.redis.zadd(key, {stream_id: 1})


async def test_a_webhook_is_promised_with_its_generation_and_not_yet_due(world: World) -> None:
    stream_id = await world.create(webhook=HOOK)
    await world.create()
    assert await promised(world) == [stream_id]
    assert await world.webhooks.take(10, lease_ms=LEASE_MS) == []
    meta = await world.generations.get(stream_id, tenant=TENANT)
    assert meta.webhook is not None
    assert (meta.webhook.url, meta.webhook.state, meta.webhook.attempts) == (HOOK["url"], WebhookState.PENDING, 0)


@pytest.mark.parametrize("outcome", [Settled.DONE, Settled.DEAD])
async def test_a_settled_generation_has_its_webhook_due_at_once(world: World, outcome: Settled) -> None:
    stream_id = await finished(world)
    job = await only_job(world)
    await world.queue.settle(job, outcome, has_webhook=True)
    assert (await promised(world), await due(world)) == ([], [stream_id])
    assert world.queue.webhook_due.is_set()


@pytest.mark.parametrize("outcome", [Settled.DROP, Settled.REQUEUE])
async def test_a_generation_that_goes_on_has_its_webhook_promised_still(world: World, outcome: Settled) -> None:
    stream_id = await world.create(webhook=HOOK)
    job = await only_job(world)
    await world.queue.settle(job, outcome, has_webhook=True)
    assert (await promised(world), await due(world)) == ([stream_id], [])
    assert not world.queue.webhook_due.is_set()


def sweeper(world: World, *, queue_timeout_ms: int = 60_000, stall_timeout_ms: int = 60_000) -> Sweeper:
    return Sweeper(
        SweepTimes(queue_timeout_ms, stall_timeout_ms, 60_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )


@pytest.mark.parametrize("end", ["queue timeout", "no worker alive", "stopped while it waited", "attempts spent"])
async def test_whichever_process_ends_a_generation_its_webhook_becomes_due(connection: LogConnection, end: str) -> None:
    world = World(connection, max_attempts=1)
    probing = asyncio.create_task(world.steadiness.run())
    await until(lambda: world.steadiness.is_steady)
    stream_id = await world.create(webhook=HOOK)
    times = {"queue timeout": {"queue_timeout_ms": -1}, "no worker alive": {"stall_timeout_ms": -1}}
    if end == "stopped while it waited":
        await world.generations.stop(stream_id, tenant=TENANT)
    elif end == "attempts spent":
        await world.claim(stream_id)
        await world.redis.delete(world.keys.lease(stream_id))
        assert (await world.claim(stream_id)).outcome is Outcome.ENDED
    swept = sweeper(world, **times.get(end, {}))
    async with asyncio.timeout(DEADLINE_S):  # a machine that stood still was not steady: no sweep ends anything then
        while not (await world.generations.get(stream_id, tenant=TENANT)).is_over:
            await swept.sweep()
    await swept.sweep()
    assert (await due(world), await world.queue.newest_open(10)) == ([stream_id], [])
    probing.cancel()


async def test_a_webhook_whose_job_an_earlier_version_settled_is_found_by_checking(world: World) -> None:
    stream_id, running = await finished(world), await world.create(webhook=HOOK)
    await world.redis.zrem(world.keys.open, stream_id)
    assert await world.webhooks.check_promised(world.streams, end_lapsed=world.lapses.end) == 0
    for each in (stream_id, running):
        await lapse(world, world.keys.webhooks_promised, each)
    assert await world.webhooks.check_promised(world.streams, end_lapsed=world.lapses.end) == 1
    assert (await promised(world), await due(world)) == ([running], [stream_id])
    seconds, _ = await world.redis.time()
    next_check_s = await world.redis.zscore(world.keys.webhooks_promised, running) / 1000 - seconds
    assert CHECK_EVERY_MS / 1000 - 2 < next_check_s < CHECK_EVERY_MS / 1000 + 2


async def test_a_check_drops_what_is_known_no_more(world: World) -> None:
    stream_id = await world.create(webhook=HOOK)
    await world.redis.delete(world.keys.meta(stream_id))
    await lapse(world, world.keys.webhooks_promised, stream_id)
    assert await world.webhooks.check_promised(world.streams, end_lapsed=world.lapses.end) == 0
    assert await promised(world) == []


async def test_racing_workers_take_each_webhook_once(world: World) -> None:
    made = [await delivered_over(world) for _ in range(20)]
    taken = await asyncio.gather(*(world.webhooks.take(7, lease_ms=LEASE_MS) for _ in range(10)))
    assert sorted(each.generation_id for some in taken for each in some) == sorted(made)


async def test_a_webhook_twice_due_is_one_and_its_lease_is_not_cut_short(world: World) -> None:
    stream_id = await delivered_over(world)
    (taken,) = await world.webhooks.take(1, lease_ms=LEASE_MS)
    await world.webhooks.promise(stream_id, tenant=TENANT)
    await world.queue.close_open([stream_id], webhooks_of=[stream_id])
    assert await world.webhooks.take(1, lease_ms=LEASE_MS) == []
    assert await world.redis.zscore(world.keys.webhooks_due, stream_id) == taken.until_ms


async def test_a_lapsed_lease_is_taken_by_another_and_the_first_settles_nothing_any_more(world: World) -> None:
    stream_id = await delivered_over(world)
    (first,) = await world.webhooks.take(1, lease_ms=LEASE_MS)
    await lapse(world, world.keys.webhooks_due, stream_id)
    (second,) = await world.webhooks.take(1, lease_ms=LEASE_MS + 1)
    for outcome in WebhookSettled:
        assert not await world.webhooks.settle(first, outcome)
    assert second.generation_id == stream_id
    assert await world.webhooks.settle(second, WebhookSettled.DONE)
    assert await due(world) == []
    assert not await world.webhooks.settle(second, WebhookSettled.DONE)


async def test_a_failed_one_is_due_after_its_delay_and_an_open_one_is_promised_anew(world: World) -> None:
    made = {await delivered_over(world), await delivered_over(world)}
    repeated, still_open = await world.webhooks.take(2, lease_ms=LEASE_MS)
    assert {repeated.generation_id, still_open.generation_id} == made
    assert await world.webhooks.settle(repeated, WebhookSettled.RETRY, delay_ms=5000)
    assert await world.webhooks.settle(still_open, WebhookSettled.OPEN, delay_ms=5000)
    assert (await promised(world), await due(world)) == ([still_open.generation_id], [repeated.generation_id])
    assert await world.webhooks.take(2, lease_ms=LEASE_MS) == []
    await lapse(world, world.keys.webhooks_due, repeated.generation_id)
    assert len(await world.webhooks.take(2, lease_ms=LEASE_MS)) == 1


async def test_attempts_are_counted_to_their_bound_and_only_of_what_is_over_and_untold(world: World) -> None:
    stream_id = await finished(world)
    begun = [await begin(world, stream_id, max_attempts=3) for _ in range(5)]
    assert begun == [1, 2, 3, -1, -1]
    assert await begin(world, await world.create(webhook=HOOK), max_attempts=3) == 0
    assert await begin(world, "gen_unknown", max_attempts=3) == 0
    assert await world.redis.exists(world.keys.meta("gen_unknown")) == 0
    await record(world, stream_id, WebhookState.DELIVERED, status=204)
    assert await begin(world, stream_id, max_attempts=9) == 0


async def test_each_delivery_attempt_shows_in_the_meta_and_a_delivered_webhook_stays_delivered(world: World) -> None:
    stream_id = await finished(world)
    for state, status, fault in [
        (WebhookState.PENDING, None, "timeout"),
        (WebhookState.PENDING, 503, None),
        (WebhookState.DELIVERED, 200, None),
    ]:
        await record(world, stream_id, state, status=status, fault=fault)
        webhook = (await world.generations.get(stream_id, tenant=TENANT)).webhook
        assert webhook is not None
        assert (webhook.state, webhook.last_status, webhook.last_fault) == (state, status, fault)
    await record(world, stream_id, WebhookState.GAVE_UP, status=410)
    webhook = (await world.generations.get(stream_id, tenant=TENANT)).webhook
    assert webhook is not None
    assert (webhook.state, webhook.last_status) == (WebhookState.DELIVERED, 200)
    await record(world, "gen_unknown", WebhookState.GAVE_UP)
    assert await world.redis.exists(world.keys.meta("gen_unknown")) == 0


async def test_a_short_retention_waits_for_the_webhook_and_counts_from_its_delivery(world: World) -> None:
    stream_id = await delivered_over(world, retention_s=0.05)
    log, meta = world.keys.log(stream_id), world.keys.meta(stream_id)
    assert (await world.generations.get(stream_id, tenant=TENANT)).retention_ms == WEBHOOK_MS
    await world.redis.pexpire(log, WEBHOOK_MS)  # what the worker's append does with the meta's retention
    await record(world, stream_id, WebhookState.PENDING, status=500)
    assert await world.redis.pttl(log) > 40_000
    await record(world, stream_id, WebhookState.DELIVERED, status=200)
    assert await world.redis.pttl(log) < 100
    assert 3_500_000 < await world.redis.pttl(meta) < 3_601_000


async def test_a_long_retention_is_kept_as_it_was_requested(world: World) -> None:
    stream_id = await delivered_over(world, retention_s=1000)
    await world.redis.pexpire(world.keys.log(stream_id), 1_000_000)
    await record(world, stream_id, WebhookState.DELIVERED, status=200)
    assert 990_000 < await world.redis.pttl(world.keys.log(stream_id)) <= 1_000_000


async def test_beyond_the_bound_a_generation_with_a_webhook_is_refused_and_leaves_nothing_behind(
    connection: LogConnection,
) -> None:
    world = World(connection, max_webhooks=2)
    await world.create(webhook=HOOK)
    await delivered_over(world)  # what is due counts as what is promised
    before = sorted(await world.redis.keys("*"))
    with pytest.raises(Busy) as refused:
        await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert refused.value.code == "busy"
    # The key is remembered for some seconds: a caller that got the id from it meanwhile finds the same one.
    assert sorted(set(await world.redis.keys("*")) - {world.keys.idem(TENANT, "k").encode()}) == before
    await world.create()


async def test_the_webhook_of_a_deleted_generation_is_not_delivered_and_its_tombstone_has_nothing_of_it(
    world: World,
) -> None:
    stream_id, waiting = await delivered_over(world), await world.create(webhook=HOOK)
    (taken,) = await world.webhooks.take(1, lease_ms=LEASE_MS)
    for each in (stream_id, waiting):
        await world.generations.delete(each, tenant=TENANT, timeout_s=5)
    assert (await promised(world), await due(world)) == ([], [])
    assert await begin(world, stream_id, max_attempts=3) == 0
    await record(world, stream_id, WebhookState.DELIVERED, status=200)
    assert not await world.webhooks.settle(taken, WebhookSettled.RETRY)
    fields = await world.redis.hkeys(world.keys.meta(stream_id))
    assert not [field for field in fields if b"webhook" in field]


async def test_a_dead_letter_that_is_restarted_promises_its_webhook_anew(world: World) -> None:
    dead = await delivered_over(world, retention_s=7)
    repeated = GenerationRequest.from_meta(await world.generations.get(dead, tenant=TENANT))
    assert (repeated.retention_s, dict(repeated.webhook or {})["url"]) == (7, HOOK["url"])
    made = await world.generations.create(repeated, tenant=TENANT)
    assert await promised(world) == [made.id]


async def test_a_full_queue_takes_the_promise_back(connection: LogConnection) -> None:
    world = World(connection, max_queue=1)
    await world.create()
    with pytest.raises(QueueFull):
        await world.create(webhook=HOOK)
    assert await promised(world) == []


async def test_a_refused_create_with_a_key_leaves_the_promise_to_its_repetition(connection: LogConnection) -> None:
    world = World(connection, max_queue=1)
    await world.create()
    with pytest.raises(QueueFull):
        await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert len(await promised(world)) == 1


async def test_a_create_that_broke_off_promises_once_when_it_is_repeated(world: World) -> None:
    made = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    await world.redis.delete(world.keys.ready, world.keys.open, world.keys.webhooks_promised)
    for _ in range(2):
        repeated = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
        assert repeated.id == made.id
    assert await promised(world) == [made.id]


def test_the_webhook_belongs_to_the_body_and_its_absence_changes_no_hash() -> None:
    plain = GenerationRequest(model="m", request={"messages": []})
    assert plain.digest() == "3c26a895ccd92c062179d2a8bc90720d"
    assert len({plain.digest(), REQUEST.digest()}) == 2


async def test_without_webhooks_a_request_for_one_is_refused_before_anything_is_written(
    world: World,
) -> None:
    generations = Generations(
        world.connection,
        GenerationLives(open_ms=1000, live_ttl_ms=1000, retention_ms=1000, idempotency_ttl_ms=1000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )
    before = sorted(await world.redis.keys("*"))
    with pytest.raises(WebhookNotAllowed):
        await generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert sorted(await world.redis.keys("*")) == before


async def test_a_redis_that_came_back_empty_has_the_webhook_pending_anew(world: World) -> None:
    stream_id = await world.create(webhook=HOOK)
    claim = await world.claim(stream_id)
    async with world.appender() as appender:
        keeper = world.keeper(appender)
        writer = await world.writer(stream_id, claim, appender, keeper)
        await world.redis.flushall()
        assert await keeper.restore(writer)
        await writer.end([Finish()], deadline_s=30)
    await world.queue.settle(Job(world.keys.ready, "0-1", stream_id), Settled.DONE, has_webhook=True)
    assert await due(world) == [stream_id]
    meta = await world.generations.get(stream_id, tenant=TENANT)
    assert meta.webhook is not None
    assert meta.webhook.url == HOOK["url"]


async def test_an_end_on_a_full_redis_makes_the_webhook_due_all_the_same(world: World) -> None:
    stream_id = await finished(world)
    job = await only_job(world)
    await world.redis.config_set("maxmemory", 1)
    try:
        await world.queue.settle(job, Settled.DONE, has_webhook=True)
    finally:
        await world.redis.config_set("maxmemory", 0)
    assert (await promised(world), await due(world)) == ([], [stream_id])


async def test_taking_answers_with_the_end_of_the_lease_also_when_nothing_is_due(world: World) -> None:
    (until_ms,) = await SCRIPTS["webhook_take"].run(
        world.redis, [world.keys.webhooks_due, world.keys.webhooks_due_clock], 10, 1000
    )
    seconds, _ = await world.redis.time()
    assert abs(until_ms / 1000 - seconds - 1) < 2
    assert not await world.webhooks.settle(TakenWebhook("gen_x", until_ms), WebhookSettled.DONE)


async def test_the_terminal_of_a_generation_that_never_ran_is_what_is_delivered(world: World) -> None:
    stream_id = await world.create(webhook=HOOK)
    await world.claims.end(stream_id, terminals.QUEUE_TIMEOUT, may_take_over=True)
    await world.queue.close_open([stream_id], webhooks_of=[stream_id])
    (taken,) = await world.webhooks.take(1, lease_ms=LEASE_MS)
    meta = await world.generations.get(taken.generation_id, tenant=TENANT)
    assert (meta.status, meta.terminal) == ("failed", terminals.QUEUE_TIMEOUT)
