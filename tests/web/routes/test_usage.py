"""``/v1/usage`` and budgets, as callers see them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.core.access.api_keys import Keyring
from broadcaster.observability.limits import REACHED
from broadcaster.web.services import Services
from tests.support.memory.memory_usage import MemoryUsage
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import in_process, own_app

PLAIN, SMALL, ADMIN, STARTER = (
    "plain-key-0123456789",
    "small-key-0123456789",
    "admin-key-0123456789",
    "start-key-0123456789",
)
KEYS = json.dumps(
    {
        "web": [PLAIN, {"key": SMALL, "tokens_per_day": 50}, {"key": STARTER, "rights": ["start"]}],
        "ops": [{"key": ADMIN, "rights": ["watch", "admin"]}],
    }
)
MESSAGES = [{"role": "user", "content": "x"}]
CALLS: dict[str, dict[str, Any]] = {
    "/v1/generations": {"prompt": "x"},
    "/v1/chat/completions": {"model": "gpt-1", "messages": MESSAGES},
    "/v1/responses": {"model": "gpt-1", "input": "x", "background": True},
    "/v1/messages": {"model": "claude-1", "max_tokens": 1, "messages": MESSAGES},
}


def credential(key: str) -> str:
    caller = Keyring.read(KEYS).caller_of(key.encode())
    assert caller is not None
    return caller.credential


@pytest.fixture
async def services(world: MemoryWorld) -> AsyncIterator[Services]:
    usage = MemoryUsage({credential(key): 50 for key in (PLAIN, SMALL)})
    async with memory_services(world, usage=usage, tokens_per_day=51) as opened:
        yield opened


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(own_app(services, host="0.0.0.0", auth="keys", api_keys=KEYS)) as opened:
        yield opened


@pytest.mark.parametrize("path", CALLS)
async def test_a_key_that_has_spent_its_budget_creates_nothing_on_any_surface(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str
) -> None:
    refused = await client.post(path, json=CALLS[path], headers={"x-api-key": SMALL})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3601")
    assert "budget" in refused.text
    assert world.requests == []
    if "generations" in path:
        assert (refused.json()["code"], refused.json()["retry"]) == ("budget_spent", False)
    elif "messages" not in path:
        assert refused.json()["error"]["code"] == "insufficient_quota"


@pytest.mark.parametrize("path", ["/v1/generations", "/v1/responses"])
async def test_a_key_that_has_spent_its_budget_finds_the_answer_of_an_earlier_request(
    services: Services, client: httpx2.AsyncClient, world: MemoryWorld, path: str
) -> None:
    assert isinstance(services.usage, MemoryUsage)
    answered = 200 if "responses" in path else 202
    headers = {"x-api-key": SMALL, "idempotency-key": "paid-for"}
    services.usage.tokens[credential(SMALL)] = 49
    assert (await client.post(path, json=CALLS[path], headers=headers)).status_code == answered
    services.usage.tokens[credential(SMALL)] = 50
    reached = REACHED["BUDGET_TOKENS_PER_DAY"]
    for key, status in (("another", 429), ("paid-for", answered)):
        headers["idempotency-key"] = key
        assert (await client.post(path, json=CALLS[path], headers=headers)).status_code == status
    assert REACHED["BUDGET_TOKENS_PER_DAY"] == reached + 1
    world.streams.clear()  # the key is remembered for longer than what it names
    assert (await client.post(path, json=CALLS[path], headers=headers)).status_code == 429
    assert len(world.requests) == 1


async def test_a_key_within_the_budget_of_the_settings_creates_and_is_remembered(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    assert (await client.post("/v1/generations", json={"prompt": "x"}, headers={"x-api-key": PLAIN})).status_code == 202
    assert [request.credential for request in world.requests] == [credential(PLAIN)]


async def test_a_key_sees_its_tenants_usage_and_its_own_budget(client: httpx2.AsyncClient) -> None:
    report = (await client.get("/v1/usage", headers={"x-api-key": SMALL})).json()
    assert (report["tenant"], report["budget"]) == ("web", {"tokens_per_day": 50, "spent_today": 50})
    assert {row["credential"]: row["input_tokens"] for row in report["usage"]} == {
        credential(PLAIN): 50, credential(SMALL): 50,
    }  # fmt: skip
    other = (await client.get("/v1/usage?tenant=web", headers={"x-api-key": PLAIN})).json()
    assert other["budget"] == {"tokens_per_day": 51, "spent_today": 50}


async def test_another_tenants_usage_needs_the_right_admin_and_any_needs_watch(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/v1/usage?tenant=web", headers={"x-api-key": ADMIN})).json()["tenant"] == "web"
    for key, query in ((PLAIN, "?tenant=ops"), (STARTER, "")):
        refused = await client.get(f"/v1/usage{query}", headers={"x-api-key": key})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), refused.text
    assert (await client.get("/v1/usage?days=36", headers={"x-api-key": PLAIN})).status_code == 400
