"""Webhooks of feeds, on a real log and a receiver on a real socket: every end of a feed calls its webhook once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from broadcaster.core.events import Abort, Error, TextDelta, TextEnd, TextStart, encode_event
from broadcaster.core.requests.stream_ids import stored_ids
from broadcaster.errors import Busy, LogUnavailable, StreamClosed, StreamExists, UnknownStream, WebhookNotAllowed
from broadcaster.log.feeds.feed_webhooks import FeedWebhooks
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.jobs.webhooks import WebhookSettled
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.webhook_meta import WebhookMeta, WebhookState
from tests.support.apps.feed_job import FINISH
from tests.support.apps.webhook_world import HOSTS, WebhookWorld, open_webhook_world
from tests.support.log.feed_writers import BOUNDS
from tests.support.log.log_world import TENANT, WEBHOOK_MS, World
from tests.support.servers.webhook_receiver import Receiver, Reply, open_receiver

ID = "job-42"
LEASE_MS = 9000
TEXT = [encode_event(event) for event in (TextStart(id="0"), TextDelta(id="0", delta="all copied"), TextEnd(id="0"))]


class Answering:
    """A Redis that has answered all the time."""

    async def confirm(self) -> None:
        pass

    def has_answered_for(self, lease_s: float) -> bool:
        return True


@dataclass
class FeedHooks:
    """Feeds with webhooks, and a worker's way of delivering them."""

    hooks: WebhookWorld
    feeds: Feeds
    lapses: Lapses
    stored_id: str = field(default=stored_ids(ID, tenant=TENANT)[0])

    async def create(self, url: str, *, events: list[str] | None = None, replaces: bool = False, **config: Any) -> bool:
        webhook = {"url": url} if events is None else {"url": url, "events": events}
        return await self.feeds.create(ID, FeedConfig(webhook=webhook, **config), tenant=TENANT, replaces=replaces)

    async def close(self, end: bytes = FINISH) -> None:
        await self.feeds.append(ID, TEXT, tenant=TENANT)
        await self.feeds.close(ID, end, tenant=TENANT)

    async def pending(self) -> tuple[list[str], list[str]]:
        """Promised and due, by stored id."""
        world = self.hooks.world
        keys = (world.keys.webhooks_promised, world.keys.webhooks_due)
        promised, due = [[each.decode() for each in await world.redis.zrange(key, 0, -1)] for key in keys]
        return promised, due

    async def webhook(self) -> WebhookMeta:
        meta = await self.feeds.get(ID, tenant=TENANT)
        assert meta.webhook is not None
        return meta.webhook

    async def lose_writers(self) -> None:
        """The lease has lapsed, more than its length after the creation."""
        world = self.hooks.world
        await world.redis.delete(world.keys.lease(self.stored_id))
        await world.redis.hset(world.keys.meta(self.stored_id), mapping={"created_ms": 1})

    async def check(self) -> int:
        """The time of the next check of promises has come."""
        world = self.hooks.world
        await world.redis.zadd(world.keys.webhooks_promised, {self.stored_id: 1})
        return await world.webhooks.check_promised(world.streams, end_lapsed=self.lapses.end)


@pytest.fixture
async def hooks(connection: LogConnection) -> AsyncIterator[FeedHooks]:
    world = World(connection, max_webhooks=2)
    async with open_webhook_world(world) as opened:
        lapses = Lapses(connection, steadiness=Answering())
        webhooks = FeedWebhooks(world.webhooks, HOSTS, keep_ms=WEBHOOK_MS)
        feeds = Feeds(connection, BOUNDS, streams=world.streams, lapses=lapses, webhooks=webhooks)
        yield FeedHooks(opened, feeds, lapses)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as opened:
        yield opened


ENDS = {
    "finished": FINISH,
    "failed": encode_event(Error(error_text="the disk is full", code="disk_full")),
    "aborted": encode_event(Abort(reason="stopped")),
}


@pytest.mark.parametrize("status", list(ENDS))
async def test_the_receiver_gets_the_whole_content_of_a_feed_for_every_end(
    hooks: FeedHooks, receiver: Receiver, status: str
) -> None:
    await hooks.create(receiver.url, metadata={"job": 42})
    await hooks.close(ENDS[status])
    assert await hooks.hooks.step() == 1
    (call,) = receiver.calls
    payload, meta = call.verify(), await hooks.feeds.get(ID, tenant=TENANT)
    assert payload["type"] == f"feed.{status}"
    assert payload["data"] == {
        "id": ID,
        "status": status,
        "created_at": meta.created_ms / 1000,
        "ended_at": (meta.ended_ms or 0) / 1000,
        "error": {"code": "disk_full", "message": "the disk is full"} if status == "failed" else None,
        "metadata": {"job": 42},
        "events_url": f"/v1/streams/{ID}/events",
        "usage": None,
        "text": "all copied",
        "reasoning": "",
        "parts": [{"type": "text", "text": "all copied", "state": "done"}],
        "truncated": False,
    }
    assert ((await hooks.webhook()).state, await hooks.pending()) == ("delivered", ([], []))


async def test_an_end_that_the_caller_did_not_choose_is_not_reported(hooks: FeedHooks, receiver: Receiver) -> None:
    await hooks.create(receiver.url, events=["failed"])
    await hooks.close()
    await hooks.hooks.step()
    assert ((await hooks.webhook()).state, receiver.calls) == ("skipped", [])


async def test_a_webhook_is_promised_with_its_feed_and_due_with_its_end(hooks: FeedHooks, receiver: Receiver) -> None:
    assert await hooks.create(receiver.url)
    assert not await hooks.create(receiver.url)  # the same creation once more
    assert await hooks.pending() == ([hooks.stored_id], [])
    await hooks.close()
    assert await hooks.pending() == ([], [hooks.stored_id])


async def test_a_host_that_is_not_listed_is_refused_and_nothing_is_created(hooks: FeedHooks) -> None:
    with pytest.raises(WebhookNotAllowed):
        await hooks.create("https://hooks.example.com/")
    assert (await hooks.pending(), await hooks.feeds.streams.meta(hooks.stored_id)) == (([], []), None)


async def test_without_a_list_of_hosts_no_feed_has_a_webhook(connection: LogConnection, receiver: Receiver) -> None:
    world = World(connection)
    feeds = Feeds(connection, BOUNDS, streams=world.streams)
    with pytest.raises(WebhookNotAllowed):
        await feeds.create(ID, FeedConfig(webhook={"url": receiver.url}), tenant=TENANT)
    assert await world.streams.meta(ID) is None


async def test_beyond_the_bound_a_feed_with_a_webhook_is_refused(hooks: FeedHooks, receiver: Receiver) -> None:
    for other in ("gen_1", "gen_2"):
        await hooks.hooks.world.webhooks.promise(other, tenant=TENANT)
    with pytest.raises(Busy):
        await hooks.create(receiver.url)
    assert await hooks.feeds.streams.meta(hooks.stored_id) is None
    await hooks.feeds.create(ID, FeedConfig(), tenant=TENANT)


async def test_a_creation_that_is_refused_leaves_the_promise_of_the_feed_that_has_the_id(
    hooks: FeedHooks, receiver: Receiver
) -> None:
    await hooks.create(receiver.url)
    with pytest.raises(StreamExists):
        await hooks.create(receiver.url, metadata={"another": "job"})
    assert await hooks.pending() == ([hooks.stored_id], [])


async def test_a_promise_without_a_feed_is_dropped_by_the_check(hooks: FeedHooks) -> None:
    await hooks.hooks.world.webhooks.promise(hooks.stored_id, tenant=TENANT)
    assert await hooks.check() == 0
    assert await hooks.pending() == ([], [])


async def test_a_webhook_lost_between_the_end_and_its_being_due_is_found_by_the_check(
    hooks: FeedHooks, receiver: Receiver
) -> None:
    await hooks.create(receiver.url)
    await hooks.close()
    world = hooks.hooks.world
    await world.redis.delete(world.keys.webhooks_due)  # the process died before it
    assert await hooks.check() == 1
    assert await hooks.pending() == ([], [hooks.stored_id])


async def test_the_same_end_once_more_makes_a_webhook_due_that_was_not(hooks: FeedHooks, receiver: Receiver) -> None:
    await hooks.create(receiver.url)
    await hooks.close()
    world = hooks.hooks.world
    await world.redis.delete(world.keys.webhooks_due)
    await hooks.feeds.close(ID, FINISH, tenant=TENANT)
    assert await hooks.pending() == ([], [hooks.stored_id])


@pytest.mark.parametrize("found_by", ["a reader", "the check"])
async def test_the_end_of_a_feed_whose_writers_are_gone_is_reported(
    hooks: FeedHooks, receiver: Receiver, found_by: str
) -> None:
    await hooks.create(receiver.url, lease_s=LEASE_MS / 1000)
    assert await hooks.check() == 0  # its writer lives
    await hooks.lose_writers()
    if found_by == "a reader":
        await hooks.feeds.get(ID, tenant=TENANT)
    else:
        await hooks.check()
    assert await hooks.pending() == ([], [hooks.stored_id])
    await hooks.hooks.step()
    payload = receiver.calls[0].verify()
    assert (payload["type"], payload["data"]["error"]["code"]) == ("feed.failed", "writer_lost")


async def test_a_short_retention_waits_for_the_webhook(hooks: FeedHooks, receiver: Receiver) -> None:
    receiver.script.append(Reply(503))
    await hooks.create(receiver.url, retention_s=0.05)
    await hooks.close()
    world = hooks.hooks.world
    await hooks.hooks.step()
    assert await world.redis.pttl(world.keys.log(hooks.stored_id)) > WEBHOOK_MS / 2
    await hooks.hooks.step()
    assert len(receiver.calls) == 2
    assert await world.redis.pttl(world.keys.log(hooks.stored_id)) < 100


async def test_a_deleted_feed_calls_nothing(hooks: FeedHooks, receiver: Receiver) -> None:
    await hooks.create(receiver.url)
    await hooks.feeds.delete(ID, tenant=TENANT)
    assert await hooks.pending() == ([], [])
    assert await hooks.hooks.step() == 0
    with pytest.raises(UnknownStream):
        await hooks.feeds.get(ID, tenant=TENANT)


async def test_the_webhook_of_a_replaced_feed_goes_with_it(hooks: FeedHooks, receiver: Receiver) -> None:
    await hooks.create(receiver.url)
    await hooks.feeds.create(ID, FeedConfig(owner="another"), tenant=TENANT, replaces=True)
    await hooks.feeds.close(ID, terminals.STOPPED, tenant=TENANT)
    assert await hooks.check() == 1  # the promise is still there, and its feed is over
    await hooks.hooks.step()
    assert (receiver.calls, await hooks.pending()) == ([], ([], []))


async def test_a_call_for_a_feed_that_was_replaced_meanwhile_is_none_for_the_new_one(
    hooks: FeedHooks, receiver: Receiver
) -> None:
    receiver.script.append(Reply(hangs=True))
    await hooks.create(receiver.url)
    await hooks.close()
    first = asyncio.create_task(hooks.hooks.step())
    await receiver.until_calls(1)
    await hooks.create(receiver.url, replaces=True, owner="another")
    receiver.release()
    await first
    webhook = await hooks.webhook()
    assert (webhook.state, webhook.attempts, await hooks.pending()) == ("pending", 0, ([hooks.stored_id], []))

    await hooks.feeds.close(ID, FINISH, tenant=TENANT)
    await hooks.hooks.step()
    assert (await hooks.webhook()).state == "delivered"
    ids = {call.headers["webhook-id"] for call in receiver.calls}
    assert len(ids) == 2, "two feeds of one id are two webhooks"


async def test_nothing_is_sent_of_a_feed_replaced_while_it_is_read(hooks: FeedHooks, receiver: Receiver) -> None:
    class ReplacedMeanwhile(Streams):
        async def read(self, *args: Any, **options: Any) -> Any:
            hooks.hooks.delivery.streams = hooks.hooks.world.streams
            await hooks.create(receiver.url, replaces=True, owner="another")
            await hooks.feeds.close(ID, FINISH, tenant=TENANT)
            return await super().read(*args, **options)

    await hooks.create(receiver.url)
    await hooks.close()
    hooks.hooks.delivery.streams = ReplacedMeanwhile(hooks.hooks.world.connection)
    assert (await hooks.hooks.step(), receiver.calls) == (1, [])
    await hooks.hooks.step()
    assert [call.verify()["data"]["text"] for call in receiver.calls] == [""]


async def test_each_attempt_of_one_feed_has_the_same_id(hooks: FeedHooks, receiver: Receiver) -> None:
    receiver.script.append(Reply(500))
    await hooks.create(receiver.url)
    await hooks.close()
    await hooks.hooks.step()
    await hooks.hooks.step()
    first, second = receiver.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (first.body, ID in first.headers["webhook-id"]) == (second.body, False)


async def test_an_end_that_is_refused_makes_nothing_due(hooks: FeedHooks, receiver: Receiver) -> None:
    await hooks.create(receiver.url)
    await hooks.close()
    await hooks.hooks.step()
    with pytest.raises(StreamClosed):
        await hooks.feeds.close(ID, terminals.STOPPED, tenant=TENANT)
    assert await hooks.pending() == ([], [])


async def test_a_feed_that_takes_the_id_between_a_record_and_its_settling_keeps_its_webhook(
    hooks: FeedHooks, receiver: Receiver
) -> None:
    await hooks.create(receiver.url)
    await hooks.close()
    world = hooks.hooks.world
    (taken,) = await world.webhooks.take(1, lease_ms=10_000)
    before = await hooks.feeds.get(ID, tenant=TENANT)
    await world.webhooks.record_attempt(hooks.stored_id, WebhookState.DELIVERED, created_ms=before.created_ms)
    await hooks.create(receiver.url, replaces=True, owner="another")
    await world.webhooks.settle(taken, WebhookSettled.DONE)
    assert await hooks.pending() == ([hooks.stored_id], [])
    await hooks.feeds.close(ID, FINISH, tenant=TENANT)
    await hooks.hooks.step()
    assert ((await hooks.webhook()).state, len(receiver.calls)) == ("delivered", 1)


async def test_the_back_off_of_a_replaced_feed_delays_nothing(hooks: FeedHooks, receiver: Receiver) -> None:
    receiver.script.append(Reply(503))
    await hooks.create(receiver.url)
    await hooks.close()
    await hooks.hooks.step()
    await hooks.create(receiver.url, replaces=True, owner="another")
    await hooks.feeds.close(ID, FINISH, tenant=TENANT)
    assert (await hooks.hooks.due_in_s(hooks.stored_id) or 0) <= 0


async def test_a_feed_that_is_deleted_while_it_is_open_has_never_a_webhook_due(
    hooks: FeedHooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_due: list[str] = []

    async def make_due(stored_id: str, *, is_new: bool) -> None:
        made_due.append(stored_id)

    await hooks.create(receiver.url)
    monkeypatch.setattr(hooks.feeds.webhooks, "make_due", make_due)
    await hooks.feeds.delete(ID, tenant=TENANT)
    assert (made_due, await hooks.pending()) == ([], ([], []))


async def test_a_repeated_creation_restores_a_lost_promise_however_many_are_pending(
    hooks: FeedHooks, receiver: Receiver
) -> None:
    await hooks.create(receiver.url)
    world = hooks.hooks.world
    await world.redis.delete(world.keys.webhooks_promised)  # a failover has lost it
    for other in ("gen_1", "gen_2"):
        await world.webhooks.promise(other, tenant=TENANT)
    assert not await hooks.create(receiver.url)
    assert hooks.stored_id in (await hooks.pending())[0]
    await hooks.close()
    await hooks.hooks.step()
    assert not await hooks.create(receiver.url)  # it is over, and was called
    assert hooks.stored_id not in (await hooks.pending())[0]


async def test_a_feed_whose_end_cannot_be_written_holds_up_no_other_promise(
    hooks: FeedHooks, receiver: Receiver
) -> None:
    await hooks.create(receiver.url, lease_s=LEASE_MS / 1000)
    await hooks.lose_writers()
    world = hooks.hooks.world
    await world.webhooks.promise("gen_gone", tenant=TENANT)
    await world.redis.zadd(world.keys.webhooks_promised, {hooks.stored_id: 1, "gen_gone": 1})

    async def full(stream_id: str, *, lease_ms: int) -> bool:
        raise LogUnavailable("Redis is full")

    assert await world.webhooks.check_promised(world.streams, end_lapsed=full) == 0
    assert await hooks.pending() == ([hooks.stored_id], [])


async def test_a_promise_made_while_the_check_reads_is_not_dropped(hooks: FeedHooks, receiver: Receiver) -> None:
    world = hooks.hooks.world
    await world.webhooks.promise(hooks.stored_id, tenant=TENANT)

    class CreatedMeanwhile:
        async def each_tail(self, ids: list[str]) -> Any:
            tails = await world.streams.each_tail(ids)
            await hooks.create(receiver.url)
            return tails

    await world.redis.zadd(world.keys.webhooks_promised, {hooks.stored_id: 1})
    streams: Any = CreatedMeanwhile()
    await world.webhooks.check_promised(streams, end_lapsed=hooks.lapses.end)
    assert await hooks.pending() == ([hooks.stored_id], [])
