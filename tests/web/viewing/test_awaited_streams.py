"""Requests that wait for streams which do not exist yet: they are viewers, and share one lookup in the log."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack

import pytest

from broadcaster.core.events import Finish
from broadcaster.core.requests.stream_ids import LOCAL_TENANT, stored_ids
from broadcaster.errors import UnknownStream
from broadcaster.feed_wiring import feed_bounds
from broadcaster.hub.limits import HubLimits, TenantBound
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.viewing.awaited_streams import LOOKUP_EVERY_S, LOOKUPS_AT_ONCE, AwaitedStreams
from broadcaster.web.viewing.joining import find_stream
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, listen, own_app, served

ATTACKERS = 60
PLACES = 50


def events_of(stream_id: str) -> str:
    return f"/v1/streams/{stream_id}/events?wait_s=9"


async def until_waiting(services: Services, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while sum(map(len, services.awaited_streams._tenants.values())) != count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "limits",
    [
        HubLimits(max_viewers=PLACES),
        HubLimits(tenant_viewers=TenantBound(PLACES)),
        HubLimits(tenant_long_polls=TenantBound(PLACES)),
    ],
    ids=["viewers", "viewers of the tenant", "long polls of the tenant"],
)
async def test_a_caller_that_waits_for_unknown_ids_is_a_viewer_and_lookups_are_few_whatever_number_waits(
    world: MemoryWorld, limits: HubLimits
) -> None:
    async with memory_services(world, limits=limits) as services:
        async with served(own_app(services), services) as client:
            waiting = [asyncio.create_task(listen(client, events_of(f"none{n}"))) for n in range(PLACES)]
            await until_waiting(services, PLACES)
            refused = await asyncio.gather(*(listen(client, events_of(f"no{n}")) for n in range(ATTACKERS - PLACES)))
            assert {json.loads(each.messages[0].data)["reason"] for each in refused} == {"limit"}
            world.lookups.clear()
            began = asyncio.get_running_loop().time()
            async with asyncio.timeout(DEADLINE_S):
                while len(world.lookups) < 4:
                    await asyncio.sleep(0.01)
            took_s = asyncio.get_running_loop().time() - began
            assert took_s >= 3 * LOOKUP_EVERY_S
            assert {len(each) for each in world.lookups} == {PLACES}
            for n in range(PLACES):
                world.add(f"none{n}")
                world.append(f"none{n}", Finish())
            assert [len((await each).entries) for each in waiting] == [1] * PLACES
            with services.hub.reserve(LOCAL_TENANT, waits=True):
                pass


async def test_a_client_that_disconnects_frees_its_place_at_once(world: MemoryWorld) -> None:
    async with memory_services(world, limits=HubLimits(max_viewers=1)) as services:
        async with served(own_app(services), services) as client:
            call = asyncio.create_task(client.get(events_of("none")))
            await until_waiting(services, 1)
            call.cancel()
            await until_waiting(services, 0)
            with services.hub.reserve(LOCAL_TENANT):
                assert services.awaited_streams._search is None  # and nothing is searched


async def test_a_tenant_that_waits_for_thousands_waits_longer_and_the_others_do_not() -> None:
    there: set[tuple[str, str]] = set()
    response: list[int] = []

    async def owners(stored: list[str]) -> list[str | None]:
        response.append(len(stored))
        return ["b" if ("b", each) in there else None for each in stored]

    awaited = AwaitedStreams(owners, draining=asyncio.Event())  # type: ignore[arg-type]
    with ExitStack() as stack:
        for n in range(2000):
            stack.enter_context(awaited.awaiting(f"none{n}", tenant="a"))
        found = stack.enter_context(awaited.awaiting("job", tenant="b"))
        there.add(("b", stored_ids("job", tenant="b")[0]))
        async with asyncio.timeout(DEADLINE_S):
            assert await found
    assert len(response) <= 2
    assert max(response) <= 2 * LOOKUPS_AT_ONCE  # each can be in two places


async def test_a_tenant_that_waits_for_more_than_one_lookup_takes_finds_the_last_of_them_in_its_turn() -> None:
    response: list[int] = []
    last = stored_ids(f"none{LOOKUPS_AT_ONCE}", tenant="a")[0]

    async def owners(stored: list[str]) -> list[str | None]:
        response.append(len(stored))
        return ["a" if each == last else None for each in stored]

    awaited = AwaitedStreams(owners, draining=asyncio.Event())  # type: ignore[arg-type]
    with ExitStack() as stack:
        waiting = [stack.enter_context(awaited.awaiting(f"none{n}", tenant="a")) for n in range(LOOKUPS_AT_ONCE + 1)]
        async with asyncio.timeout(DEADLINE_S):
            assert await waiting[-1]
    assert len(response) == 2


async def test_a_stream_of_another_tenant_or_a_deleted_one_is_never_found(connection: LogConnection) -> None:
    streams = Streams(connection)
    feeds = Feeds(connection, feed_bounds(Settings()), streams=streams)
    await feeds.create("theirs", FeedConfig(), tenant="b")
    await feeds.create("gone", FeedConfig(), tenant="b")
    await feeds.delete("gone", tenant="b")
    stored = [stored_ids(each, tenant="b")[0] for each in ("theirs", "gone", "none")]
    assert await streams.owners(stored) == ["b", None, None]
    awaited = AwaitedStreams(streams.owners, draining=asyncio.Event())
    with awaited.awaiting("theirs", tenant="a") as foreign, awaited.awaiting("gone", tenant="b") as deleted:
        with awaited.awaiting("theirs", tenant="b") as own:
            async with asyncio.timeout(DEADLINE_S):
                assert await own
        await asyncio.wait({foreign, deleted}, timeout=2 * LOOKUP_EVERY_S)
        assert not foreign.done()
        assert not deleted.done()


async def test_a_stream_that_is_not_there_in_time_is_unknown(services: Services, world: MemoryWorld) -> None:
    with pytest.raises(UnknownStream):
        await find_stream(services, "none", tenant=LOCAL_TENANT, wait_s=2.5 * LOOKUP_EVERY_S)
    assert len(world.lookups) == 2
