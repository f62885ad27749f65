"""The depths of the queue, as metrics have them."""

from __future__ import annotations

from broadcaster.log.jobs.queue import Settled
from broadcaster.log.jobs.queue_depth import QueueDepth
from broadcaster.log.redis.connect import LogConnection
from broadcaster.observability.limits import REACHED
from tests.support.log.log_world import World


async def test_generations_are_counted_where_they_are(connection: LogConnection) -> None:
    world, depth = World(connection), QueueDepth(connection)
    await world.queue.create_group()
    await depth.read()
    assert set(depth.depths.values()) == {0}
    for _ in range(4):
        await world.create()
    reader = world.reader()
    running, dead = await reader.take(2)
    await world.queue.settle(dead, Settled.DEAD, reason="attempts_spent")
    await depth.read()
    assert dict(depth.depths) == {
        "waiting": 2,
        "delivered": 1,
        "dead": 1,
        "open": 3,
        "delayed": 0,
        "webhooks_due": 0,
    }
    assert {reading.labels: reading.value for reading in depth.readings()}["delivered",] == 1
    assert running.generation_id
    await reader.aclose()


async def test_a_tenant_that_waits_because_of_its_running_ones_reaches_its_limit(connection: LogConnection) -> None:
    world = World(connection, tenant_running=1)
    await world.queue.create_group()
    for _ in range(3):
        await world.create()
    depth, reader, before = QueueDepth(connection, tenant_running=1), world.reader(), REACHED["TENANT_RUNNING"]
    await depth.read()
    assert REACHED["TENANT_RUNNING"] == before  # it may still begin
    assert len(await reader.take(3)) == 1
    await depth.read()
    assert REACHED["TENANT_RUNNING"] == before + 1
    await reader.aclose()
