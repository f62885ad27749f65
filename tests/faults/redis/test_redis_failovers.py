"""The primary dies and a replica that lags takes its place: what it lacks is resent, under the same ids.

The lag is real: the replica has received no more of its primary until the workers have more entries
acknowledged. Each round reports how many entries it really lost; one that lost none is repeated.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis

from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.scripts import SCRIPTS
from tests.faults.figures import Figures
from tests.faults.redis.redis_trouble import (
    REPAIR_S,
    Answer,
    begin,
    gaps,
    judge,
    mark,
    open_system,
    repaired,
    send_more,
    until_so,
)
from tests.faults.world import FaultWorld
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.redis_relay import RedisRelay, open_redis_relay

KEYS: Final = KeyNames("bc")
TRIES: Final = 3


@dataclass
class Pair:
    """A primary, its replica, and the relay under whose URL all processes know the one that serves."""

    primary: ValkeyServer
    replica: ValkeyServer
    relay: RedisRelay

    @property
    def url(self) -> str:
        return self.relay.url

    async def follow(self) -> None:
        """The replica has all that the primary has, and receives everything new."""
        _, host, port = self.primary.url.replace("//", "").split(":")
        async with Redis.from_url(self.replica.url) as replica:
            await replica.execute_command("REPLICAOF", host, port)

            async def is_up() -> bool:
                return bool((await replica.info("replication"))["master_link_status"] == "up")

            await until_so(is_up)
        async with Redis.from_url(self.primary.url) as primary:
            await primary.wait(1, 5000)

    async def fall_behind(self) -> None:
        """The replica receives no more; a failover now would make it the primary as it is."""
        async with Redis.from_url(self.replica.url) as replica:
            await replica.execute_command("REPLICAOF", "NO", "ONE")

    async def fail_over(self) -> None:
        """The primary dies, and the replica takes its place; another replica may follow it."""
        self.primary.kill()
        await self.relay.switch(self.replica.url)
        self.primary, self.replica = self.replica, self.primary
        await asyncio.to_thread(self.replica.start)


async def entries(server: ValkeyServer, streams: list[str]) -> dict[str, int]:
    """How many entries of each stream a server has."""
    async with Redis.from_url(server.url) as redis:
        return {stream: await redis.xlen(KEYS.log(stream)) for stream in streams}


@asynccontextmanager
async def open_pair() -> AsyncIterator[Pair]:
    options = ("--repl-diskless-sync-delay", "0")
    with tempfile.TemporaryDirectory(prefix="bc-") as one, tempfile.TemporaryDirectory(prefix="bc-") as two:
        servers = [ValkeyServer(Path(folder), port=0, options=options) for folder in (one, two)]
        try:
            for server in servers:
                server.start()
            async with open_redis_relay(servers[0].url) as relay:
                yield Pair(servers[0], servers[1], relay)
        finally:
            for server in servers:
                server.stop()


@pytest.mark.second_engine
async def test_a_tail_that_a_failover_lost_is_resent_in_mid_answer_around_the_end_and_after_it(
    tmp_path: Path, rounds: int, figures: Figures
) -> None:
    async with open_pair() as pair, open_system(tmp_path, pair) as world:
        for _ in range(rounds):
            for moment in (in_mid_answer, before_all_of_it, between_finish_and_settle, just_after_settle):
                for _ in range(TRIES):
                    entries_lost = await moment(world, pair, figures)
                    if entries_lost:
                        break
                print(f"failover {moment.__name__}: {entries_lost} entries lost")
                figures.add(f"entries a failover lost, {moment.__name__.replace('_', ' ')}", entries_lost, "entries")
                assert entries_lost > 0


async def in_mid_answer(world: FaultWorld, pair: Pair, figures: Figures) -> int:
    await pair.follow()
    answers = await begin(world, 3)
    answers[2].talk.is_silent = True  # nothing but the break shows it to its worker
    await pair.fall_behind()
    answers[2].talk.is_silent = False
    await send_more(answers, 20)
    answers[2].talk.is_silent = True
    await repaired(answers)
    return await fail_over(world, pair, figures, answers, name="failover in mid-answer")


async def before_all_of_it(world: FaultWorld, pair: Pair, figures: Figures) -> int:
    """The new primary does not know the generation: a viewer that joins now must not receive "unknown"."""
    await pair.follow()
    await pair.fall_behind()
    answers = await begin(world, 2)
    answers[1].talk.is_silent = True
    return await fail_over(world, pair, figures, answers, name="failover before all of it")


async def between_finish_and_settle(world: FaultWorld, pair: Pair, figures: Figures) -> int:
    """The end is acknowledged and shown; then the worker finds another primary, which does not know it."""
    await pair.follow()
    answers = await begin(world, 1)
    await pair.fall_behind()
    await send_more(answers)
    pair.relay.hold_at(SCRIPTS["settle"].sha.encode())
    answers[0].talk.finish()
    await asyncio.gather(pair.relay.held.wait(), *(viewer.is_over.wait() for viewer in answers[0].viewers))
    return await fail_over(world, pair, figures, answers, name="failover between finish and settle")


async def just_after_settle(world: FaultWorld, pair: Pair, figures: Figures) -> int:
    """No worker appends any more: only the buffer that outlives the end can help."""
    await pair.follow()
    answers = await begin(world, 2)
    await pair.fall_behind()
    await send_more(answers)
    for each in answers:
        each.talk.finish()
    streams = [each.stream for each in answers]

    async def are_settled() -> bool:
        async with Redis.from_url(pair.primary.url) as primary:
            return not any(await primary.zmscore(KEYS.open, streams))

    await until_so(are_settled)
    return await fail_over(world, pair, figures, answers, name="failover just after settle")


async def fail_over(world: FaultWorld, pair: Pair, figures: Figures, answers: list[Answer], *, name: str) -> int:
    """Fail over; everything must be restored in time, for old viewers and new ones. How many entries were lost."""
    streams = [each.stream for each in answers]
    left, held = await entries(pair.replica, streams), await entries(pair.primary, streams)
    marks = mark(answers)
    await pair.fail_over()
    began = time.monotonic()
    for each in answers:
        each.viewers += world.view(each.stream, 2)  # a viewer that joins now finds a log that lacks its tail
    marks = [[*row, 0, 0] for row in marks]
    figures.add(f"repair after a {name}", await repaired(answers, since=marks), "s")

    async def is_all_there() -> bool:
        now = await entries(pair.primary, streams)
        return all(now[stream] >= count for stream, count in held.items())

    await until_so(is_all_there, REPAIR_S)
    figures.add(f"log whole after a {name}", time.monotonic() - began, "s")
    assert [each.talk.starts for each in answers] == [1] * len(answers)
    assert gaps(answers, is_log_lost=True) == []
    await judge(world, figures, answers)
    return sum(held.values()) - sum(left.values())
