"""A webhook in the body of ``POST /v1/generations``, and what ``GET`` shows of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.log.streams.webhook_meta import WebhookMeta, WebhookState
from broadcaster.settings import Settings
from broadcaster.webhooks.url import WebhookHosts
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import in_process, own_app

URL = "/v1/generations"
HOOK = {"url": "https://hooks.example.com/h?token=s3cret"}


@pytest.fixture
async def listing_client(world: MemoryWorld) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a front-end whose operator has listed a host."""
    async with memory_services(world, webhook_hosts=WebhookHosts(["hooks.example.com"])) as services:
        async with in_process(own_app(services)) as client:
            yield client


async def test_a_webhook_to_a_listed_host_goes_along(listing_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    for hook in (HOOK, {**HOOK, "events": ["failed"]}):
        response = await listing_client.post(URL, json={"prompt": "a", "webhook": hook})
        assert response.status_code == 202
        assert world.requests[-1].webhook == hook
    assert response.json()["webhook"] == {
        "host": "hooks.example.com",
        "state": "pending",
        "attempts": 0,
        "last_status": None,
        "last_fault": None,
    }


async def test_a_shown_webhook_names_the_host_and_never_the_rest_of_the_url(
    listing_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    webhook = WebhookMeta(
        url=HOOK["url"], state=WebhookState.GAVE_UP, attempts=8, last_status=503, last_fault="attempts_spent"
    )
    world.add("gen_a", webhook=webhook)
    for query in ("", "?parts=false"):
        response = await listing_client.get(f"{URL}/gen_a{query}")
        assert response.json()["webhook"] == {
            "host": "hooks.example.com",
            "state": "gave_up",
            "attempts": 8,
            "last_status": 503,
            "last_fault": "attempts_spent",
        }
        assert "s3cret" not in response.text


async def test_a_host_that_is_not_listed_is_refused_and_nothing_is_started(
    listing_client: httpx2.AsyncClient, client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    elsewhere = {"url": "https://evil.example/"}
    for caller, hook in ((listing_client, elsewhere), (client, HOOK)):
        refused = await caller.post(URL, json={"prompt": "a", "webhook": hook})
        assert (refused.status_code, refused.json()["code"]) == (400, "webhook_not_allowed")
        assert "BROADCASTER_WEBHOOK_HOSTS" in refused.json()["detail"]
        assert "s3cret" not in refused.text
    assert world.requests == []


@pytest.mark.parametrize(
    "hook",
    [
        {},
        {"url": ""},
        {"url": 7},
        {"url": "https://hooks.example.com/" + "a" * 2048},
        {**HOOK, "events": []},
        {**HOOK, "events": ["ended"]},
        {**HOOK, "secret": "mine"},
        "https://hooks.example.com/",
    ],
)
async def test_a_webhook_that_is_none_is_a_fault_of_the_body(
    listing_client: httpx2.AsyncClient, world: MemoryWorld, hook: Any
) -> None:
    refused = await listing_client.post(URL, json={"prompt": "a", "webhook": hook})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
    assert refused.json()["errors"][0]["pointer"].startswith("#/webhook")
    assert world.requests == []


def test_hosts_are_given_in_a_line_or_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADCASTER_WEBHOOK_SECRET", "x" * 24)
    for text in ("a.example,*.b.example", ' ["a.example", "*.b.example"]'):
        monkeypatch.setenv("BROADCASTER_WEBHOOK_HOSTS", text)
        settings = Settings()
        assert settings.webhook_hosts == ("a.example", "*.b.example")
        assert Settings.model_validate(settings.model_dump()) == settings
        assert "xxx" not in repr(settings)


@pytest.mark.parametrize(("hosts", "secret"), [(["a b"], "x" * 24), (["*"], "x" * 23)])
def test_settings_that_cannot_be_meant_are_refused(hosts: list[str], secret: str) -> None:
    with pytest.raises(ValueError):
        Settings.model_validate({"webhook_hosts": hosts, "webhook_secret": secret})
