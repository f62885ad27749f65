"""One generation's whole life, and everything else the log does, behind Sentinels and on a cluster."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadcaster.core.batching import Code, StopRequest
from broadcaster.core.events import DataEvent, Finish, encode_event
from broadcaster.errors import TenantLimit
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.inspection.redis_facts import inspect
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.dead_letters import DeadLetters
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.queue import Settled
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.url import RedisKind
from broadcaster.log.streams.presence import Presence
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tenant_storage import TenantStorage
from tests.support.log.feed_writers import BOUNDS
from tests.support.log.log_world import TENANT, World, delta
from tests.topologies.log.appending import running

STREAMS = 30
HOOK: dict[str, Any] = {"url": "https://h.example/x", "events": ["finished"]}


async def test_generations_are_created_run_listed_and_deleted(connection: LogConnection) -> None:
    world = World(connection)
    reader = world.reader()
    assert await reader.take(1) == []

    ids = [await world.create() for _ in range(STREAMS)]
    jobs = [job for _ in range(3) for job in await reader.take(STREAMS)]
    assert {job.generation_id for job in jobs} == set(ids)
    assert {meta.id for meta in (await world.generations.lists.page(TENANT)).metas} == set(ids)
    assert await world.streams.owners([*ids, "gen_none"]) == [TENANT] * STREAMS + [None]
    claims = {each: await world.claim(each) for each in ids}
    assert {claim.outcome for claim in claims.values()} == {Outcome.GRANTED}
    await world.queue.keep(jobs, over=world.redis)
    for each, claim in claims.items():
        assert (await world.append(each, claim.epoch, 1, [delta("a"), delta("b")])).code is Code.APPENDED
        assert (await world.append(each, claim.epoch, 1, [delta("a"), delta("b")])).code is Code.DUPLICATE
        end = [encode_event(Finish(finish_reason="stop"))]
        assert (await world.append(each, claim.epoch, 3, end)).code is Code.APPENDED
    assert {tail.status for tail in await world.streams.tails(ids)} == {"finished"}
    for job in jobs:
        await world.queue.settle(job, Settled.DONE)
    for each in ids:
        await world.generations.delete(each, tenant=TENANT, timeout_s=5)
    assert (await world.generations.lists.page(TENANT)).metas == []
    assert await reader.take_own() == []
    await reader.aclose()


async def test_appends_of_many_streams_leave_together_and_leases_are_kept(connection: LogConnection) -> None:
    world = World(connection)
    ids = [await world.create() for _ in range(STREAMS)]

    async with running(connection, ids) as run:
        await run.appended(20)
        keys = [connection.keys.lease(each) for each in ids]
        assert all([await connection.redis.exists(key) for key in keys])


async def test_the_usual_append_is_the_cheap_one_on_every_primary_and_append_reports_a_stop(
    connection: LogConnection,
) -> None:
    world = World(connection)
    ids = [await world.create() for _ in range(STREAMS)]

    async with running(connection, ids) as run:
        primaries = list((await connection.primaries()).values())
        for primary in primaries:
            await primary.config_resetstat()
        await run.appended(5)
        for primary in primaries:
            stats = await primary.info("commandstats")
            assert stats["cmdstat_xlen"]["calls"] >= 5  # append_next
            assert "cmdstat_xrevrange" not in stats  # append
        stopped, *others = run.writers
        await connection.redis.hset(connection.keys.meta(stopped.stream_id), "stop", "stopped")
        await run.appended(5)
        assert stopped.stop_request is StopRequest.STOPPED
        assert not any(writer.stop_request for writer in others)


async def test_scripts_that_no_server_knows_any_more_are_reloaded(connection: LogConnection) -> None:
    world = World(connection)
    ids = [await world.create() for _ in range(6)]

    async with running(connection, ids) as run:
        for client in (await connection.primaries()).values():
            await client.script_flush()
        await run.appended(5)


async def test_one_key_starts_one_generation_however_many_race(connection: LogConnection) -> None:
    world = World(connection)
    request = GenerationRequest(
        model="m", request={"messages": []}, webhook={"url": "https://h.example/x", "events": []}
    )

    created = await asyncio.gather(
        *(world.generations.create(request, tenant=TENANT, idempotency_key="k") for _ in range(10))
    )

    assert len({each.id for each in created}) == 1
    assert sum(each.created for each in created) == 1


async def test_a_webhook_is_promised_and_due_when_its_generation_was_stopped(connection: LogConnection) -> None:
    world = World(connection)
    stream_id = await world.create(webhook=HOOK)
    await world.generations.stop(stream_id, tenant=TENANT)
    await world.queue.close_open([stream_id], webhooks_of=[])

    (taken,) = await world.webhooks.take(10, lease_ms=1000)
    assert taken.generation_id == stream_id


async def test_a_dead_letter_is_listed_and_requeued(connection: LogConnection) -> None:
    world = World(connection, max_attempts=1)
    await world.queue.create_group()
    stream_id = await world.die()
    letters = DeadLetters(connection, streams=world.streams, generations=world.generations)

    (letter,) = await letters.newest(10)
    created = await letters.requeue(letter)

    assert letter.generation_id == stream_id
    assert created.created
    assert await letters.newest(10) == []


async def test_feeds_are_opened_appended_renewed_and_closed(connection: LogConnection) -> None:
    world = World(connection)
    feeds = Feeds(connection, BOUNDS, streams=world.streams)

    for number in range(STREAMS):
        stream_id = f"job-{number}"
        await feeds.create(stream_id, FeedConfig(lease_s=30), tenant=TENANT)
        await feeds.append(stream_id, [delta("a"), delta("b")], tenant=TENANT, idempotency_key="once")
        await feeds.append(stream_id, [delta("a"), delta("b")], tenant=TENANT, idempotency_key="once")
        assert await world.seqs(stream_id) == [1, 2]


async def test_the_progress_of_feeds_is_read_wherever_they_are(connection: LogConnection) -> None:
    streams = Streams(connection)
    feeds = Feeds(connection, BOUNDS, streams=streams)
    ids = [f"job-{number}" for number in range(STREAMS)]
    for done, stream_id in enumerate(ids):
        await feeds.create(stream_id, FeedConfig(), tenant=TENANT)
        step = encode_event(DataEvent(type="data-progress", data={"done": done, "total": STREAMS}))
        await feeds.append(stream_id, [step, delta("a")], tenant=TENANT)
    found = await streams.listed_ends([*ids, "unknown"], with_progress=True)
    assert [end.progress and end.progress.done for end in found] == [*range(STREAMS), None]
    assert [end.last and end.last.seq for end in found] == [*[2] * STREAMS, None]


async def test_the_streams_of_a_tenant_are_counted_wherever_they_are(connection: LogConnection) -> None:
    storage = TenantStorage(connection, max_feeds=STREAMS)
    feeds = Feeds(connection, BOUNDS, streams=Streams(connection), storage=storage)

    for number in range(STREAMS):
        await feeds.create(f"job-{number}", FeedConfig(), tenant="acme")
        await feeds.append(f"job-{number}", [delta("a")], tenant="acme")
    assert (await storage.sums("acme")).feeds == STREAMS
    with pytest.raises(TenantLimit):
        await feeds.create("more", FeedConfig(), tenant="acme")
    for number in range(STREAMS):
        await feeds.delete(f"job-{number}", tenant="acme")
    assert (await storage.sums("acme")).feeds == 0


async def test_viewers_are_counted_over_front_ends(connection: LogConnection) -> None:
    ids = [f"gen_{number}" for number in range(STREAMS)]
    here, there = (Presence(connection, front_end=name, ttl_s=30) for name in ("a", "b"))

    await here.report(dict.fromkeys(ids, 2))
    await there.report(dict.fromkeys(ids, 1))

    assert await here.count(ids) == [3] * STREAMS


async def test_the_sweep_gives_a_job_to_what_waits_without_one(connection: LogConnection) -> None:
    world = World(connection)
    ids = [await world.create() for _ in range(STREAMS)]
    await connection.redis.delete(connection.keys.ready)
    await connection.redis.zadd(connection.keys.open, dict.fromkeys(ids, 0))
    sweeper = Sweeper(
        SweepTimes(60_000, 60_000, 1_800_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )

    await sweeper.sweep()

    assert await connection.redis.xlen(connection.keys.ready) == STREAMS


async def test_the_doctor_finds_every_primary_and_receives_a_push_through_each(connection: LogConnection) -> None:
    await World(connection).create()
    facts = await inspect(connection)

    assert facts.kind is connection.address.kind
    assert len(facts.primaries) == (3 if facts.kind is RedisKind.CLUSTER else 1)
    assert (facts.role, facts.replicas) == ("master", 1)
    assert (facts.script_fault, facts.push_fault) == (None, None)
    assert (facts.streams, facts.streams_are_all, facts.open_generations) == (1, True, 1)
