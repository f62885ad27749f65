"""A call that finds no viewer's place is refused before anything was created for it: nothing is paid for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from pydantic import SecretStr

from broadcaster.core.events import Finish, Start, TextDelta
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import Busy, QueueFull, TenantLimit
from broadcaster.hub.limits import HubLimits, TenantBound
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.wiring import hub_limits
from tests.support.apps.mounting import Mounted, create_host
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, in_process, own_app, served
from tests.web.surfaces.calls import CALLS, REQUEST

STAYING = {name: call for name, call in CALLS.items() if name not in ("generations", "responses in the background")}
STAYING["a generation that is waited for"] = ("/v1/generations?wait_s=9", {"messages": REQUEST})
STAYING["a generation that is preferred to be waited for"] = ("/v1/generations", {"messages": REQUEST, "stream": False})
FULL = HubLimits(max_viewers=1, retry_ms=100)
OF_ONE_TENANT = HubLimits(tenant_viewers=TenantBound(1), retry_ms=100)


@pytest.mark.parametrize(("limits", "statuses"), [(FULL, {503, 529}), (OF_ONE_TENANT, {429})], ids=["all", "tenant"])
@pytest.mark.parametrize(("path", "body"), STAYING.values(), ids=STAYING)
async def test_a_call_without_a_place_creates_nothing_and_the_next_one_with_a_place_does(
    world: MemoryWorld, limits: HubLimits, statuses: set[int], path: str, body: dict[str, Any]
) -> None:
    async with memory_services(world, limits=limits) as services, client_of(services) as client:
        with services.hub.reserve(LOCAL_TENANT):
            refused = await client.post(path, json=body)
        assert refused.status_code in statuses
        assert "broadcaster-generation-id" not in refused.headers
        assert not world.requests
        assert await services.chats.latest("c", tenant=LOCAL_TENANT) is None
        world.on_create = lambda each: world.append(each, Start(), TextDelta(id="0", delta="Hi"), Finish())
        assert (await client.post(path, json=body)).status_code == 200
        assert len(world.requests) == 1
        assert is_free(services)


@pytest.mark.parametrize(("path", "body"), STAYING.values(), ids=STAYING)
async def test_a_tenant_with_as_many_long_polls_as_it_may_have_may_still_stream(
    world: MemoryWorld, path: str, body: dict[str, Any]
) -> None:
    world.on_create = lambda each: world.append(each, Start(), TextDelta(id="0", delta="Hi"), Finish())
    limits = HubLimits(tenant_long_polls=TenantBound(1), retry_ms=100)
    async with memory_services(world, limits=limits) as services, client_of(services) as client:
        with services.hub.reserve(LOCAL_TENANT, waits=True):
            answer = await client.post(path, json=body)
        is_stream = body.get("stream") or path in ("/api/chat", "/agui")
        assert answer.status_code == (200 if is_stream else 429)
        assert len(world.requests) == bool(is_stream)


async def test_each_api_reports_a_limit_of_the_tenant_in_its_own_format(world: MemoryWorld) -> None:
    async with memory_services(world, limits=OF_ONE_TENANT) as services, client_of(services) as client:
        with services.hub.reserve(LOCAL_TENANT):
            result = {name: (await client.post(path, json=body)).json() for name, (path, body) in STAYING.items()}
            stream = await client.get("/v1/streams/gen_a/events")
    assert result["a streamed generation"]["code"] == "tenant_limit"
    assert "BROADCASTER_TENANT_VIEWERS" in result["a streamed generation"]["detail"]
    assert result["chat completions"]["error"]["type"] == result["responses"]["error"]["type"] == "rate_limit_error"
    assert result["messages"]["error"]["type"] == "rate_limit_error"
    assert result["ai sdk"]["code"] == result["ag-ui"]["code"] == "tenant_limit"
    assert stream.status_code == 404  # what can never succeed comes first


async def test_a_viewer_over_its_tenants_bound_is_notified_inside_its_stream(world: MemoryWorld) -> None:
    world.add("gen_a")
    async with memory_services(world, limits=OF_ONE_TENANT) as services, client_of(services) as client:
        with services.hub.reserve(LOCAL_TENANT):
            stream = await client.get("/v1/streams/gen_a/events")
    assert stream.status_code == 200
    assert '{"reason":"limit","reconnect":true}' in stream.text.replace(" ", "")


async def test_repetitions_of_the_real_sdks_start_no_answers(world: MemoryWorld) -> None:
    """Each of them tries three times, because the response allows it."""
    async with memory_services(world, limits=FULL) as services:
        async with served(own_app(services), services) as client, AsyncExitStack() as stack:
            url = str(client.base_url).rstrip("/")
            openai_sdk = await stack.enter_async_context(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any"))
            anthropic_sdk = await stack.enter_async_context(anthropic.AsyncAnthropic(base_url=url, api_key="any"))
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: openai_sdk.chat.completions.create(model="local", messages=REQUEST),  # type: ignore[arg-type]
                lambda: openai_sdk.responses.create(model="local", input="Hi", stream=True),
                lambda: anthropic_sdk.messages.create(model="local", max_tokens=9, messages=REQUEST),  # type: ignore[arg-type]
            ]
            with services.hub.reserve(LOCAL_TENANT):
                outcomes = await asyncio.gather(*(call() for call in calls), return_exceptions=True)
    assert [getattr(each, "status_code", each) for each in outcomes] == [503, 503, 529]
    assert not world.requests


@pytest.mark.parametrize(("path", "body"), STAYING.values(), ids=STAYING)
async def test_a_place_is_given_back_when_the_creation_fails(
    world: MemoryWorld, path: str, body: dict[str, Any]
) -> None:
    world.refusal = QueueFull("full")
    async with memory_services(world, limits=FULL) as services, client_of(services) as client:
        assert (await client.post(path, json=body)).status_code in (503, 529)
        assert is_free(services)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_place_is_given_back_when_its_client_goes_away(world: MemoryWorld, stream: bool) -> None:
    async with memory_services(world, limits=FULL) as services:
        async with served(own_app(services), services) as client:
            body = {"model": "local", "messages": REQUEST, "stream": stream}
            call = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            async with asyncio.timeout(DEADLINE_S):
                while not world.requests:
                    await asyncio.sleep(0.01)
                assert not is_free(services)
                call.cancel()
                await asyncio.wait({call})
                while not is_free(services):
                    await asyncio.sleep(0.01)
            assert len(world.requests) == 1  # the client did not try again


async def test_a_replay_by_its_key_needs_a_place_too(world: MemoryWorld) -> None:
    world.on_create = lambda each: world.append(each, Start(), Finish())
    key = {"idempotency-key": "once"}
    path, body = CALLS["streamed chat completions"]
    async with memory_services(world, limits=FULL) as services, client_of(services) as client:
        assert (await client.post(path, json=body, headers=key)).status_code == 200
        with services.hub.reserve(LOCAL_TENANT):
            assert (await client.post(path, json=body, headers=key)).status_code == 503
        assert (await client.post(path, json=body, headers=key)).status_code == 200
        assert len(world.requests) == 1


STREAMED = {name: call for name, call in STAYING.items() if name.startswith("streamed") or name in ("ai sdk", "ag-ui")}


@pytest.mark.parametrize(("path", "body"), STREAMED.values(), ids=STREAMED)
@pytest.mark.parametrize("key", [None, "once"])
async def test_a_generation_that_a_drain_refuses_after_its_creation_is_deleted_unless_a_key_leads_back_to_it(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any], key: str | None
) -> None:
    async with memory_services(world) as services, client_of(services) as client:
        world.on_create = lambda each: monkeypatch.setattr(services.hub, "_is_draining", True)
        refused = await client.post(path, json=body, headers={"idempotency-key": key} if key else {})
        assert refused.status_code in (503, 529)
        assert len(world.requests) == 1
        assert bool(world.streams) == ("broadcaster-generation-id" in refused.headers) == (key is not None)


async def test_the_router_in_another_app_refuses_before_it_creates() -> None:
    mounted = Mounted()
    mounted.changes = {"limits": FULL}
    app = create_host(("/llm", mounted.router))
    async with app.router.lifespan_context(app), in_process(app) as client:
        assert mounted.hub is not None
        with mounted.hub.reserve(LOCAL_TENANT):
            for path, body in STAYING.values():
                assert (await client.post(f"/llm{path}", json=body)).status_code in (503, 529)
        assert not mounted.world.requests


def test_a_tenants_share_is_nine_tenths_unless_it_is_alone_or_the_settings_differ() -> None:
    keys = json.dumps({"a": ["a" * 20], "local": ["b" * 20]})
    alone = hub_limits(Settings(max_viewers=50))
    keyed = hub_limits(Settings(max_viewers=50, auth="keys", api_keys=SecretStr(keys)))
    assert alone.tenant_viewers.admits("local", 49)
    assert not alone.tenant_viewers.admits("of a mounted router", 45)
    assert keyed.tenant_viewers.admits("a", 44)
    assert not keyed.tenant_viewers.admits("a", 45)
    assert not keyed.tenant_long_polls.admits("local", 45)
    assert not hub_limits(Settings(tenant_viewers=3)).tenant_viewers.admits("local", 3)
    assert hub_limits(Settings(max_viewers=30_000)).max_rooms == 30_000


def is_free(services: Services) -> bool:
    """Whether no place is taken."""
    try:
        with services.hub.reserve(LOCAL_TENANT, waits=True):
            return not services.hub.viewers()
    except (Busy, TenantLimit):
        return False


@asynccontextmanager
async def client_of(services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(own_app(services)) as client:
        yield client
