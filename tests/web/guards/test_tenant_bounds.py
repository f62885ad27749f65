"""What one tenant may have stored and open, as its callers and those of others see it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import served
from tests.web.surfaces.calls import RUN

MINE = {"authorization": "Bearer the-key-of-mine-0"}
OTHERS = {"authorization": "Bearer the-key-of-others"}
LARGE = "x" * 600_000


@pytest.fixture
async def http(connection: LogConnection) -> AsyncIterator[httpx2.AsyncClient]:
    keys = json.dumps({"mine": ["the-key-of-mine-0"], "others": ["the-key-of-others"]})
    bounds = {"tenant_feeds": 2, "tenant_stored_bytes": 2**20}
    settings = Settings.model_validate({"redis_url": connection.url, "auth": "keys", "api_keys": keys, **bounds})
    async with open_services(settings) as services, served(create_app(settings, services=services), services) as opened:
        yield opened


def is_refused(response: httpx2.Response, setting: str) -> bool:
    return response.status_code == 429 and setting in response.text and int(response.headers["retry-after"]) >= 1


async def test_a_tenant_that_opens_feed_after_feed_is_refused_and_others_are_not(http: httpx2.AsyncClient) -> None:
    urls = [f"/v1/streams/f{at}" for at in range(3)]
    for url in urls[:2]:
        assert (await http.put(url, headers=MINE)).status_code == 201
    assert is_refused(await http.put("/ds/f2", headers=MINE), "TENANT_FEEDS")
    refused = await http.put(urls[2], headers=MINE)
    assert is_refused(refused, "TENANT_FEEDS")
    assert refused.json()["code"] == "tenant_limit"
    assert (await http.put(urls[0], headers=MINE)).status_code == 200
    assert (await http.put(urls[2], headers=OTHERS)).status_code == 201
    assert (await http.post(f"{urls[0]}/close", headers=MINE)).status_code == 200
    assert (await http.put(urls[2], headers=MINE)).status_code == 201


async def test_a_request_that_is_repeated_with_its_key_gets_its_answer_when_the_tenant_has_filled_redis(
    http: httpx2.AsyncClient,
) -> None:
    async def start(key: str) -> httpx2.Response:
        headers = {**MINE, "idempotency-key": key}
        return await http.post("/v1/generations", json={"prompt": LARGE}, headers=headers)

    first = await start("k")
    assert (await start("l")).status_code == 202
    assert is_refused(await start("m"), "TENANT_STORED_BYTES")
    repeated = await start("k")
    assert (repeated.status_code, repeated.json()["id"]) == (202, first.json()["id"])
    assert repeated.headers["idempotent-replayed"] == "true"


async def test_a_tenant_that_fills_redis_is_refused_on_every_surface_and_others_are_not(
    http: httpx2.AsyncClient,
) -> None:
    message: dict[str, Any] = {"role": "user", "content": "x"}
    for _ in range(2):
        started = await http.post("/v1/generations", json={"prompt": LARGE}, headers=MINE)
        assert started.status_code == 202
    surfaces = {
        "/v1/generations": {"prompt": "x"},
        "/v1/chat/completions": {"model": "local", "messages": [message]},
        "/v1/responses": {"model": "local", "input": "x"},
        "/v1/messages": {"model": "local", "max_tokens": 1, "messages": [message]},
        "/v1/completions": {"model": "gpt-x", "prompt": "x"},
        "/v1/embeddings": {"model": "gpt-x", "input": "x"},
        "/v1/messages/count_tokens": {"model": "claude-x", "messages": [message]},
        "/api/chat": {"id": "c", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "x"}]}]},
        "/agui": RUN,
    }
    for url, body in surfaces.items():
        assert is_refused(await http.post(url, json=body, headers=MINE), "TENANT_STORED_BYTES"), url
    for url in ("/v1/streams/f", "/ds/f"):
        assert is_refused(await http.put(url, headers=MINE), "TENANT_STORED_BYTES"), url
    assert (await http.post("/v1/generations", json={"prompt": LARGE}, headers=OTHERS)).status_code == 202
    id = started.json()["id"]
    assert (await http.delete(f"/v1/generations/{id}", headers=MINE)).status_code == 204
    assert (await http.post("/v1/generations", json={"prompt": "x"}, headers=MINE)).status_code == 202
