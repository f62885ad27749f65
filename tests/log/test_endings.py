"""Ending a generation that nobody runs: what had a lease when it was looked at is somebody's."""

from __future__ import annotations

from broadcaster.log import terminals
from broadcaster.log.claims import Outcome
from broadcaster.log.connect import LogConnection
from broadcaster.log.endings import Endings
from tests.support.log_world import World


async def test_a_lease_that_lapsed_since_the_look_ends_nothing(connection: LogConnection) -> None:
    world = World(connection)
    endings = Endings(world.claims, world.streams)
    stream_id, _ = await world.granted()
    (tail,) = await world.streams.tails([stream_id])
    await world.lapse(stream_id)

    early = await endings.end(stream_id, terminals.NO_WORKER, tail=tail, may_take_over=True)
    (tail,) = await world.streams.tails([stream_id])
    late = await endings.end(stream_id, terminals.NO_WORKER, tail=tail, may_take_over=True)

    assert (early.outcome, late.outcome) == (Outcome.LAPSED, Outcome.ENDED)
