"""Redis comes back with what it was before a grant, or without a key of it: only a newer epoch means lost."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.core.batching import Code
from broadcaster.core.events import Finish, TextDelta
from broadcaster.errors import LogUnavailable, UnknownStream
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.jobs.lease import RENEWALS_PER_LEASE, LeaseKeeper
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams.appender import Appender
from tests.support.log.feed_writers import BOUNDS
from tests.support.log.log_world import LEASE_MS, TENANT, World, delta, until

pytestmark = pytest.mark.alone


def text(value: str) -> TextDelta:
    return TextDelta(id="0", delta=value)


@pytest.mark.parametrize("found_by", ["its renewal", "its next append", "its end"])
@pytest.mark.parametrize("snapshot", ["before the claim", "of an earlier attempt", "without its meta"])
async def test_a_grant_that_an_old_snapshot_does_not_know_is_restored_under_the_same_epoch(
    world: World, appender: Appender, keeper: LeaseKeeper, snapshot: str, found_by: str
) -> None:
    """What is older than the grant proves nothing: only a newer epoch means lost."""
    stream_id = await world.create()
    if snapshot == "of an earlier attempt":
        await world.claim(stream_id)
    old = await world.redis.dump(world.keys.meta(stream_id))
    await world.redis.delete(world.keys.lease(stream_id))
    claim = await world.claim(stream_id)
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([text("a"), text("b")])
    await until(lambda: writer.acked_seq == writer.last_seq)
    before = await world.streams.read(stream_id)
    await world.redis.flushall()
    if snapshot != "without its meta":
        await world.redis.restore(world.keys.meta(stream_id), 0, old)
    if found_by == "its renewal":
        await keeper.renew()
    elif found_by == "its next append":
        writer.write([text("c")])
    assert await writer.end([Finish()], deadline_s=30)
    entries = await world.streams.read(stream_id)
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.attempts, meta.tenant) == ("finished", claim.attempt, "local")
    if claim.attempt == 1:
        assert entries[: len(before)] == before
        assert {entry.epoch for entry in entries} == {claim.epoch}
    else:  # what the first attempt wrote is lost for ever: everything of the second, under a newer epoch
        assert [entry.event for entry in entries[1:3]] == [delta("a"), delta("b")]


@pytest.mark.parametrize("known_by", ["meta", "lease", "log"])
async def test_a_newer_epoch_means_lost_whichever_key_alone_knows_of_it(world: World, known_by: str) -> None:
    stream_id, claim = await world.granted()
    newer = claim.epoch + 10**6
    keys = world.keys.meta(stream_id), world.keys.lease(stream_id), world.keys.log(stream_id)
    await world.redis.delete(*keys)
    if known_by == "meta":
        await world.redis.hset(keys[0], "epoch", newer)
    elif known_by == "lease":
        await world.redis.set(keys[1], f"w2:{newer}", px=60_000)
    else:
        await world.redis.xadd(keys[2], {"e": delta("theirs"), "v": 1, "b": 0}, id=f"{newer}-1")
    before = [await world.redis.dump(key) for key in keys]
    mine = ("w1", claim.epoch, LEASE_MS, 60_000)
    code, *_ = await SCRIPTS["renew"].run(world.redis, [keys[1], keys[0], keys[2]], *mine)
    assert (code, await SCRIPTS["restore"].run(world.redis, keys, *mine, "epoch", claim.epoch)) == (-1, -1)
    assert [await world.redis.dump(key) for key in keys] == before


async def test_an_older_lease_that_came_back_does_not_cost_the_stream(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    """A failover lost the release of the first worker and the claim of the second."""
    stream_id, first = await world.granted()
    before = await world.redis.dump(world.keys.meta(stream_id))
    await world.claims.release(stream_id, epoch=first.epoch)
    other = World(world.connection, worker="w2")
    claim = await other.claim(stream_id)
    keeper = other.keeper(appender)
    writer = await other.writer(stream_id, claim, appender, keeper)
    await world.redis.restore(world.keys.meta(stream_id), 0, before, replace=True)
    await world.redis.set(world.keys.lease(stream_id), f"w1:{first.epoch}", px=60_000)
    await keeper.renew()
    assert await writer.end([Finish()], deadline_s=30)
    assert (await world.append(stream_id, first.epoch, 1, [delta("zombie")])).code is Code.FENCED


async def test_a_log_evicted_while_the_provider_is_silent_is_rewritten_at_the_next_renewal(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([text("a"), text("b")])
    await until(lambda: writer.acked_seq == 2)
    before = await world.streams.read(stream_id)
    await world.redis.delete(world.keys.log(stream_id))
    await keeper.renew()
    async with asyncio.timeout(20):
        while await world.streams.read(stream_id) != before:
            await asyncio.sleep(0.01)


async def test_a_buffer_is_let_go_before_its_log_expires(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    """Else the last check of it would bring back what had expired."""
    stream_id = await world.create(retention_s=0.4)
    writer = await world.writer(stream_id, await world.claim(stream_id), appender, keeper)
    assert await writer.end([Finish()], deadline_s=30)
    task = asyncio.create_task(keeper.run())
    keeper.drop(writer, keep_s=0.6)
    log = world.keys.log(stream_id)
    async with asyncio.timeout(20):
        while await world.redis.exists(log):
            await asyncio.sleep(0.02)
    checks_s = 3 * LEASE_MS / 1000 / RENEWALS_PER_LEASE
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.6 + checks_s):
            while not await world.redis.exists(log):
                await asyncio.sleep(0.02)
    task.cancel()


@pytest.mark.parametrize("kind", ["generations", "feeds"])
async def test_nothing_is_unknown_for_sure_until_redis_has_answered_for_one_lease_after_a_break(
    world: World, kind: str
) -> None:
    """A viewer that receives "unknown" never comes back, and a worker may be rewriting its stream right now."""
    feeds = Feeds(world.connection, BOUNDS, streams=world.streams, steadiness=world.steadiness)
    get = {"generations": world.generations.get, "feeds": feeds.get}[kind]
    with pytest.raises(UnknownStream):  # no break was seen
        await get("gen_lost", tenant=TENANT)
    task = asyncio.create_task(world.steadiness.run())
    await until(world.steadiness.answering.is_set)
    await world.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(LogUnavailable):
        await get("gen_lost", tenant=TENANT)
    await until(lambda: world.steadiness.is_steady)
    with pytest.raises(UnknownStream):
        await get("gen_lost", tenant=TENANT)
    task.cancel()
