"""Feeds in the list of a tenant's streams: recorded when they are created or touched, gone when they are gone."""

from __future__ import annotations

import pytest

from broadcaster.errors import LogUnavailable
from broadcaster.log.feeds import feed_index
from broadcaster.log.feeds.feed_index import FeedIndex
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.jobs.lists.listing import Which
from broadcaster.log.jobs.lists.recents import RECENTS_KEPT, Recents
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from tests.support.apps.feed_job import FINISH, note
from tests.support.log.feed_writers import BOUNDS
from tests.support.log.log_world import TENANT, World


class Lists:
    """A front-end's lists and the feeds of one process."""

    def __init__(self, connection: LogConnection) -> None:
        self.world = World(connection)
        self.redis, self.keys = self.world.redis, self.world.keys
        self.feeds = self.another_process()

    def another_process(self) -> Feeds:
        return Feeds(self.world.connection, BOUNDS, streams=Streams(self.world.connection))

    async def create(self, id: str, *, tenant: str = TENANT) -> str:
        await self.feeds.create(id, FeedConfig(), tenant=tenant)
        return id

    async def ids(self, which: Which = "all", *, limit: int = 100, tenant: str = TENANT) -> list[str]:
        """Of all pages, in order."""
        found: list[str] = []
        before = None
        while True:
            page = self.world.generations.lists.page(tenant, which=which, limit=limit, before=before, with_feeds=True)
            metas, before = await page
            found += [meta.public_id for meta in metas]
            if before is None:
                return found


@pytest.fixture
async def lists(connection: LogConnection) -> Lists:
    lists = Lists(connection)
    await lists.world.queue.create_group()
    return lists


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_generations_and_feeds_are_one_list_newest_first(lists: Lists, limit: int) -> None:
    made = [await lists.create("a"), await lists.world.create(), await lists.world.create(), await lists.create("b")]
    made += [await lists.create("c"), await lists.world.create()]
    assert await lists.ids(limit=limit) == made[::-1]
    listed = await lists.world.generations.lists.page(TENANT)
    assert {meta.kind for meta in listed.metas} == {"generation"}


async def test_open_and_ended_feeds_can_be_listed(lists: Lists) -> None:
    for id in "abc":
        await lists.create(id)
    await lists.feeds.close("b", FINISH, tenant=TENANT)
    assert await lists.ids("open", limit=1) == ["c", "a"]
    assert await lists.ids("over") == ["b"]


async def test_one_tenant_sees_no_feed_of_another(lists: Lists) -> None:
    await lists.create("mine")
    await lists.create("mine", tenant="other")
    assert await lists.ids() == ["mine"]
    assert await lists.ids(tenant="third") == []


async def test_a_deleted_feed_leaves_the_index_and_an_expired_one_the_first_list_that_meets_it(lists: Lists) -> None:
    for id in ("kept", "deleted", "expired"):
        await lists.create(id)
    stored = [member.decode() for member in await lists.redis.zrange(lists.keys.recent_feeds(TENANT), 0, -1)]
    await lists.feeds.delete("deleted", tenant=TENANT)
    assert await lists.redis.zcard(lists.keys.recent_feeds(TENANT)) == 2
    await lists.redis.delete(lists.keys.meta(stored[2]))
    assert await lists.ids() == ["kept"]
    assert await lists.redis.zrange(lists.keys.recent_feeds(TENANT), 0, -1) == [stored[0].encode()]


async def test_a_feed_that_is_created_anew_under_its_id_is_the_newest(lists: Lists) -> None:
    await lists.create("a")
    (stored,) = await lists.redis.zrange(lists.keys.recent_feeds(TENANT), 0, -1)
    await lists.create("b")
    await lists.redis.delete(lists.keys.meta(stored.decode()))
    await lists.another_process().create("a", FeedConfig(), tenant=TENANT)
    assert await lists.ids() == ["a", "b"]


@pytest.mark.parametrize("touch", ["append", "renew", "create", "close"])
async def test_a_feed_that_the_index_misses_is_recorded_at_its_place_when_a_writer_touches_it(
    lists: Lists, touch: str
) -> None:
    for id in "abc":
        await lists.create(id)
    await lists.redis.zpopmin(lists.keys.recent_feeds(TENANT))
    assert await lists.ids() == ["c", "b"]
    feeds = lists.another_process()
    match touch:
        case "append":
            await feeds.append("a", [note(1)], tenant=TENANT)
        case "renew":
            await feeds.renew("a", tenant=TENANT)
        case "create":
            assert not await feeds.create("a", FeedConfig(), tenant=TENANT)
        case "close":
            await feeds.close("a", FINISH, tenant=TENANT)
    assert await lists.ids() == ["c", "b", "a"]


async def test_a_process_records_a_feed_once_and_then_only_writes_to_it(lists: Lists) -> None:
    await lists.create("a")
    await lists.redis.delete(lists.keys.recent_feeds(TENANT))
    await lists.feeds.append("a", [note(1)], tenant=TENANT)
    assert await lists.ids() == []


async def test_a_process_remembers_a_bounded_number_of_feeds(lists: Lists, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_index, "REMEMBERED", 2)
    for id in "abc":
        await lists.create(id)
    await lists.redis.delete(lists.keys.recent_feeds(TENANT))
    for id in "abc":
        await lists.feeds.append(id, [note(1)], tenant=TENANT)
    assert "a" in await lists.ids()


async def test_many_feeds_push_no_generation_out_of_its_index(lists: Lists) -> None:
    generation = await lists.world.create()
    full = {f"feed-{n}": n + 1 for n in range(RECENTS_KEPT)}
    await lists.redis.zadd(lists.keys.recent_feeds(TENANT), full)
    newest = await lists.create("newest")
    assert await lists.redis.zcard(lists.keys.recent_feeds(TENANT)) == RECENTS_KEPT
    assert await lists.redis.pttl(lists.keys.recent_feeds(TENANT)) > 0
    assert await lists.ids() == [newest, generation]


async def test_a_generation_and_a_feed_of_one_moment_have_places_of_their_own(connection: LogConnection) -> None:
    generations, feeds = Recents(connection), Recents(connection, of="feeds")
    await generations.record(TENANT, "gen_a", keep_ms=60_000, created_ms=5)
    await feeds.record(TENANT, "feed", keep_ms=60_000, created_ms=5)
    await generations.record(TENANT, "gen_b", keep_ms=60_000, created_ms=5)
    assert await feeds.page(TENANT, before=None, count=9) == [("feed", 5001)]
    assert await generations.page(TENANT, before=None, count=9) == [("gen_b", 5002), ("gen_a", 5000)]


async def test_an_index_that_cannot_be_written_fails_no_writer(connection: LogConnection, redis_url: str) -> None:
    class Broken(Streams):
        async def briefs(self, stream_ids: object) -> object:  # type: ignore[override]
            raise LogUnavailable("no reply")

    index = FeedIndex(connection, Broken(connection))
    await index.touched(TENANT, "a")
    assert await connection.redis.zcard(connection.keys.recent_feeds(TENANT)) == 0
