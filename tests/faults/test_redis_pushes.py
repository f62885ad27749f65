"""Pushes are lost and keys vanish under running answers: every hole is repaired from the log or written again.

Each fault is one of a list, caused in turn while three answers run under viewers of two front-ends.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from tests.faults.figures import Figures
from tests.faults.redis_relay import RedisRelay, open_relay
from tests.faults.redis_trouble import (
    REPAIR_S,
    Answer,
    begin,
    judge,
    mark,
    open_system,
    repaired,
    say_more,
    tellings,
    until,
)
from tests.faults.world import FaultWorld
from tests.support.valkey import ValkeyServer

BURST: Final = 400


async def test_lost_pushes_and_lost_keys_are_made_good_or_told(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    async with open_relay(server.url) as relay, open_system(tmp_path, relay) as world:
        for _ in range(rounds):
            for fault in (subscribers_killed, output_buffer_overrun, last_message_lost):
                answers = await begin(world, 3)
                await fault(world, relay, answers, figures)
                assert [each.talk.starts for each in answers] == [1] * 3
                assert "hub.gap" not in tellings(answers)
                await judge(world, figures, answers)
            for key in ("log", "meta", "lease"):
                answers = await begin(world, 3)
                await evicted(world, answers, key, figures)
                await judge(world, figures, answers)
            await trimmed(world, figures)


async def subscribers_killed(world: FaultWorld, relay: RedisRelay, answers: list[Answer], figures: Figures) -> None:
    killed = await world.connection.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert killed >= len(world.front_ends)
    await say_more(answers)
    figures.add("repair after pub/sub connections were killed", await repaired(answers), "s")


async def output_buffer_overrun(world: FaultWorld, relay: RedisRelay, answers: list[Answer], figures: Figures) -> None:
    """The server cuts subscribers whose socket does not take what it has for them."""
    redis = world.connection.redis
    before = await redis.config_get("client-output-buffer-limit")
    await redis.config_set("client-output-buffer-limit", "pubsub 1 1 0")
    answers[0].talk.words = BURST
    await say_more(answers, BURST)
    answers[0].talk.words = 1
    await redis.config_set("client-output-buffer-limit", before["client-output-buffer-limit"])
    figures.add("repair after a subscriber's output buffer overran", await repaired(answers), "s")


async def last_message_lost(world: FaultWorld, relay: RedisRelay, answers: list[Answer], figures: Figures) -> None:
    """Nothing follows it that would show the hole: only the tail check does."""
    lost_before = relay.pushes_lost
    relay.lose_pushes(b'"type":"finish"')
    began = time.monotonic()
    for each in answers:
        each.talk.finish()
    await until(lambda: all(viewer.is_over.is_set() for each in answers for viewer in each.viewers), 2 * REPAIR_S)
    took_s = time.monotonic() - began
    relay.lose_pushes(None)
    assert relay.pushes_lost - lost_before >= len(world.front_ends)
    assert took_s <= REPAIR_S
    figures.add("repair after a lost last message", took_s, "s")


async def evicted(world: FaultWorld, answers: list[Answer], key: str, figures: Figures) -> None:
    """One answer goes on, one is silent, one ends at once."""
    names = world.connection.keys
    name_of = {"log": names.log, "meta": names.meta, "lease": names.lease}[key]
    going_on, silent, ending = answers
    silent.talk.is_silent = True
    await world.connection.redis.delete(*(name_of(each.stream) for each in answers))
    began = time.monotonic()
    ending.talk.finish()
    await say_more(answers)
    await repaired(answers)
    async with asyncio.timeout(REPAIR_S):
        while not await world.connection.redis.exists(*(names.log(each.stream) for each in answers)) == len(answers):
            await asyncio.sleep(0.02)
        while not await world.connection.redis.exists(*(names.meta(each.stream) for each in answers)) == len(answers):
            await asyncio.sleep(0.02)
        while not await world.connection.redis.exists(names.lease(going_on.stream), names.lease(silent.stream)) == 2:
            await asyncio.sleep(0.02)
    figures.add(f"all there again after an evicted {key}", time.monotonic() - began, "s")
    assert [each.talk.starts for each in answers] == [1] * 3
    assert "hub.gap" not in tellings(answers)
    tenants = {await world.connection.redis.hget(names.meta(each.stream), "tenant") for each in answers}
    assert tenants == {b"local"}


async def trimmed(world: FaultWorld, figures: Figures) -> None:
    """Who has seen it goes on; who comes later is told what is gone."""
    answers = await begin(world, 1, said=20)
    (answer,) = answers
    await world.connection.redis.xtrim(world.connection.keys.log(answer.stream), maxlen=5, approximate=False)
    await say_more(answers)
    figures.add("repair after a trim", await repaired(answers), "s")
    assert "hub.gap" not in tellings(answers)
    extra = await world.front_end()
    late = world.view(answer.stream, 2)
    await until(lambda: all(viewer.entries for viewer in late))
    await judge(world, figures, answers)
    world.front_ends.remove(extra)
    world.urls.remove(extra.url)
    await extra.end()
