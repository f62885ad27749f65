"""``/v1/models`` with the Anthropic SDK as the client, and HEAD; see test_openai_chat.py for the OpenAI SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import anthropic
import httpx2
import pytest

from broadcaster.core.providers.listed_models import ListedModel, ModelLists
from broadcaster.errors import LogUnavailable
from broadcaster.web import known_models
from broadcaster.web.guards.tenant_rates import TenantRates
from broadcaster.web.known_models import KnownModels
from broadcaster.web.services import Services
from tests.support.servers.front_end import DEADLINE_S, in_process, own_app
from tests.web.mounting.test_mount_rights import Host, call, no_caller

ANTHROPIC = {"anthropic-version": "2023-06-01"}


async def test_the_anthropic_sdk_lists_and_retrieves_models(
    live_client: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    known = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
    async with anthropic.AsyncAnthropic(
        base_url=str(live_client.base_url), api_key="any", max_retries=0, timeout=DEADLINE_S
    ) as sdk:
        page = await sdk.models.list(limit=1)
        one = await sdk.models.retrieve("claude-x")
        with pytest.raises(anthropic.NotFoundError) as caught:
            await sdk.models.retrieve("nobody")
    assert ([model.id for model in page.data], page.has_more) == (known, False)
    assert (page.first_id, page.last_id) == (known[0], known[-1])
    assert (one.type, one.id, one.display_name, one.created_at.year) == ("model", "claude-x", "claude-x", 1970)
    assert caught.value.type == "not_found_error"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/v1/models", 200), ("/v1/models/local", 200), ("/v1/models/nobody", 404), ("/v1/messages", 405)],
)
async def test_head_answers_without_a_body(live_client: httpx2.AsyncClient, *, path: str, status: int) -> None:
    answer = await live_client.head(path)
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/claude-x"])
async def test_a_refusal_has_the_shape_of_the_api_whose_header_the_request_has(services: Services, path: str) -> None:
    services = replace(services, rates=TenantRates(requests_per_s=0.001))  # one at first
    async with in_process(own_app(services)) as client:
        assert (await client.get(path)).status_code == 200
        theirs, ours = [(await client.get(path, headers=headers)).json() for headers in (ANTHROPIC, {})]
    assert (theirs["type"], theirs["error"]["type"]) == ("error", "rate_limit_error")
    assert ("type" in ours, ours["error"]["code"]) == (False, "rate_limit_exceeded")


async def test_a_refusal_by_a_guard_of_a_host_has_that_shape_too() -> None:
    async with Host(can_generate=no_caller).serve() as client:
        theirs = (await call(client, "list_models", headers=ANTHROPIC)).json()
    assert (theirs["type"], theirs["error"]["type"]) == ("error", "permission_error")


LISTS: ModelLists = {
    "anthropic": {
        "claude-new": ListedModel(id="claude-new", name="Claude New", created=1739923200, owner="anthropic"),
        "elsewhere": ListedModel(id="elsewhere"),
    }
}


UNLISTED = ("gpt-*", "resp-*")
"""Patterns of the routes to providers that have no list."""


class StoredLists:
    """The lists as Redis gives them, or what it fails with."""

    def __init__(self) -> None:
        self.lists = LISTS
        self.fault: Exception | None = None
        self.reads = 0

    async def read(self) -> ModelLists:
        self.reads += 1
        if self.fault is not None:
            raise self.fault
        return self.lists


@pytest.fixture
async def stored_lists() -> StoredLists:
    return StoredLists()


@pytest.fixture
async def listing_client(services: Services, stored_lists: StoredLists) -> AsyncIterator[httpx2.AsyncClient]:
    services = replace(services, model_lists=KnownModels(stored_lists.read))
    async with in_process(own_app(services)) as client:
        yield client


async def test_a_model_that_a_provider_lists_is_described_in_the_format_of_either_api(
    listing_client: httpx2.AsyncClient,
) -> None:
    ours = (await listing_client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in ours] == ["local", "claude-new", *UNLISTED]
    described = {"id": "claude-new", "object": "model", "created": 1739923200, "owned_by": "anthropic"}
    assert ours[1] == (await listing_client.get("/v1/models/claude-new")).json() == described
    theirs = (await listing_client.get("/v1/models", headers=ANTHROPIC)).json()
    described = {
        "type": "model", "id": "claude-new", "display_name": "Claude New", "created_at": "2025-02-19T00:00:00Z",
    }  # fmt: skip
    one = await listing_client.get("/v1/models/claude-new", headers=ANTHROPIC)
    assert theirs["data"][1] == one.json() == described
    assert (theirs["first_id"], theirs["last_id"], theirs["has_more"]) == ("local", UNLISTED[-1], False)
    assert (await listing_client.get("/v1/models/elsewhere")).status_code == 404


@pytest.mark.parametrize("fault", [LogUnavailable("away"), TimeoutError()], ids=["away", "silent"])
async def test_without_redis_the_names_and_patterns_of_the_routes_are_listed(
    listing_client: httpx2.AsyncClient, stored_lists: StoredLists, fault: Exception
) -> None:
    stored_lists.fault = fault
    for _ in range(3):
        answer = await listing_client.get("/v1/models")
        listed = [model["id"] for model in answer.json()["data"]]
        assert (answer.status_code, listed) == (200, ["local", "claude*", *UNLISTED])
    assert stored_lists.reads == 1  # the others do not wait for it a second time


async def test_lists_are_read_once_for_all_callers_and_the_last_ones_stay_while_redis_is_away(
    stored_lists: StoredLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownModels(stored_lists.read)
    assert [await each for each in [asyncio.create_task(known()) for _ in range(5)]] == [LISTS] * 5
    assert stored_lists.reads == 1
    monkeypatch.setattr(known_models, "FRESH_S", 0.0)
    known = KnownModels(stored_lists.read)
    assert await known() == LISTS
    stored_lists.fault = LogUnavailable("away")
    assert await known() == LISTS
    assert stored_lists.reads == 3
