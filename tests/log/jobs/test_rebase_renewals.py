"""A renewal beside a rebase of the same worker: the newer epoch is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from broadcaster.core.events import TextDelta
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs import lease
from broadcaster.log.jobs.claims import Claim
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.redis.scripts import run_all
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.writer import StreamWriter, WriterEnd
from tests.support.log.log_world import World, until


class HeldRebase:
    """The first rebase is executed, and its reply comes when the test says so; it is lost if ``is_lost``."""

    def __init__(self, keeper: LeaseKeeper, *, is_lost: bool) -> None:
        self._rebase, self._is_lost = keeper.claims.rebase, is_lost
        self.executed, self.go_on = asyncio.Event(), asyncio.Event()
        keeper.claims.rebase = self.rebase  # type: ignore[method-assign]

    async def rebase(self, stream_id: str, *, epoch: int) -> Claim:
        claim = await self._rebase(stream_id, epoch=epoch)
        is_first = not self.executed.is_set()
        self.executed.set()
        await self.go_on.wait()
        if is_first and self._is_lost:
            raise LogUnavailable("the reply was lost")
        return claim


async def second_attempt(world: World, appender: Appender, keeper: LeaseKeeper) -> StreamWriter:
    """A writer of a second attempt, behind an entry of the first one."""
    stream_id, first = await world.granted()
    await world.append(stream_id, first.epoch, 1, [b'{"type":"text-delta","id":"0","delta":"x"}'])
    await world.lapse(stream_id)
    writer = await world.writer(stream_id, await world.claim(stream_id), appender, keeper)
    writer.write([TextDelta(id="0", delta="a")])
    await until(lambda: writer.acked_seq == writer.last_seq)
    return writer


async def lose_first_attempt(world: World, writer: StreamWriter) -> None:
    """Entries of the earlier attempt are gone, which the next append notices."""
    await world.lose_after(writer.stream_id, 0)
    await world.redis.xadd(world.keys.log(writer.stream_id), {"e": b'{"type":"start"}', "v": 1, "b": 16}, id="1-1")
    writer.write([TextDelta(id="0", delta="b")])


def goes_on(writer: StreamWriter, epoch: int) -> bool:
    """Whether all of it is in the log under a newer epoch."""
    return writer.epoch > epoch and writer.acked_seq == writer.last_seq


@pytest.mark.parametrize("is_lost", [False, True], ids=["its reply is late", "its reply is lost"])
async def test_a_renewal_between_a_rebase_and_its_reply_does_not_lose_the_stream(
    world: World, appender: Appender, keeper: LeaseKeeper, is_lost: bool
) -> None:
    writer = await second_attempt(world, appender, keeper)
    epoch, held = writer.epoch, HeldRebase(keeper, is_lost=is_lost)
    await lose_first_attempt(world, writer)
    await asyncio.wait_for(held.executed.wait(), 10)
    await keeper.renew()
    held.go_on.set()
    await until(lambda: goes_on(writer, epoch) or writer.over.is_set())
    assert writer.end_reason is None


async def test_a_renewal_whose_reply_comes_after_that_of_the_rebase_does_not_lose_the_stream(
    world: World, appender: Appender, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await second_attempt(world, appender, keeper)
    epoch, held = writer.epoch, HeldRebase(keeper, is_lost=False)

    async def late(redis: Any, calls: Sequence[Any]) -> Sequence[Any]:
        replies = await run_all(redis, calls)
        held.go_on.set()
        await until(lambda: goes_on(writer, epoch))
        return replies

    monkeypatch.setattr(lease, "run_all", late)
    await lose_first_attempt(world, writer)
    await asyncio.wait_for(held.executed.wait(), 10)
    await keeper.renew()
    assert writer.end_reason is None


async def test_a_stream_that_another_worker_took_meanwhile_is_lost_by_the_rebase_itself(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer = await second_attempt(world, appender, keeper)
    await world.lapse(writer.stream_id)
    await World(world.connection, worker="w2").claim(writer.stream_id)
    await lose_first_attempt(world, writer)
    await until(writer.over.is_set)
    assert writer.end_reason is WriterEnd.FENCED
