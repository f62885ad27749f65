"""The courier: what it takes, how soon, how many at once, and what becomes of it when it drains or Redis goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from broadcaster.log.jobs.queue import Job, Settled
from broadcaster.log.redis.connect import LogConnection
from tests.support.apps.webhook_world import WebhookWorld, open_webhook_world, running
from tests.support.log.log_world import TENANT, World
from tests.support.log.valkey import start_valkey
from tests.support.servers.webhook_receiver import Reply, open_receiver


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, max_webhooks=1000)
    await world.queue.create_group()
    return world


@pytest.fixture
async def hooks(world: World) -> AsyncIterator[WebhookWorld]:
    async with open_webhook_world(world) as opened:
        yield opened


async def until_called(condition: Callable[[], Awaitable[bool]], deadline_s: float = 20.0) -> None:
    async with asyncio.timeout(deadline_s):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_webhook_this_worker_made_due_is_delivered_at_once(hooks: WebhookWorld) -> None:
    async with open_receiver() as receiver, running(hooks.courier):
        took_ms: list[float] = []
        for n in range(1, 21):
            began = time.perf_counter()
            await hooks.over(receiver.url)
            await receiver.until_calls(n)
            took_ms.append((time.perf_counter() - began) * 1000)
    took_ms.sort()
    print(f"created, ended and delivered: p50 {took_ms[10]:.1f} ms, max {took_ms[-1]:.1f} ms")
    assert took_ms[10] < 200


async def test_a_webhook_another_process_made_due_is_found(world: World, hooks: WebhookWorld) -> None:
    async with open_receiver() as receiver, running(hooks.courier):
        async with open_webhook_world(World(world.connection)) as elsewhere:
            stream_id = await elsewhere.over(receiver.url)
            await until_called(lambda: delivered(hooks, stream_id))


async def delivered(hooks: WebhookWorld, stream_id: str) -> bool:
    return (await hooks.recorded(stream_id))[0] == "delivered"


async def test_back_offs_end_by_themselves(hooks: WebhookWorld) -> None:
    async with open_receiver() as receiver, running(hooks.courier):
        receiver.script.append(Reply(500))
        stream_id = await hooks.over(receiver.url)
        await until_called(lambda: delivered(hooks, stream_id))
        assert (await hooks.recorded(stream_id))[1] == 2


async def test_no_more_run_than_the_bound_allows(world: World) -> None:
    async with (
        open_receiver(default=Reply(hangs=True)) as receiver,
        open_webhook_world(world, concurrency=3, timeout_s=10) as hooks,
        running(hooks.courier),
    ):
        made = [await hooks.over(receiver.url) for _ in range(9)]
        await receiver.until_calls(3)
        receiver.release()
        for each in made:
            await until_called(lambda each=each: delivered(hooks, each))  # type: ignore[misc]
        assert receiver.most_at_once == 3
        assert len(receiver.calls) == 9


async def test_racing_workers_call_once_for_each_generation(world: World) -> None:
    async with (
        open_receiver() as receiver,
        open_webhook_world(world) as first,
        open_webhook_world(World(world.connection)) as second,
        running(first.courier),
        running(second.courier),
    ):
        made = [await first.over(receiver.url) for _ in range(40)]
        for each in made:
            await until_called(lambda each=each: delivered(first, each))  # type: ignore[misc]
    assert sorted(call.headers["webhook-id"] for call in receiver.calls) == sorted(f"msg_{each}" for each in made)


async def test_a_drain_lets_a_call_end_and_takes_nothing_new(hooks: WebhookWorld) -> None:
    async with open_receiver(default=Reply(hangs=True)) as receiver:
        async with running(hooks.courier):
            stream_id = await hooks.over(receiver.url)
            await receiver.until_calls(1)
            asyncio.get_running_loop().call_later(0.1, receiver.release)
        assert await delivered(hooks, stream_id)


async def test_a_drain_gives_the_rest_back_and_another_worker_takes_it_at_once(hooks: WebhookWorld) -> None:
    async with open_receiver() as receiver:
        receiver.script.append(Reply(hangs=True))
        async with running(hooks.courier, grace_s=0):
            stream_id = await hooks.over(receiver.url)
            await receiver.until_calls(1)
        assert (await hooks.due_in_s(stream_id) or 1) <= 0
        async with open_webhook_world(hooks.world) as another, running(another.courier):
            await until_called(lambda: delivered(another, stream_id))
    assert (await hooks.recorded(stream_id))[1] == 2


async def test_a_promise_that_was_never_made_due_is_found_by_polling(hooks: WebhookWorld) -> None:
    async with open_receiver() as receiver:
        stream_id = await hooks.over(receiver.url)
        keys, redis = hooks.world.keys, hooks.world.redis
        await redis.zrem(keys.webhooks_due, stream_id)
        await redis.zadd(keys.webhooks_promised, {stream_id: 1})
        async with running(hooks.courier):
            await until_called(lambda: delivered(hooks, stream_id))


async def test_a_webhook_that_breaks_its_delivery_is_given_up_like_any_other(hooks: WebhookWorld) -> None:
    async with open_receiver() as receiver:
        stream_id = await hooks.over(receiver.url)
        # An end in a year that no calendar has.
        await hooks.world.redis.hset(hooks.world.keys.meta(stream_id), "ended_ms", 10**18)
        async with running(hooks.courier):
            for attempts in range(1, 5):
                await until_called(lambda n=attempts: attempted(hooks, stream_id, n))  # type: ignore[misc]
                await hooks.world.redis.zadd(hooks.world.keys.webhooks_due, {stream_id: 1})
            await until_called(lambda: gave_up(hooks, stream_id))
    assert (await hooks.recorded(stream_id))[3] == "attempts_spent"


async def attempted(hooks: WebhookWorld, stream_id: str, attempts: int) -> bool:
    return (await hooks.recorded(stream_id))[1] == attempts


async def gave_up(hooks: WebhookWorld, stream_id: str) -> bool:
    return (await hooks.recorded(stream_id))[0] == "gave_up"


@pytest.mark.second_engine
async def test_a_delivery_is_recorded_when_a_redis_that_was_away_during_the_call_is_back(tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("w")
    with start_valkey(folder, appendonly=True) as server:
        async with LogConnection(server.url, timeout_s=0.5) as connection:
            world = World(connection)
            await world.queue.create_group()
            async with (
                open_webhook_world(world) as hooks,
                open_receiver(default=Reply(hangs=True)) as receiver,
                running(hooks.courier),
            ):
                stream_id = await hooks.over(receiver.url)
                await receiver.until_calls(1)
                server.kill()
                receiver.release()
                await asyncio.to_thread(server.start)
                await until_called(lambda: delivered(hooks, stream_id))
                assert len(receiver.calls) == 1


async def test_a_settled_job_wakes_the_courier(hooks: WebhookWorld) -> None:
    async with open_receiver() as receiver:
        stream_id = await hooks.over(receiver.url)
        await hooks.world.redis.zrem(hooks.world.keys.webhooks_due, stream_id)
        await hooks.world.webhooks.promise(stream_id, tenant=TENANT)
        async with running(hooks.courier):
            await hooks.world.queue.settle(
                Job(hooks.world.keys.ready, "0-1", stream_id), Settled.DONE, has_webhook=True
            )
            await receiver.until_calls(1)
