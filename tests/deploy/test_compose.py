"""What docker-compose.yml describes is run for real, without Docker: Valkey, two front-ends, two workers; and Caddy."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broadcaster.client import AsyncClient
from broadcaster.core.sse import SseDecoder
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Script, ScriptedProvider
from tests.deploy.caddy import caddy
from tests.deploy.containers import Containers
from tests.deploy.files import FILLED_IN, compose_environment, seconds
from tests.deploy.valkey import ADMIN, DeployedValkey, start_deployed
from tests.support.servers.processes import Running

MODEL = "claude-sonnet-5-5"
KEY = {"authorization": f"Bearer {FILLED_IN}"}
# Port 1 of the loopback: no process listens there.
UNREACHABLE = "127.0.0.1:1"
OURS = ("front-end-1", "front-end-2", "worker-1", "worker-2")


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        provider.script(MODEL, Script.of_text("one ", "two ", "three"))
        yield provider


@pytest.fixture
def environment(environment: dict[str, str], provider: ScriptedProvider) -> dict[str, str]:
    """.env with an admin, and the scripted provider as the one that workers call."""
    provider_settings = {"ANTHROPIC_BASE_URL": provider.base_url, "ANTHROPIC_API_KEY": FILLED_IN}
    return environment | provider_settings | {"VALKEY_ADMIN_PASSWORD": ADMIN}


@asynccontextmanager
async def deployed(
    folder: Path, services: Mapping[str, Any], environment: Mapping[str, str], *names: str, **besides: str
) -> AsyncIterator[tuple[Containers, DeployedValkey]]:
    """Valkey and these services, running; ``besides`` are settings that compose leaves alone."""
    with start_deployed(folder / "valkey", compose_environment(services["valkey"], environment)) as valkey:
        containers = Containers(folder, services, environment, valkey.port, besides)
        try:
            await asyncio.gather(*(containers.start(name) for name in names))
            yield containers, valkey
        finally:
            await containers.end()


async def received_by(client: httpx2.AsyncClient, stream_id: str) -> list[str]:
    """The types of a stream's events, read to its end."""
    response = await client.get(f"/v1/streams/{stream_id}/events")
    messages = SseDecoder().decode(response.content)
    return [json.loads(each.data)["type"] for each in messages if each.event == "message"]


async def denials(valkey: DeployedValkey) -> list[str]:
    """What Valkey refused to a client that connected: commands and keys without a right to them."""
    async with LogConnection(valkey.admin_url) as connection:
        log = await connection.redis.acl_log()
    return [f"{each['reason']} {each['object']}" for each in log]


async def test_a_caller_with_a_key_runs_a_generation_and_a_feed_and_everything_ends_in_time_at_a_signal(
    tmp_path: Path, services: Mapping[str, Any], environment: Mapping[str, str]
) -> None:
    async with deployed(tmp_path, services, environment, *OURS) as (containers, valkey):
        first, second = (containers.running[name].url for name in OURS[:2])
        async with (
            AsyncClient(first, FILLED_IN) as one,
            AsyncClient(second, FILLED_IN) as other,
            httpx2.AsyncClient(base_url=second, headers=KEY, timeout=10) as viewer,
        ):
            generation = await one.start("Count to three.")
            assert (await received_by(viewer, generation.id))[-1] == "finish"
            whole = await other.get(generation.id)
            assert (whole.status, whole.text, whole.model) == ("finished", "one two three", MODEL)
            await one.create_stream("nightly")
            await one.append("nightly", [{"type": "data-progress", "data": {"done": n}} for n in range(3)])
            await one.close("nightly")
            assert await received_by(viewer, "nightly") == ["data-progress"] * 3 + ["finish"]
            # A right that is missing would show here, also where the code goes on without it.
            assert await denials(valkey) == []
            valkey.kill()
            valkey.start()
            assert (await one.get(generation.id)).text == "one two three"
            await one.delete(generation.id)
        assert await denials(valkey) == []
        await is_closed_without_a_key(first)
        for name in OURS:
            await ends_in_time(containers.running[name], seconds(services[name]["stop_grace_period"]))
            assert FILLED_IN not in containers.running[name].log.read_text()


async def is_closed_without_a_key(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/v1/generations")).status_code == 401
        wrong = {"authorization": "Bearer 0123456789abcdef"}
        assert (await client.get("/v1/generations", headers=wrong)).status_code == 401
        assert (await client.get("/v1/generations", headers=KEY)).status_code == 200
        # What the health checks of the image, of compose and of Kubernetes request: under any name, without a key.
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path, headers={"host": "10.1.2.3:8000"})).status_code == 200


async def ends_in_time(running: Running, grace_s: float) -> None:
    """It must not need the grace while it has nothing to do; the sums are checked by test_settings.py."""
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    async with asyncio.timeout(grace_s):
        assert await running.process.wait() == 0, running.log.read_text()[-2000:]
    print(f"{running.log.stem} ended after {time.monotonic() - began:.1f} s of {grace_s:g} s")


async def test_caddy_passes_events_on_as_they_come_and_lets_go_of_viewers_that_left(
    tmp_path: Path, services: Mapping[str, Any], environment: Mapping[str, str], provider: ScriptedProvider
) -> None:
    conversation = provider.conversation(MODEL)
    # The number of viewers is reported three times within it.
    quickly = {"BROADCASTER_PRESENCE_TTL_S": "0.9"}
    async with deployed(tmp_path, services, environment, "front-end-1", "worker-1", **quickly) as (containers, _):
        address = containers.running["front-end-1"].url.removeprefix("http://")
        async with (
            caddy(tmp_path, f"{address} {UNREACHABLE}") as url,
            httpx2.AsyncClient(base_url=url, headers=KEY, timeout=10) as client,
        ):
            closed = [await client.get(f"/{path}") for path in ("metrics", "metrics/", "metrics/all", "metrics;x")]
            assert [(each.status_code, each.content) for each in closed] == [(404, b"")] * 4
            # One of the two front-ends is not there, which no client notices.
            assert {(await client.get("/healthz")).status_code for _ in range(4)} == {200}
            generation = (await client.post("/v1/generations", json={"prompt": "hi"})).json()
            path = f"/v1/generations/{generation['id']}"
            async with client.stream("GET", generation["events_url"]) as response:
                parts = response.aiter_text()
                assert response.headers["content-type"].startswith("text/event-stream")
                await conversation.send_text("live ")
                # The answer goes on: a buffer anywhere would hold this back.
                received = ""
                while "live " not in received:
                    received += await anext(parts)
                await until_viewers(client, path, 1)
            await until_viewers(client, path, 0)
            await conversation.finish()
            assert (await client.get(path, params={"wait_s": 5})).json()["text"] == "live "


async def test_caddy_without_a_front_end_lets_an_event_source_retry_and_answers_others_with_an_error(
    tmp_path: Path,
) -> None:
    async with caddy(tmp_path, UNREACHABLE) as url, httpx2.AsyncClient(base_url=url, timeout=20) as client:
        follows, answered = await asyncio.gather(
            client.get("/v1/streams/gen_x/events"), client.post("/v1/generations", json={"prompt": "hi"})
        )
    assert (follows.status_code, follows.headers["content-type"]) == (200, "text/event-stream")
    assert [each.event for each in SseDecoder().decode(follows.content)] == ["hub.bye"]
    assert "retry: 2000\n" in follows.text
    assert answered.status_code in (502, 503)  # it cannot be reached; it is known not to be


async def until_viewers(client: httpx2.AsyncClient, path: str, count: int) -> None:
    async with asyncio.timeout(30):
        while (await client.get(path)).json()["viewers"] != count:
            await asyncio.sleep(0.02)
