"""Ending a generation without a worker: one that had a lease when it was checked has a worker."""

from __future__ import annotations

from broadcaster.core.events import Event, TextDelta, Usage, decode_event, encode_event
from broadcaster.core.providers.metering import estimated_request_tokens
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.endings import Endings
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from tests.support.log.log_world import World


async def test_a_lease_that_lapsed_since_the_check_ends_nothing(connection: LogConnection) -> None:
    world = World(connection)
    endings = Endings(world.claims, world.streams)
    stream_id, _ = await world.granted()
    (tail,) = await world.streams.tails([stream_id])
    await world.lapse(stream_id)

    early = await endings.end(stream_id, terminals.NO_WORKER, tail=tail, may_take_over=True)
    (tail,) = await world.streams.tails([stream_id])
    late = await endings.end(stream_id, terminals.NO_WORKER, tail=tail, may_take_over=True)

    assert (early.outcome, late.outcome) == (Outcome.LAPSED, Outcome.ENDED)


async def test_the_text_of_a_later_step_is_added_to_the_counts_of_the_earlier_steps(connection: LogConnection) -> None:
    world = World(connection)
    stream_id, claim = await world.granted()
    expected: list[Event] = [
        TextDelta(id="0", delta="x" * 400),
        Usage(input_tokens=9, output_tokens=90),
        TextDelta(id="0", delta="x" * 8),
    ]
    endings = Endings(world.claims, world.streams)
    await world.append(stream_id, claim.epoch, 1, [encode_event(event) for event in expected[:2]])
    assert await endings.usage(stream_id) == b""
    await world.append(stream_id, claim.epoch, 3, [encode_event(expected[2])])
    estimate = decode_event(await endings.usage(stream_id))
    assert estimate == Usage(input_tokens=9, output_tokens=92, estimated=True)


async def test_an_input_that_no_entry_has_is_estimated_from_the_request(connection: LogConnection) -> None:
    world = World(connection)
    messages = [{"role": "user", "content": "x" * 4000}]
    claimed = await world.create(request={"messages": messages, "max_tokens": 64, "metadata": {"note": "x" * 4000}})
    claim = await world.claim(claimed)
    await world.append(claimed, claim.epoch, 1, [encode_event(TextDelta(id="0", delta="x" * 8))])
    estimate = decode_event(await Endings(world.claims, world.streams).usage(claimed))
    assert estimate == Usage(input_tokens=estimated_request_tokens(messages), output_tokens=2, estimated=True)
