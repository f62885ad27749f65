"""Webhooks through real processes: requested over HTTP, delivered by a worker, whatever dies in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broadcaster import Broadcaster
from broadcaster.core.requests.webhook_options import WebhookOptions
from broadcaster.log.redis.connect import LogConnection
from broadcaster.sync import Publisher
from broadcaster.testing import Script, ScriptedProvider
from tests.support.servers.processes import Running, Stack, open_stack
from tests.support.servers.webhook_receiver import SECRET, Receiver, Reply, open_receiver

MODEL = "claude-scripted"


@pytest.fixture
async def hooked(tmp_path: Path, connection: LogConnection, scripted: ScriptedProvider) -> AsyncIterator[Stack]:
    """A stack whose processes let webhooks go to this machine."""
    settings = {"webhook_hosts": "127.0.0.1:*", "webhook_secret": SECRET, "webhook_timeout_s": 1, "lease_ttl_s": 1}
    async with open_stack(
        tmp_path, redis_url=connection.url, provider_url=scripted.base_url, default_model=MODEL, **settings
    ) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver() as opened:
        yield opened


class Caller:
    """A caller with an HTTP client that does not watch."""

    def __init__(self, front_end: Running) -> None:
        self._url = f"{front_end.url}/v1/generations"

    async def post_generation(self, url: str, **options: Any) -> httpx2.Response:
        async with httpx2.AsyncClient() as client:
            return await client.post(self._url, json={"prompt": "hi", "webhook": {"url": url}, **options})

    async def start(self, url: str, **options: Any) -> str:
        response = await self.post_generation(url, **options)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def until(self, generation_id: str, state: str, *, timeout_s: float = 20) -> dict[str, Any]:
        """The generation, once its webhook's state is this."""
        async with httpx2.AsyncClient() as client, asyncio.timeout(timeout_s):
            while True:
                seen: dict[str, Any] = (await client.get(f"{self._url}/{generation_id}")).json()
                if seen["webhook"]["state"] == state:
                    return seen
                await asyncio.sleep(0.02)

    async def stop(self, generation_id: str) -> None:
        async with httpx2.AsyncClient() as client:
            await client.post(f"{self._url}/{generation_id}/stop")


@pytest.mark.second_engine
async def test_a_caller_that_does_not_watch_soon_receives_the_whole_answer_by_webhook(
    hooked: Stack, scripted: ScriptedProvider, receiver: Receiver
) -> None:
    scripted.script(MODEL, Script.of_text("the ", "answer"))
    worker, front_end = await hooked.worker(), await hooked.front_end()
    caller = Caller(front_end)
    took_ms: list[float] = []
    for n in range(1, 21):
        generation_id = await caller.start(receiver.url, metadata={"n": n})
        call = (await receiver.until_calls(n))[-1]
        now_s = time.time()
        payload = call.verify()
        took_ms.append((now_s - payload["data"]["ended_at"]) * 1000)
        assert (payload["type"], payload["data"]["id"]) == ("generation.finished", generation_id)
        assert (payload["data"]["text"], payload["data"]["metadata"]) == ("the answer", {"n": n})
    seen = await caller.until(generation_id, "delivered")
    assert seen["webhook"] == {
        "host": "127.0.0.1",
        "state": "delivered",
        "attempts": 1,
        "last_status": 200,
        "last_fault": None,
    }
    for name in ("text", "parts", "usage", "created_at", "started_at", "ended_at", "events_url", "attempt", "error"):
        assert payload["data"][name] == seen[name], name
    print(f"terminal event → receiver: p50 {sorted(took_ms)[10]:.1f} ms, max {max(took_ms):.1f} ms")
    assert sorted(took_ms)[10] < 500
    for process in (worker, front_end):
        logged = process.log.read_text()
        assert "s3cret" not in logged
        assert SECRET.removeprefix("whsec_") not in logged
    await worker.logged("webhook_delivered")


async def test_a_feeds_end_is_reported_whichever_program_has_written_it(
    hooked: Stack, receiver: Receiver, connection: LogConnection
) -> None:
    await hooked.worker()
    front_end = await hooked.front_end()
    webhook: WebhookOptions = {"url": receiver.url, "events": ["finished"]}
    async with httpx2.AsyncClient(base_url=f"{front_end.url}/v1/streams") as client:
        assert (await client.put("/by-http", json={"webhook": webhook})).status_code == 201
        await client.post("/by-http/events", json={"type": "data-step", "data": 1})
        await client.post("/by-http/close")
    options: Any = {"webhook_hosts": "127.0.0.1:*"}
    async with Broadcaster.from_url(connection.url, **options) as broadcaster:
        await broadcaster.publish(["by ", "a program"], id="by-library", webhook=webhook)
    await asyncio.to_thread(publish_blocking, connection.url, webhook)
    payloads = await receiver.until_payloads(3)
    assert {payload["type"] for payload in payloads.values()} == {"feed.finished"}
    assert payloads["by-http"]["data"]["parts"] == [{"type": "data-step", "data": 1}]
    assert payloads["by-library"]["data"]["text"] == "by a program"
    assert payloads["by-sync"]["data"]["parts"][0]["data"]["done"] == 1
    async with httpx2.AsyncClient() as client, asyncio.timeout(20):
        while (seen := await client.get(f"{front_end.url}/v1/streams/by-http")).json()["webhook"]["state"] == "pending":
            await asyncio.sleep(0.02)
    assert (seen.json()["webhook"]["state"], "s3cret" in seen.text) == ("delivered", False)


def publish_blocking(redis_url: str, webhook: WebhookOptions) -> None:
    with Publisher.from_url(redis_url, webhook_hosts="127.0.0.1:*") as publisher:
        with publisher.feed("by-sync", webhook=webhook) as feed:
            feed.progress(1, 1, "done")


async def test_a_worker_killed_between_the_end_and_the_delivery_is_made_good_by_another(
    hooked: Stack, scripted: ScriptedProvider, receiver: Receiver
) -> None:
    scripted.script(MODEL, Script.of_text("the answer"))
    receiver.script.append(Reply(hangs=True))
    victim, front_end = await hooked.worker(), await hooked.front_end()
    caller = Caller(front_end)
    generation_id = await caller.start(receiver.url, retention_s=1)
    await receiver.until_calls(1)
    await victim.kill()
    await hooked.worker()
    seen = await caller.until(generation_id, "delivered", timeout_s=30)
    assert seen["webhook"]["attempts"] == 2
    first, second = receiver.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert second.verify()["data"]["text"] == "the answer"


async def test_a_webhook_of_a_generation_that_never_ran_is_delivered_by_the_first_worker_that_starts(
    hooked: Stack, receiver: Receiver
) -> None:
    front_end = await hooked.front_end(stall_timeout_s=1.5)
    caller = Caller(front_end)
    generation_id = await caller.start(receiver.url)
    async with httpx2.AsyncClient(timeout=20) as client:
        seen = await client.get(f"{front_end.url}/v1/generations/{generation_id}?wait_s=15")
    assert seen.json()["error"]["code"] == "worker_lost"
    assert receiver.calls == []
    await hooked.worker()
    assert (await receiver.until_calls(1))[0].verify()["type"] == "generation.failed"


async def test_a_stopped_generation_and_a_failed_one_are_reported_as_such(
    hooked: Stack, scripted: ScriptedProvider, receiver: Receiver
) -> None:
    await hooked.worker()
    caller = Caller(await hooked.front_end())
    conversation = scripted.conversation(MODEL)
    stopped = await caller.start(receiver.url)
    await conversation.send_text("half an ans")
    await caller.stop(stopped)
    payload = (await receiver.until_calls(1))[0].verify()
    assert (payload["type"], payload["data"]["id"]) == ("generation.aborted", stopped)
    torn = scripted.conversation(MODEL)
    failed = await caller.start(receiver.url)
    await torn.send_text("torn")
    await torn.fail()
    payload = (await receiver.until_calls(2))[1].verify()
    assert (payload["type"], payload["data"]["id"]) == ("generation.failed", failed)
    assert payload["data"]["error"]["code"].startswith("provider_")


async def test_a_host_that_is_not_listed_and_webhooks_that_are_off_are_refused_with_the_remedy(
    hooked: Stack, receiver: Receiver
) -> None:
    caller = Caller(await hooked.front_end())
    for url in ("https://evil.example/", "http://localhost/", "https://169.254.169.254/", "https://u@127.0.0.1/"):
        refused = await caller.post_generation(url)
        assert (refused.status_code, refused.json()["code"]) == (400, "webhook_not_allowed")
    off = await Caller(await hooked.front_end(webhook_hosts="")).post_generation(receiver.url)
    assert (off.status_code, off.json()["code"]) == (400, "webhook_not_allowed")
    assert "BROADCASTER_WEBHOOK_HOSTS" in off.json()["detail"]


async def test_beyond_the_bound_of_pending_webhooks_the_response_is_busy(hooked: Stack, receiver: Receiver) -> None:
    caller = Caller(await hooked.front_end(max_webhooks=1))
    await caller.start(receiver.url)
    refused = await caller.post_generation(receiver.url)
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "busy", "1")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"webhook_hosts": "a.example"}, "WEBHOOK_SECRET"),
        ({"webhook_hosts": "https://a.example/", "webhook_secret": SECRET}, "WEBHOOK_HOSTS"),
        ({"webhook_hosts": "a.example", "webhook_secret": "tooshort-s3cret"}, "WEBHOOK_SECRET"),
    ],
)
async def test_settings_that_contradict_each_other_are_refused_at_the_start(
    stack: Stack, settings: dict[str, str], remedy: str
) -> None:
    environment = {f"BROADCASTER_{name.upper()}": value for name, value in settings.items()}
    # A front-end signs no webhook: it needs no secret.
    serving = [("broadcaster", "serve", "--port", "0")] if "webhook_secret" in settings else []
    for command in (("worker",), *serving):
        refused = await stack.start(*command, environment=environment)
        async with asyncio.timeout(20):
            assert await refused.process.wait() == 2
        logged = refused.log.read_text()
        assert remedy in logged
        assert "s3cret" not in logged
        assert "Traceback" not in logged
