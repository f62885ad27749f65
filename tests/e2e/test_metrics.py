"""/metrics of real processes, while a generation is watched, resumed, stopped, taken over and throttled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from broadcaster.client import AsyncClient
from broadcaster.observability.limits import LIMITS
from broadcaster.observability.metrics import METRICS
from broadcaster.testing import ScriptedProvider
from tests.e2e.deployment.test_up import running_up
from tests.support.scraping import OPENMETRICS, get, parse_openmetrics, port_of, scrape, scrape_until
from tests.support.servers.processes import Stack, children
from tests.support.watching import ids, viewers_of, watch

MODEL = "claude-scripted"
DEADLINE_S = 60.0


async def test_a_front_end_counts_its_viewers_what_they_received_and_those_that_it_refused(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end(metrics_port=0, tenant_viewers=3)
    port = await port_of(front_end)
    async with AsyncClient(front_end.url) as client:
        generation = await client.start("hi")
        await conversation.send_text("first")
        async with asyncio.timeout(DEADLINE_S):  # the time to an event counts where there is one
            while "first" not in (await client.get(generation.id)).text:
                await asyncio.sleep(0.01)
        first = await watch(front_end.url, generation.id, until=lambda seen: "first" in seen.messages[-1].data)
        viewers = await viewers_of(front_end.url, generation.id, having="first", count=2)
        resumed = asyncio.create_task(watch(front_end.url, generation.id, after=ids(first)[0], query="dialect=delta"))
        await scrape_until(port, lambda now: now.value("broadcaster_viewers") == 3)
        refused = await watch(front_end.url, generation.id)
        assert refused.notices[-1][0] == "hub.bye"
        for number in range(5):
            await conversation.send_text(f" {number}")
        now = await scrape_until(port, lambda now: now.value("broadcaster_deliveries_total", path="live") >= 10)
        assert now.value("broadcaster_viewers", dialect="native") == 2
        assert now.value("broadcaster_viewers", dialect="delta") == 1
        assert now.value("broadcaster_watched_streams") == 1
        await conversation.finish()
        seen = await asyncio.gather(*viewers, resumed)
        last = await scrape_until(port, lambda now: now.value("broadcaster_viewers") == 0)
    native = [len(each.entries) for each in seen[:2]]
    delivered = last.value("broadcaster_deliveries_total")
    assert delivered >= sum(native) + len(first.entries)
    assert last.value("broadcaster_delivered_bytes_total", path="live") > 0
    assert last.value("broadcaster_delivered_bytes_total", path="replay") > 0
    assert last.value("broadcaster_delivery_lag_seconds_count") > 0
    assert last.value("broadcaster_time_to_first_event_seconds_count", dialect="native") == 3
    assert last.value("broadcaster_viewers_opened_total") == 4
    assert last.value("broadcaster_reconnects_total", dialect="delta") == 1
    assert last.value("broadcaster_viewers_closed_total", reason="terminal") == 3
    assert last.value("broadcaster_viewers_closed_total", reason="client_gone") == 1
    assert last.value("broadcaster_limit_reached_total", limit="TENANT_VIEWERS") == 1
    assert last.value("broadcaster_generations_created_total") == 1
    assert last.value("broadcaster_http_requests_total", surface="streams", code="200") == 5
    assert last.value("broadcaster_redis_probe_seconds_count") > 0
    assert last.value("broadcaster_processes", kind="front-end") == 1
    assert last.labels("broadcaster_limit_reached_total", "limit") == set(LIMITS)


async def test_a_worker_counts_its_attempts_tokens_and_stops_and_what_it_took_over(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    stopped, lost, whole = (scripted.conversation(MODEL) for _ in range(3))
    victim = await stack.worker(lease_ttl_s=1, metrics_port=0)
    front_end = await stack.front_end(lease_ttl_s=1)
    port = await port_of(victim)
    async with AsyncClient(front_end.url) as client:
        generation = await client.start("to be stopped")
        await stopped.send_text("partial")
        running = await scrape_until(port, lambda now: now.value("broadcaster_time_to_first_token_seconds_count") == 1)
        assert running.value("broadcaster_running_generations") == 1
        await client.stop(generation.id)
        ended = await scrape_until(port, lambda now: now.value("broadcaster_attempts_total", outcome="aborted") == 1)
        assert ended.value("broadcaster_provider_calls_total", provider="anthropic", outcome="cancelled") == 1
        assert ended.value("broadcaster_appends_total", outcome="appended") >= 2
        assert ended.value("broadcaster_queue_wait_seconds_count") == 1

        generation = await client.start("to be taken over")
        await lost.send_text("torn")
        survivor = await stack.worker(lease_ttl_s=1, metrics_port=0)
        port = await port_of(survivor)
        victim.signal(signal.SIGKILL)
        await whole.send_text("whole")
        await asyncio.sleep(0.1)  # tokens a second need some time
        await whole.finish()
        async with asyncio.timeout(DEADLINE_S):
            while (await client.get(generation.id)).status != "finished":
                await asyncio.sleep(0.05)
        last = await scrape_until(port, lambda now: now.value("broadcaster_attempts_total", outcome="finished") == 1)
    assert last.value("broadcaster_take_overs_total") == 1
    assert last.value("broadcaster_limit_reached_total", limit="LEASE_TTL_S") == 1
    assert last.value("broadcaster_provider_calls_total", outcome="complete") == 1
    assert last.value("broadcaster_provider_seconds_count", provider="anthropic") == 1
    assert last.value("broadcaster_tokens_total", provider="anthropic", model="claude*", direction="output") > 0
    assert last.value("broadcaster_tokens_per_second_count", model="claude*") == 1
    assert last.value("broadcaster_queue_wait_seconds_count") == 0  # it had begun before
    assert last.value("broadcaster_running_generations") == 0


async def test_models_that_callers_invent_add_no_series(stack: Stack, scripted: ScriptedProvider) -> None:
    invented = [f"claude-{number}-{'x' * number}" for number in range(12)]
    conversations = [scripted.conversation(model) for model in invented]
    worker = await stack.worker(metrics_port=0)
    front_end = await stack.front_end()
    port = await port_of(worker)
    async with AsyncClient(front_end.url) as client:
        for model in invented:
            await client.start("hi", model=model)
        for conversation in conversations:
            await conversation.send_text("hello")
            await conversation.finish()
        now = await scrape_until(port, lambda now: now.value("broadcaster_attempts_total", outcome="finished") == 12)
    for name in ("broadcaster_tokens_total", "broadcaster_time_to_first_token_seconds_count"):
        assert now.labels(name, "model") == {"claude*"}
    head, body = await get(port, accept=OPENMETRICS)
    assert "content-type: application/openmetrics-text" in head.lower()
    assert 0 < parse_openmetrics(body) <= len(METRICS)


async def test_one_scrape_of_two_processes_is_their_sum_also_after_one_was_killed(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    house = await stack.front_end(processes=2, metrics_port=0)
    port = await port_of(house)
    async with AsyncClient(house.url) as client:
        generation = await client.start("hi")
        await conversation.send_text("first")
        viewers = await viewers_of(house.url, generation.id, having="first", count=20)
        now = await scrape_until(port, lambda now: now.value("broadcaster_viewers", dialect="native") == 20)
        assert now.value("broadcaster_processes", kind="front-end") == 2
        opened = now.value("broadcaster_viewers_opened_total")
        victim = children(house.pid)[0]
        os.kill(victim, signal.SIGKILL)
        await scrape_until(port, lambda now: now.value("broadcaster_viewers") < 20)
        now = await scrape_until(port, lambda now: now.value("broadcaster_processes") == 2)
        assert now.value("broadcaster_viewers_opened_total") >= opened
        await conversation.finish()
        await asyncio.gather(*viewers, return_exceptions=True)


async def test_up_serves_its_front_end_and_its_workers_at_one_port(tmp_path: Path, scripted: ScriptedProvider) -> None:
    conversation = scripted.conversation(MODEL)
    async with running_up(
        tmp_path, scripted, variables={"BROADCASTER_METRICS_PORT": "0", "BROADCASTER_MODEL_LIST_S": "0"}
    ) as up:
        port = await port_of(up)
        async with AsyncClient(up.url) as client:
            await client.start("hi")
            await conversation.send_text("hello")
            await scrape_until(port, lambda now: now.value("broadcaster_running_generations") == 1)
            now = await scrape_until(port, lambda now: now.value("broadcaster_generations_created_total") == 1)
            await conversation.finish()
        assert now.labels("broadcaster_processes", "kind") == {"front-end", "worker"}
        assert now.value("broadcaster_redis_steady") in (0, 1)
        assert 0 <= now.value("broadcaster_redis_steady_processes") <= now.value("broadcaster_processes")


async def test_without_a_port_nothing_is_served(stack: Stack) -> None:
    worker, front_end = await stack.worker(), await stack.front_end()
    for each in (worker, front_end):
        assert "metrics_served" not in each.log.read_text("utf-8")


async def test_a_port_that_is_taken_ends_the_start_with_its_name(stack: Stack) -> None:
    front_end = await stack.front_end(metrics_port=0)
    port = await port_of(front_end)
    for command in (("worker",), ("broadcaster", "serve", "--port", "0")):
        second = await stack.start(*command, environment={"BROADCASTER_METRICS_PORT": str(port)})
        async with asyncio.timeout(DEADLINE_S):
            assert await second.process.wait() != 0
        assert "BROADCASTER_METRICS_PORT" in second.log.read_text("utf-8")
    assert (await scrape(port)).value("broadcaster_processes") == 1
    assert json.loads(await front_end.logged("metrics_served"))["host"] == "127.0.0.1"
