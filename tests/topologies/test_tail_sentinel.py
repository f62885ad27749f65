"""Live watches over a primary and its replica: nothing is lost on the way from one to the other."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.log.redis_sentinel import Sentinels
from tests.support.log.tail_world import PROMISED_S, until
from tests.support.log.topology_world import open_topology_world

FAILOVER_S = 60.0
WHOLE_S = 60.0


@pytest.mark.timeout(300)  # a failover and a return of up to a minute each
@pytest.mark.parametrize("fault", ["pause", "kill"])
async def test_a_watch_goes_on_over_a_failover_and_the_return_of_the_old_primary(
    sentinels: Sentinels, fault: str
) -> None:
    """A paused primary keeps its connections open and deaf; resumed, it does not know yet that it was replaced."""
    old = sentinels.primary
    async with open_topology_world(sentinels.url) as world:
        for _ in range(3):
            await world.start()
        await world.catch_up()

        old.pause() if fault == "pause" else old.kill()
        new = await asyncio.to_thread(sentinels.wait_failover, FAILOVER_S)
        now = (f"127.0.0.1:{new.port}",)
        await asyncio.gather(world.catch_up(), until(lambda: world.topology.nodes == now, within_s=PROMISED_S))

        if fault == "pause":
            old.resume()
            await asyncio.to_thread(sentinels.wait_whole, WHOLE_S)
            await world.catch_up()
            assert world.topology.nodes == now
        await world.finish()


async def test_sentinels_that_are_away_change_nothing(sentinels: Sentinels) -> None:
    async with open_topology_world(sentinels.url) as world:
        nodes = world.topology.nodes
        await world.start()
        for sentinel in sentinels.sentinels:
            sentinel.kill()
        world.topology.suspect()
        await world.catch_up()
        await world.finish()
        assert world.topology.nodes == nodes
