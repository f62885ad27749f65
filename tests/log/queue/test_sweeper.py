"""The sweep forgets no open generation, and leaves none open without a worker (docs/protocol.md §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError, RedisError, TryAgainError
from structlog.testing import capture_logs

from broadcaster.core.events import Finish, TextDelta, encode_event
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.claims import Claim, Claims, Outcome
from broadcaster.log.jobs.queue import GROUP, OPEN_PAGE
from broadcaster.log.jobs.sweeper import JOBLESS_MS, Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams import terminals
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from broadcaster.log.streams.writer import WriterEnd
from tests.support.log.log_world import TENANT, World, until


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


def sweeper(world: World, *, queue_timeout_ms: int = 60_000, stall_timeout_ms: int = 60_000) -> Sweeper:
    return Sweeper(
        SweepTimes(queue_timeout_ms, stall_timeout_ms, 60_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )


async def steady(world: World) -> asyncio.Task[None]:
    task = asyncio.create_task(world.steadiness.run())
    await until(lambda: world.steadiness.is_steady)
    return task


async def sweep_steadily(world: World, sweeper: Sweeper) -> None:
    """Sweep while Redis is steady: after a hiccup of the machine, which is a break, a sweep ends nothing."""
    while True:
        await until(lambda: world.steadiness.is_steady)
        breaks = world.steadiness.breaks
        await sweeper.sweep()
        if world.steadiness.breaks == breaks:
            return


async def age_job(world: World, stream_id: str) -> None:
    """Take the generation's job away and date it beyond the sweep's patience."""
    await world.redis.xtrim(world.keys.ready, maxlen=0)
    seconds, _ = await world.redis.time()
    await world.redis.zadd(world.keys.open, {stream_id: seconds * 1000 - JOBLESS_MS - 1000})


async def test_a_generation_briefly_without_a_job_is_left_to_the_process_that_is_about_to_queue_it(
    world: World,
) -> None:
    await world.create()
    await world.redis.xtrim(world.keys.ready, maxlen=0)
    await sweeper(world).sweep()
    assert await world.redis.xlen(world.keys.ready) == 0


async def test_a_generation_that_a_worker_runs_is_given_no_second_job(world: World) -> None:
    stream_id, _ = await world.granted()
    await age_job(world, stream_id)
    await sweeper(world).sweep()
    assert await world.redis.xlen(world.keys.ready) == 0


async def test_a_waiting_generation_without_a_job_is_given_one(world: World) -> None:
    stream_id = await world.create()
    await age_job(world, stream_id)
    await sweeper(world).sweep()
    assert await world.redis.xlen(world.keys.ready) == 1


async def test_a_backlog_is_left_alone(world: World) -> None:
    stream_id = await world.create()
    entry = (await world.redis.xrange(world.keys.ready))[0][0].decode()
    assert int(entry.split("-")[0]) == await world.redis.zscore(world.keys.open, stream_id)
    task = await steady(world)
    await sweeper(world).sweep()
    assert await world.redis.xlen(world.keys.ready) == 1
    assert await world.seqs(stream_id) == []
    task.cancel()


async def test_an_ended_generation_leaves_the_open_index(world: World) -> None:
    stream_id = await world.create()
    await world.generations.stop(stream_id, tenant=TENANT)
    await world.redis.zadd(world.keys.open, {"gen_forgotten": 1})
    await sweeper(world).sweep()
    assert await world.queue.newest_open(10) == []


class RepeatedCreate(Steadiness):
    """A client repeats a create while a sweep, which has read its page, waits for a probe."""

    repeat: Callable[[], Awaitable[str]]

    async def confirm(self) -> None:
        await self.repeat()


async def test_a_job_that_is_given_while_a_sweep_finds_no_generation_stays(connection: LogConnection) -> None:
    """The queue was full when the client sent the create first: only its announcement was left."""
    world = World(connection, create_id=lambda: "gen_repeated")
    await world.queue.create_group()
    await world.redis.zadd(world.keys.open, {"gen_repeated": 1})
    world.steadiness = steadiness = RepeatedCreate(connection, lease_ttl_s=60)
    steadiness.repeat = world.create
    await sweeper(world).sweep()
    assert await world.queue.newest_open(10) == ["gen_repeated"]
    assert await world.redis.xlen(world.keys.ready) == 1


async def test_a_generation_that_exceeds_its_time_limit_is_ended_when_no_worker_runs_it(world: World) -> None:
    waiting, running = (await world.granted())[0], (await world.granted())[0]
    for stream_id in (waiting, running):
        await world.redis.hset(world.keys.meta(stream_id), "started_ms", 1)
    await world.lapse(waiting)
    await world.redis.persist(world.keys.lease(running))
    task = await steady(world)
    await sweep_steadily(world, sweeper(world))
    assert await world.texts(waiting) == [terminals.GENERATION_TIMEOUT]
    assert await world.texts(running) == []  # its worker sees to it
    task.cancel()


async def test_all_pages_of_a_stall_are_ended_in_one_turn(connection: LogConnection) -> None:
    # A turn longer than a lease is a pause, and a pause of this process is a break: on a busy machine, both do.
    world = World(connection, lease_ms=60_000, max_queue=2 * OPEN_PAGE)
    world.steadiness = AlwaysSteady(connection, lease_ttl_s=60)
    ids = [await world.create() for _ in range(OPEN_PAGE + 20)]
    sweep = sweeper(world, stall_timeout_ms=0)
    while not await world.seqs(ids[0]):
        await sweep.turn()  # the first ones only see since when
    assert [each for each in ids if not await world.seqs(each)] == []


class AlwaysSteady(Steadiness):
    """Redis as a process sees it that was never late: for tests of what else a sweep does."""

    @property
    def is_steady(self) -> bool:
        return True


class RevivedBetween(Streams):
    """Reads of a sweep, between whose check of the lease and its end ``then`` happens."""

    def __init__(self, connection: LogConnection, then: Callable[[], Awaitable[object]]) -> None:
        super().__init__(connection)
        self._then = then

    async def each_tail(self, stream_ids: Sequence[str]) -> list[Tail | LogUnavailable]:
        seen = await super().each_tail(stream_ids)
        await self._then()
        return seen


class Sharded(Streams):
    """Streams of several servers, by the first letter after ``gen_``."""

    def server_of(self, stream_id: str) -> str:
        return stream_id.removeprefix("gen_")[0]


class Failing(Claims):
    """Claims that cannot be made where ``cause`` is the matter with the server."""

    def __init__(self, world: World, *, server: str, cause: RedisError) -> None:
        super().__init__(world.connection, world.policy, owner="w")
        self._failing = server
        self._cause = cause
        self.requested: list[str] = []

    async def end(self, stream_id: str, *args: Any, **options: Any) -> Claim:
        self.requested.append(stream_id)
        if stream_id.startswith(f"gen_{self._failing}"):
            raise LogUnavailable("not now") from self._cause
        return await super().end(stream_id, *args, **options)


@pytest.mark.parametrize(("cause", "requested"), [(ConnectionError("gone"), 1), (TryAgainError("TRYAGAIN"), 2)])
async def test_a_server_that_does_not_answer_keeps_no_other_servers_generations_from_being_ended(
    world: World, cause: RedisError, requested: int
) -> None:
    """And a server that does not answer is called, and waited for, only once, not for each of its streams."""
    names = iter(["gen_a1", "gen_a2", "gen_b1"])
    world = World(world.connection, create_id=lambda: next(names))
    ids = [await world.create() for _ in range(3)]
    for each in ids:
        await world.redis.hset(world.keys.meta(each), "stop", "stopped")
    task = await steady(world)
    claims = Failing(world, server="a", cause=cause)
    sweep = Sweeper(
        SweepTimes(60_000, 60_000, 60_000),
        queue=world.queue,
        claims=claims,
        streams=Sharded(world.connection),
        steadiness=world.steadiness,
    )
    with capture_logs() as logged:
        assert await sweep.sweep() == 1
    assert [each.startswith("gen_a") for each in claims.requested].count(True) == requested
    assert [await world.seqs(each) for each in ids] == [[], [], [1]]
    assert {"event": "sweep_partly", "log_level": "warning", "left": 2} in logged
    task.cancel()


async def test_a_worker_that_comes_back_between_the_sweeps_check_and_its_end_is_left_alone(world: World) -> None:
    async with world.appender() as appender:
        keeper = world.keeper(appender)
        stream_id, claim = await world.granted()
        writer = await world.writer(stream_id, claim, appender, keeper)
        await world.lapse(stream_id)
        await world.redis.hset(world.keys.meta(stream_id), "stop", "stopped")
        task = await steady(world)
        sweep = sweeper(world)
        sweep.streams = RevivedBetween(world.connection, keeper.renew)
        await sweep.sweep()
        assert await world.seqs(stream_id) == []
        assert not writer.over.is_set()
        assert writer.stop_requested.is_set()  # it will end it itself
        task.cancel()


async def test_a_worker_that_comes_back_after_the_sweeps_end_finds_itself_fenced_and_adds_nothing(world: World) -> None:
    async with world.appender() as appender:
        keeper = world.keeper(appender)
        stream_id, claim = await world.granted()
        writer = await world.writer(stream_id, claim, appender, keeper)
        await world.lapse(stream_id)
        await world.redis.hset(world.keys.meta(stream_id), "stop", "stopped")
        task = await steady(world)
        await sweep_steadily(world, sweeper(world))
        writer.write([TextDelta(id="0", delta="zombie")])
        await until(writer.over.is_set)
        await keeper.renew()
        assert writer.end_reason is WriterEnd.FENCED
        assert await world.texts(stream_id) == [terminals.STOPPED]
        assert await world.redis.exists(world.keys.lease(stream_id)) == 0
        task.cancel()


async def test_a_generation_that_turns_out_to_be_over_leaves_the_open_index_and_the_turn_ends(world: World) -> None:
    """A log that is closed counts against a meta that is not: nothing is left to end, or to recheck."""
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [encode_event(Finish())])
    await world.redis.hset(world.keys.meta(stream_id), mapping={"status": "running", "stop": "stopped"})
    task = await steady(world)
    async with asyncio.timeout(20):
        await sweeper(world).turn()
    assert await world.queue.newest_open(10) == []
    assert await world.redis.exists(world.keys.dead) == 0
    task.cancel()


async def test_a_generation_that_spends_its_attempts_between_the_sweeps_check_and_its_end_becomes_a_dead_letter(
    connection: LogConnection,
) -> None:
    world = World(connection, max_attempts=1)
    stream_id, _ = await world.granted()
    await world.lapse(stream_id)
    await world.redis.hset(world.keys.meta(stream_id), "started_ms", 1)
    task = await steady(world)
    sweep = sweeper(world)
    sweep.streams = RevivedBetween(connection, lambda: world.claim(stream_id))
    await sweep_steadily(world, sweep)
    assert await world.queue.newest_open(10) == []
    ((_, fields),) = await world.redis.xrange(world.keys.dead)
    assert fields == {b"id": stream_id.encode(), b"reason": b"attempts_spent"}
    task.cancel()


async def test_with_no_worker_alive_for_the_stall_timeout_open_generations_end_in_the_log(world: World) -> None:
    stream_id, _ = await world.granted()
    await world.redis.delete(world.keys.lease(stream_id))
    sweep = sweeper(world, stall_timeout_ms=100)
    await sweep.sweep()
    assert await world.seqs(stream_id) == []  # not before Redis was seen steady for a lease
    task = await steady(world)
    async with asyncio.timeout(20):
        while not await world.seqs(stream_id):
            await sweep.sweep()
    assert await world.texts(stream_id) == [terminals.NO_WORKER]
    task.cancel()


@pytest.mark.parametrize("has_work", [True, False], ids=["a heartbeat is newer", "nothing was open meanwhile"])
async def test_a_worker_that_came_and_went_since_the_last_check_begins_the_stall_timeout_anew(
    world: World, has_work: bool
) -> None:
    task, loop = await steady(world), asyncio.get_running_loop()
    first = await world.create()
    sweep, began = sweeper(world, stall_timeout_ms=1500), loop.time()
    await sweep.sweep()
    if not has_work:
        await world.generations.delete(first, tenant=TENANT, timeout_s=5)
    while loop.time() - began <= 1.5:
        await sweep.sweep()
        await asyncio.sleep(0.05)
        if loop.time() - began > 1.25 and has_work:
            seconds, micros = await world.redis.time()
            await world.redis.zadd(world.keys.workers, {"elsewhere": seconds * 1000 + micros // 1000})
            has_work = False
    stream_id = await world.create()
    await sweep.sweep()
    assert await world.seqs(stream_id) == []
    task.cancel()


async def test_a_living_worker_anywhere_means_a_backlog_and_not_a_stall(world: World) -> None:
    stream_id = await world.create()
    task = await steady(world)
    seconds, _ = await world.redis.time()
    await world.redis.zadd(world.keys.workers, {"elsewhere": seconds * 1000 + 60_000})
    sweep = sweeper(world, stall_timeout_ms=0)
    await sweep.sweep()
    await sweep.sweep()
    assert await world.seqs(stream_id) == []
    task.cancel()


async def test_a_stop_that_no_worker_carried_out_is_carried_out_by_the_sweep(world: World) -> None:
    stream_id, _ = await world.granted()
    await world.generations.stop(stream_id, tenant=TENANT)
    assert await world.seqs(stream_id) == []  # its worker has it still
    await world.redis.delete(world.keys.lease(stream_id))
    await sweeper(world).sweep()
    assert await world.seqs(stream_id) == []  # its worker may live: Redis was not seen steady for a lease
    task = await steady(world)
    await sweep_steadily(world, sweeper(world))
    assert await world.texts(stream_id) == [terminals.STOPPED]
    task.cancel()


async def test_a_generation_that_was_begun_and_handed_back_does_not_end_with_queue_timeout(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.claims.release(stream_id, epoch=claim.epoch)
    await world.redis.hset(world.keys.meta(stream_id), "created_ms", 1)
    task = await steady(world)
    await sweeper(world).sweep()
    assert await world.texts(stream_id) == []
    assert (await world.claim(stream_id)).outcome is Outcome.GRANTED
    task.cancel()


async def test_a_generation_never_begun_ends_with_queue_timeout(world: World) -> None:
    stream_id = await world.create()
    await world.redis.hset(world.keys.meta(stream_id), "created_ms", 1)
    task = await steady(world)
    await sweep_steadily(world, sweeper(world))
    assert await world.texts(stream_id) == [terminals.QUEUE_TIMEOUT]
    task.cancel()


async def test_a_sweeper_removes_consumers_of_ended_workers_once_in_a_while(world: World) -> None:
    times = SweepTimes(60_000, 60_000, 60_000, consumer_silent_ms=0)
    own = Sweeper(times, queue=world.queue, claims=world.claims, streams=world.streams, steadiness=world.steadiness)
    keys = (world.keys.ready, world.keys.ready_hi)
    for key in keys:
        await world.redis.xgroup_createconsumer(key, GROUP, "ended")
        async with asyncio.timeout(20):
            while (await world.redis.xinfo_consumers(key, GROUP))[0]["idle"] == 0:
                await asyncio.sleep(0.001)
    await world.redis.config_resetstat()
    sweeping = asyncio.create_task(own.run(every_s=0.002))
    async with asyncio.timeout(20):
        while (await calls(world, "zrange")) < 5:  # pages of the open index: turns of the sweep
            await asyncio.sleep(0.005)
    sweeping.cancel()
    await asyncio.wait({sweeping})
    assert [await world.redis.xinfo_consumers(key, GROUP) for key in keys] == [[], []]
    assert await calls(world, "xgroup|delconsumer") == 2
    assert await calls(world, "xinfo|consumers") == 2 + 2  # one read of each stream, and this test's


async def calls(world: World, command: str) -> int:
    stats = await world.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))
