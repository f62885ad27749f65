"""A stream is looked up once for a crowd, and no caller learns from it what is not so any more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from broadcaster.errors import LogUnavailable, UnknownStream
from broadcaster.log.streams.reader import Meta
from broadcaster.web.viewing.known_streams import KnownStreams
from tests.support.memory.memory_world import MemoryWorld


@dataclass
class Log:
    """Answers lookups when it may."""

    metas: dict[str, Meta] = field(default_factory=dict)
    lookups: list[tuple[str, str]] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    error: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def look_up(self, stream_id: str, tenant: str) -> Meta:
        self.lookups.append((stream_id, tenant))
        seen = self.metas.get(stream_id)  # as Redis saw it when it was called
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if seen is None or seen.tenant != tenant:
            raise UnknownStream("no such stream")
        return seen


@pytest.fixture
async def log() -> Log:
    log = Log()
    log.gate.set()
    return log


def known(log: Log, *, max_streams: int = 8) -> KnownStreams:
    return KnownStreams(log.look_up, is_open=lambda each: each in log.open, max_streams=max_streams)


def meta(stream_id: str, *, tenant: str = "a") -> Meta:
    return replace(MemoryWorld().add(stream_id).meta, tenant=tenant)


async def test_a_crowd_costs_one_lookup_and_callers_that_come_while_it_is_open_none(log: Log) -> None:
    streams = known(log)
    log.metas["s"] = meta("s")
    log.gate.clear()
    crowd = [asyncio.create_task(streams.find("s", tenant="a")) for _ in range(100)]
    await asyncio.sleep(0)
    log.gate.set()
    assert {each.id for each in await asyncio.gather(*crowd)} == {"s"}
    log.open.add("s")
    await streams.find("s", tenant="a")
    assert len(log.lookups) == 1
    log.open.discard("s")
    await streams.find("s", tenant="a")
    assert len(log.lookups) == 2


async def test_a_lookup_under_way_is_not_shared_with_other_tenants(log: Log) -> None:
    streams = known(log)
    log.metas["s"] = meta("s")
    log.open.add("s")
    await streams.find("s", tenant="a")
    with pytest.raises(UnknownStream):
        await streams.find("s", tenant="b")


async def test_a_caller_that_created_it_during_an_older_lookup_finds_it(log: Log) -> None:
    streams = known(log)
    log.gate.clear()
    early = asyncio.create_task(streams.find("s", tenant="a"))
    while not log.lookups:
        await asyncio.sleep(0)
    log.metas["s"] = meta("s")
    late = [asyncio.create_task(streams.find("s", tenant="a")) for _ in range(10)]
    await asyncio.sleep(0)
    log.gate.set()
    with pytest.raises(UnknownStream):
        await early
    assert {each.id for each in await asyncio.gather(*late)} == {"s"}
    assert len(log.lookups) == 2


async def test_a_lookup_that_fails_is_reported_to_all_that_waited_and_not_cached(log: Log) -> None:
    streams = known(log)
    log.metas["s"], log.error = meta("s"), LogUnavailable("away")
    log.gate.clear()
    crowd = [asyncio.create_task(streams.find("s", tenant="a")) for _ in range(10)]
    await asyncio.sleep(0)
    log.gate.set()
    assert all(isinstance(each, LogUnavailable) for each in await asyncio.gather(*crowd, return_exceptions=True))
    log.error = None
    assert (await streams.find("s", tenant="a")).id == "s"


async def test_a_caller_that_gives_up_cancels_the_lookup_for_no_other(log: Log) -> None:
    streams = known(log)
    log.metas["s"] = meta("s")
    log.gate.clear()
    first, second = (asyncio.create_task(streams.find("s", tenant="a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    log.gate.set()
    assert (await second).id == "s"
    assert len(log.lookups) == 1


async def test_no_more_streams_are_known_than_the_bound(log: Log) -> None:
    streams = known(log, max_streams=4)
    for number in range(20):
        log.metas[str(number)] = meta(str(number))
        log.open.add(str(number))
        await streams.find(str(number), tenant="a")
        assert len(streams._found) <= 4
