"""Pushes are lost and keys vanish under running answers: every hole is repaired from the log or rewritten.

Each fault is one of a list, caused in turn while three answers run under viewers of two front-ends.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import pytest

from broadcaster.log.redis.scripts import SCRIPTS
from tests.faults.figures import Figures
from tests.faults.redis.redis_trouble import (
    REPAIR_S,
    Answer,
    begin,
    gaps,
    judge,
    open_system,
    repaired,
    send_more,
    until,
    until_so,
)
from tests.faults.world import FaultWorld
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.redis_relay import RedisRelay, open_redis_relay

BURST: Final = 400


@pytest.mark.second_engine
async def test_lost_pushes_and_lost_keys_are_repaired_or_reported(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    async with open_redis_relay(server.url) as relay, open_system(tmp_path, relay) as world:
        for _ in range(rounds):
            for fault in (subscribers_killed, output_buffer_overrun, last_message_lost):
                answers = await begin(world, 3)
                await fault(world, relay, answers, figures)
                assert [each.talk.starts for each in answers] == [1] * 3
                assert gaps(answers) == []
                await judge(world, figures, answers)
            for key in ("log", "meta", "lease"):
                answers = await begin(world, 3)
                await evicted(world, answers, key, figures)
                await judge(world, figures, answers)
            await trimmed(world, figures)


async def test_viewers_get_all_of_a_log_anew_when_the_attempt_that_began_it_is_lost(
    tmp_path: Path, server: ValkeyServer, figures: Figures
) -> None:
    """Redis breaks between the request and its claim, so the log begins with an `attempt`; then the log is lost."""
    async with open_redis_relay(server.url) as relay, open_system(tmp_path, relay) as world:
        relay.hold_at(SCRIPTS["claim"].sha.encode())
        async with asyncio.TaskGroup() as group:
            beginning = group.create_task(begin(world, 1))
            await relay.held.wait()
            await world.connection.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            relay.resume()
        answers = beginning.result()
        assert answers[0].begins_with_attempt
        await world.connection.redis.delete(world.connection.keys.log(answers[0].stream))
        await send_more(answers)
        await repaired(answers)
        assert len(gaps(answers)) > 0
        assert gaps(answers, is_log_lost=True) == []
        assert answers[0].talk.starts == 1
        await judge(world, figures, answers)


async def subscribers_killed(world: FaultWorld, relay: RedisRelay, answers: list[Answer], figures: Figures) -> None:
    killed = await world.connection.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert killed >= len(world.front_ends)
    await send_more(answers)
    figures.add("repair after pub/sub connections were killed", await repaired(answers), "s")


async def output_buffer_overrun(world: FaultWorld, relay: RedisRelay, answers: list[Answer], figures: Figures) -> None:
    """The server cuts every subscriber that has not taken at once what it has for it."""
    redis = world.connection.redis
    subscribers = await subscriber_ids(world)
    limit = str((await redis.config_get("client-output-buffer-limit"))["client-output-buffer-limit"])
    await redis.config_set("client-output-buffer-limit", "pubsub 1 1 0")
    answers[0].talk.burst = BURST
    await send_more(answers[:1], BURST)

    async def are_replaced() -> bool:
        return not subscribers & await subscriber_ids(world)

    await until_so(are_replaced, REPAIR_S)
    await redis.config_set("client-output-buffer-limit", limit)
    figures.add("repair after a subscriber's output buffer overran", await repaired(answers), "s")


async def subscriber_ids(world: FaultWorld) -> set[bytes]:
    clients = await world.connection.redis.execute_command("CLIENT", "LIST", "TYPE", "pubsub")
    listed = clients if isinstance(clients, list) else []
    return {each["id"] for each in listed}


async def last_message_lost(world: FaultWorld, relay: RedisRelay, answers: list[Answer], figures: Figures) -> None:
    """Nothing follows it that would show the hole: only the tail check does."""
    redis, live_of = world.connection.redis, world.connection.keys.live

    async def is_pushed() -> bool:
        """A front-end that is still connecting anew would read the end from the log."""
        counts = [await redis.pubsub_shardnumsub(live_of(each.stream)) for each in answers]
        return all(count > 0 for ((_, count),) in counts)

    await until_so(is_pushed, REPAIR_S)
    lost_before = relay.pushes_lost
    relay.lose_pushes(b'"type":"finish"')
    began = time.monotonic()
    for each in answers:
        each.talk.finish()
    await until(lambda: all(viewer.is_over.is_set() for each in answers for viewer in each.viewers), 2 * REPAIR_S)
    took_s = time.monotonic() - began
    relay.lose_pushes(None)
    assert relay.pushes_lost > lost_before  # pushes that come together count as one
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
    await send_more(answers)
    await repaired(answers)
    streams = [each.stream for each in answers]
    due = [
        *map(names.log, streams),
        *map(names.meta, streams),
        names.lease(going_on.stream),
        names.lease(silent.stream),
    ]

    async def are_there() -> bool:
        return int(await world.connection.redis.exists(*due)) == len(due)

    await until_so(are_there, REPAIR_S)
    figures.add(f"all there again after an evicted {key}", time.monotonic() - began, "s")
    assert [each.talk.starts for each in answers] == [1] * 3
    assert gaps(answers, is_log_lost=key == "log") == []
    tenants = {await world.connection.redis.hget(names.meta(each.stream), "tenant") for each in answers}
    assert tenants == {b"local"}


async def trimmed(world: FaultWorld, figures: Figures) -> None:
    """A viewer that has seen it goes on; a later one is notified of what is gone."""
    answers = await begin(world, 1, sent=20)
    (answer,) = answers
    world.trimmed.add(answer.stream)
    await world.connection.redis.xtrim(world.connection.keys.log(answer.stream), maxlen=5, approximate=False)
    await send_more(answers)
    figures.add("repair after a trim", await repaired(answers), "s")
    assert gaps(answers) == []
    extra = await world.front_end()
    late = world.view(answer.stream, 2)
    await until(lambda: all(viewer.entries for viewer in late))
    await judge(world, figures, answers)
    world.front_ends.remove(extra)
    world.urls.remove(extra.url)
    await extra.end()
