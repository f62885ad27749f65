"""The share of one tenant in the pending webhooks: promises count until they are delivered or dropped."""

from __future__ import annotations

import pytest

from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import TenantLimit
from broadcaster.log.jobs.webhooks import PendingWebhooks, WebhookLimits, WebhookSettled
from broadcaster.log.redis.connect import LogConnection
from broadcaster.observability.limits import REACHED
from tests.support.log.log_world import World

HOOK = {"url": "https://hooks.example.com/"}
MANY = 40


@pytest.fixture
def world(connection: LogConnection) -> World:
    return World(connection, max_webhooks=2 * MANY, tenant_webhooks=2)


async def refused(webhooks: PendingWebhooks, generation_id: str, *, tenant: str = "mine") -> bool:
    refusal = await webhooks.promise(generation_id, tenant=tenant)
    assert refusal is None or isinstance(refusal, TenantLimit)
    return refusal is not None


async def test_a_tenant_with_its_share_is_refused_and_the_others_are_not(world: World) -> None:
    before = REACHED["TENANT_WEBHOOKS"]
    assert not await refused(world.webhooks, "gen_1")
    assert not await refused(world.webhooks, "gen_2")
    assert await refused(world.webhooks, "gen_3")
    assert not await refused(world.webhooks, "gen_4", tenant="other")
    assert not await refused(world.webhooks, "gen_1")  # a repeated promise is the same one
    assert REACHED["TENANT_WEBHOOKS"] == before + 1


async def test_what_was_delivered_dropped_or_withdrawn_gives_its_place_back(world: World) -> None:
    for given_back in (
        lambda: world.webhooks.withdraw(["gen_1"]),
        lambda: world.webhooks.drop(["gen_1"]),
        lambda: world.webhooks.check_promised(world.streams, end_lapsed=world.lapses.end),  # it was never created
    ):
        assert not await refused(world.webhooks, "gen_1")
        assert not await refused(world.webhooks, "gen_2")
        assert await refused(world.webhooks, "gen_3")
        await world.redis.zadd(world.keys.webhooks_promised, {"gen_1": 1}, xx=True)
        await given_back()
        assert not await refused(world.webhooks, "gen_3")
        await world.webhooks.drop(["gen_2", "gen_3"])


async def test_a_webhook_that_is_due_holds_its_place_until_it_is_settled(world: World) -> None:
    for each in ("gen_1", "gen_2"):
        assert not await refused(world.webhooks, each)
    await world.webhooks.make_due(["gen_1"])
    assert await refused(world.webhooks, "gen_3")
    (taken,) = await world.webhooks.take(1, lease_ms=10_000)
    await world.webhooks.settle(taken, WebhookSettled.DONE)
    assert not await refused(world.webhooks, "gen_3")


async def test_the_set_of_a_tenant_holds_little_that_is_not_pending_and_expires(connection: LogConnection) -> None:
    world = World(connection, max_webhooks=10, tenant_webhooks=10)
    for at in range(MANY):
        assert not await refused(world.webhooks, f"gen_{at}")
        await world.webhooks.drop([f"gen_{at}"])
    key = world.keys.webhooks_of("mine")
    assert await world.redis.zcard(key) <= 2
    assert await world.redis.pttl(key) > 0


async def test_a_full_share_finds_places_behind_many_that_are_pending_still(connection: LogConnection) -> None:
    world = World(connection, max_webhooks=2 * MANY, tenant_webhooks=MANY)
    for at in range(MANY):
        assert not await refused(world.webhooks, f"gen_{at}")
    assert await refused(world.webhooks, "gen_more")
    await world.webhooks.drop([f"gen_{MANY - 1}"])
    assert not await refused(world.webhooks, "gen_more")


async def test_a_generation_beyond_its_tenants_share_is_refused_and_leaves_nothing_behind(world: World) -> None:
    for _ in range(2):
        await world.create(webhook=HOOK)
    before = await world.redis.zrange(world.keys.webhooks_promised, 0, -1)
    with pytest.raises(TenantLimit, match="TENANT_WEBHOOKS"):
        await world.create(webhook=HOOK)
    assert await world.redis.zrange(world.keys.webhooks_promised, 0, -1) == before
    await world.create()


def test_a_share_that_is_not_set_is_nine_tenths_and_all_of_it_for_a_server_without_keys() -> None:
    limits = WebhookLimits(1000)
    assert (limits.pending_of("mine"), limits.pending_of(LOCAL_TENANT)) == (900, 1000)
    assert WebhookLimits(1).pending_of("mine") == 1
    assert WebhookLimits(1000, 5).pending_of(LOCAL_TENANT) == 5
