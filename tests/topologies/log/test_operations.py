"""What an operator sees behind Sentinels and on a cluster: every list, and every primary."""

from __future__ import annotations

from broadcaster.log.inspection.operations import Operations
from broadcaster.log.inspection.worker_reports import WorkerReport, WorkerReports
from broadcaster.log.jobs.dead_letters import DeadLetters
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.url import RedisKind
from tests.support.log.log_world import TENANT, World


async def test_every_list_and_every_primary_is_read(connection: LogConnection) -> None:
    world = World(connection, max_attempts=1)
    await world.queue.create_group()
    letters = DeadLetters(connection, streams=world.streams, generations=world.generations)
    operations = Operations(connection, streams=world.streams, dead_letters=letters, steadiness=world.steadiness)
    dead, waiting = await world.die(), await world.create()
    report = WorkerReport(uptime_s=1, slots=2, free=2, running=0, is_draining=False, attempts=[])
    await WorkerReports(connection).put("w1", report, keep_ms=60_000)
    (seconds, _) = await _clock(world)
    await world.redis.zadd(world.keys.workers, {"w1": (seconds + 60) * 1000})

    (worker,) = (await operations.workers(limit=10, after="")).workers
    assert (worker.id, worker.is_alive, worker.report) == ("w1", True, report)
    queue = await operations.queue(limit=10, after=None)
    assert (queue.waiting, queue.dead, [each.tenant for each in queue.tenants]) == (1, 1, [TENANT])
    states = await operations.servers()
    assert states.primaries == len(states.servers) == (3 if connection.address.kind is RedisKind.CLUSTER else 1)
    assert all(each.fault is None and each.facts["used_bytes"] and each.round_trip_ms for each in states.servers)
    assert (await operations.generation(waiting)).status == "queued"
    (letter,) = (await operations.dead_letters(limit=10, before=None)).letters
    assert letter.generation_id == dead
    assert (await operations.requeue(letter.entry_ids[0]))[1].created


async def _clock(world: World) -> tuple[int, int]:
    """The clock of the queue's server."""
    pipeline = world.connection.pipeline()
    pipeline.clock(world.keys.workers)
    await pipeline.execute()
    return divmod(pipeline.now_ms(world.keys.workers), 1000)
