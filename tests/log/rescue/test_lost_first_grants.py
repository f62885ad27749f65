"""Redis comes back from before a first grant, and its worker is gone: the next one voids what viewers may have seen."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from broadcaster.core.entry import Entry
from broadcaster.core.events import (
    Finish,
    FinishStep,
    KnownEvent,
    Start,
    StartStep,
    TextDelta,
    TextEnd,
    TextStart,
    encode_event,
)
from broadcaster.dialects.openai_responses.encode import ResponsesDialect
from broadcaster.log.jobs.claims import Claim, Outcome
from broadcaster.log.redis.connect import LogConnection
from tests.dialects.openai_responses.responses_reading import raw_events
from tests.support.log.log_world import World

LOST = b'{"type":"attempt","attempt":1,"reason":"log_lost"}'
BREAK_S = 0.001
"""For how long Redis has answered since its break, which is later than any creation here."""


def answer(*words: str) -> list[bytes]:
    events: list[KnownEvent] = [Start(), StartStep(), TextStart(id="0"), *(TextDelta(id="0", delta=w) for w in words)]
    return [encode_event(each) for each in events]


ENDS: list[KnownEvent] = [TextEnd(id="0"), FinishStep(finish_reason="stop"), Finish(finish_reason="stop")]
END = [encode_event(each) for each in ENDS]


@pytest.fixture
def world(connection: LogConnection) -> World:
    return World(connection, has_rescue=True)


async def begun(world: World, stream_id: str) -> list[Entry]:
    """A worker claims it and writes."""
    claim = await world.claim(stream_id)
    await world.append(stream_id, claim.epoch, 1, answer("old ", "older "))
    return await world.streams.read(stream_id)


async def claim_after_break(world: World, stream_id: str) -> Claim:
    """Another worker takes it over, once Redis has answered it for one lease."""
    other = World(world.connection, worker="w2")
    await asyncio.sleep(2 * BREAK_S)
    held_off = await other.claims.claim(stream_id, may_take_over=False, answered_s=BREAK_S)
    assert held_off.outcome is Outcome.LAPSED
    return await other.claims.claim(stream_id, may_take_over=True, answered_s=BREAK_S)


async def numbers_after(world: World, stream_id: str, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The Response events of these entries, as any front-end numbers them."""
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    dialect = ResponsesDialect(echo=f'{{"background":true,"created_at":{meta.created_ms // 1000}}}')
    return list(raw_events(dialect.open(stream_id).encode(entries)))


@pytest.mark.parametrize("known_by", ["a snapshot of Redis", "the front-end that accepted it"])
async def test_the_events_that_replace_those_of_a_lost_first_grant_have_higher_numbers(
    world: World, known_by: str
) -> None:
    """A client that resumes with ``starting_after`` receives all of the new answer."""
    stream_id = await world.create()
    snapshot = {key: await world.redis.dump(key) for key in await world.redis.keys("*")}
    seen = await numbers_after(world, stream_id, await begun(world, stream_id))
    await world.redis.flushall()
    if known_by == "a snapshot of Redis":
        for key, value in snapshot.items():
            await world.redis.restore(key, 0, value)
    else:
        assert world.rescue is not None
        held = world.rescue.accepted
        held.hold(replace(held.retained[stream_id], at=asyncio.get_running_loop().time() - 1))
        await held.check(is_after_break=True)

    claim = await claim_after_break(world, stream_id)
    await world.append(stream_id, claim.epoch, claim.last_seq + 1, answer("new ") + END)

    entries = await world.streams.read(stream_id)
    assert (claim.attempt, entries[0].event) == (1, LOST)
    replaced = await numbers_after(world, stream_id, entries)
    assert replaced[0]["sequence_number"] > seen[-1]["sequence_number"]
    assert [each["delta"] for each in replaced if each["type"] == "response.output_text.delta"] == ["new "]


async def test_a_generation_that_merely_waited_begins_with_its_first_grant(world: World) -> None:
    """No break since its creation, or none that this process has seen."""
    for answered_s in (math.inf, 60.0):
        stream_id = await world.create()
        claim = await world.claims.claim(stream_id, may_take_over=True, answered_s=answered_s)
        assert (claim.outcome, claim.last_seq) == (Outcome.GRANTED, 0)
        assert await world.streams.read(stream_id) == []


async def test_the_attempt_that_followed_a_lost_first_grant_is_rebased_when_redis_loses_it_too(
    world: World,
) -> None:
    stream_id = await world.create()
    claim = await claim_after_break(world, stream_id)
    await world.redis.delete(world.keys.log(stream_id))
    other = World(world.connection, worker="w2")
    rebased = await other.claims.rebase(stream_id, epoch=claim.epoch)
    assert (rebased.outcome, rebased.attempt, rebased.last_seq) == (Outcome.GRANTED, 1, 1)
    assert rebased.epoch > claim.epoch
