"""Lists: a tenant's generations, newest first, in pages that neither repeat nor skip."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broadcaster.core.requests.passed_calls import passed_request
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.lists.listing import READ_AT_ONCE, Listed, Listing, Which
from broadcaster.log.jobs.lists.recents import RECENTS_KEPT, Recents
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Brief, Streams
from broadcaster.settings import Settings
from broadcaster.wiring import JobParts
from tests.support.log.log_world import TENANT, World

END = b'{"type":"finish"}'


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


async def page(world: World, which: Which = "all", *, limit: int = 100, before: int | None = None) -> Listed:
    return await world.generations.lists.page(TENANT, which=which, limit=limit, before=before)


async def ids(world: World, which: Which = "all", *, limit: int = 100) -> list[str]:
    """All pages' ids, in order."""
    found: list[str] = []
    before = None
    while True:
        metas, before = await page(world, which, limit=limit, before=before)
        found += [meta.id for meta in metas]
        if before is None:
            return found


async def finish(world: World, stream_id: str) -> None:
    claim = await world.claim(stream_id)
    await world.append(stream_id, claim.epoch, 1, [END])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_of_any_size_hold_everything_once_newest_first(world: World, limit: int) -> None:
    made = [await world.create() for _ in range(7)]
    assert await ids(world, limit=limit) == made[::-1]


async def test_open_and_ended_generations_can_be_listed(world: World) -> None:
    made = [await world.create() for _ in range(6)]
    for each in made[::2]:
        await finish(world, each)
    assert await ids(world, "open", limit=2) == made[1::2][::-1]
    assert await ids(world, "over", limit=2) == made[::2][::-1]


async def test_a_call_that_is_passed_to_a_provider_is_in_no_list(world: World) -> None:
    """Neither while it is open, when the index is mended from the open index, nor after its end."""
    listed, call = await world.create(), GenerationRequest("m", passed_request("embeddings", {"input": "why?"}))
    passed = (await world.generations.create(call, tenant=TENANT)).id
    assert await ids(world) == [listed]
    await finish(world, passed)
    assert await ids(world) == [listed]


async def test_a_generation_created_between_two_pages_changes_no_later_page(world: World) -> None:
    made = [await world.create() for _ in range(4)]
    first = await page(world, limit=2)
    await world.create()
    second = await page(world, limit=2, before=first.next_before)
    assert [meta.id for meta in (*first.metas, *second.metas)] == made[::-1]


async def test_a_page_goes_on_where_a_deleted_generation_stood(world: World) -> None:
    made = [await world.create() for _ in range(4)]
    first = await page(world, limit=2)
    await world.generations.delete(first.metas[-1].id, tenant=TENANT, timeout_s=1)
    second = await page(world, limit=2, before=first.next_before)
    assert [meta.id for meta in second.metas] == made[1::-1]


async def test_one_tenant_sees_nothing_of_another(world: World) -> None:
    await world.create()
    assert (await world.generations.lists.page("other")).metas == []


async def test_an_expired_generation_is_dropped_from_the_index(world: World) -> None:
    kept, expired = await world.create(), await world.create()
    await world.redis.delete(world.keys.meta(expired))
    assert await ids(world) == [kept]
    assert await world.redis.zrange(world.keys.recent(TENANT), 0, -1) == [kept.encode()]


async def test_an_open_generation_that_the_index_misses_is_found_and_recorded(world: World) -> None:
    """An older front-end created it, or Redis came back empty and its worker restored it."""
    made = [await world.create() for _ in range(3)]
    await world.redis.zrem(world.keys.recent(TENANT), made[1])
    assert sorted(await ids(world)) == sorted(made)
    assert await world.redis.zscore(world.keys.recent(TENANT), made[1]) is not None
    assert (await world.generations.lists.page("other")).metas == []
    assert await world.redis.exists(world.keys.recent("other")) == 0


async def test_a_list_is_read_while_the_server_of_another_tenants_open_generation_does_not_answer(world: World) -> None:
    mine, other = await world.create(), await world.create(tenant="other")

    class OneServerAway(Streams):
        async def each_brief(self, stream_ids: Sequence[str]) -> list[Brief | LogUnavailable]:
            briefs = zip(stream_ids, await super().each_brief(stream_ids), strict=True)
            return [LogUnavailable("its server is away") if each == other else brief for each, brief in briefs]

    lists = Listing(world.connection, OneServerAway(world.connection), world.queue, open_ms=60_000, retention_ms=0)
    assert [meta.id for meta in (await lists.page(TENANT)).metas] == [mine]
    with pytest.raises(LogUnavailable):  # of its own streams none is left out
        await lists.page("other")


async def test_a_list_longer_than_one_page_of_the_index_is_whole(world: World) -> None:
    request = GenerationRequest(model="m", request={})
    wide = World(world.connection, max_queue=1000)
    made = [(await wide.generations.create(request, tenant=TENANT)).id for _ in range(READ_AT_ONCE + 5)]
    await finish(world, made[0])
    assert await ids(wide, "over") == made[:1]
    assert len(await ids(wide, "open")) == READ_AT_ONCE + 4


async def test_the_index_is_bounded_and_expires(world: World) -> None:
    key = world.keys.recent(TENANT)
    await world.redis.zadd(key, {f"gen_{n}": n + 1 for n in range(RECENTS_KEPT)})
    stream_id = await world.create()
    assert await world.redis.zcard(key) == RECENTS_KEPT
    assert await world.redis.zrange(key, -1, -1) == [stream_id.encode()]
    assert await world.redis.zscore(key, "gen_0") is None
    lived_ms = await world.redis.pttl(key)
    assert lived_ms > 0
    request = GenerationRequest(model="m", request={}, retention_s=86_400)
    await world.generations.create(request, tenant=TENANT)
    assert await world.redis.pttl(key) > lived_ms
    await world.create()
    assert await world.redis.pttl(key) > lived_ms  # never shortened


@pytest.mark.parametrize("by", ["its creation", "a list that missed it"])
async def test_a_list_has_an_answer_for_as_long_as_it_may_run_and_is_stored(connection: LogConnection, by: str) -> None:
    settings = Settings.model_validate({"redis_url": connection.url, "generation_timeout_s": 4 * 3600})
    parts = JobParts(settings, connection, owner="f", streams=Streams(connection))
    generations, key = parts.generations(), connection.keys.recent(TENANT)
    await generations.create(GenerationRequest(model="m", request={}), tenant=TENANT)
    if by != "its creation":
        await connection.redis.delete(key)
        await generations.lists.page(TENANT)
    longest_s = settings.queue_timeout_s + settings.generation_timeout_s + settings.retention_s
    assert await connection.redis.pttl(key) > longest_s * 1000


async def test_generations_of_one_moment_have_places_of_their_own(world: World) -> None:
    index = Recents(world.connection)
    for each in "abc":
        await index.record(TENANT, each, keep_ms=60_000, created_ms=5)
    await index.record(TENANT, "a", keep_ms=60_000, created_ms=9)  # it is there already
    assert await index.page(TENANT, before=None, count=9) == [("c", 5002), ("b", 5001), ("a", 5000)]
    assert await index.page(TENANT, before=5002, count=1) == [("b", 5001)]
