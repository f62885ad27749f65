"""The chat transport over a real Redis: any front-end finds a chat, for its own tenant alone, as long as it must."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.dialects.ai_sdk.ai_sdk_client import Client
from tests.support.servers.front_end import DEADLINE_S, Received, listen, served
from tests.web.surfaces.calls import RUN

MINE = {"authorization": "Bearer the-key-of-mine-0"}
OTHERS = {"authorization": "Bearer the-key-of-others"}
URL = "/api/chat"
BODY: dict[str, Any] = {
    "id": "c",
    "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
    "trigger": "submit-message",
}
KEPT_FOR_A_DAY: dict[str, Any] = {**BODY, "retention_s": 86_400}


@pytest.fixture
def settings(connection: LogConnection) -> Settings:
    keys = json.dumps({"mine": ["the-key-of-mine-0"], "others": ["the-key-of-others"]})
    given = {"redis_url": connection.url, "auth": "keys", "api_keys": keys, "retry_ms": 100}
    return Settings.model_validate({**given, "generation_timeout_s": 4 * 3600})


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened


@pytest.fixture
async def front_end(settings: Settings, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(create_app(settings, services=services), services) as client:
        yield client


@pytest.fixture
async def other_front_end(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """Another front-end of the same log."""
    async with open_services(settings) as opened, served(create_app(settings, services=opened), opened) as client:
        yield client


def ended(received: Received) -> Client:
    return Client().read("".join(f"data: {message.data}\n\n" for message in received.messages).encode())


async def test_a_chat_is_resumed_and_stopped_at_any_front_end_by_its_own_tenant_alone(
    front_end: httpx2.AsyncClient, other_front_end: httpx2.AsyncClient, services: Services
) -> None:
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(listen(front_end, URL, method="POST", json=BODY, headers=MINE))
        async with asyncio.timeout(DEADLINE_S):
            while await services.chats.latest("c", tenant="mine") is None:
                await asyncio.sleep(0)
        assert (await other_front_end.get(f"{URL}/c/stream", headers=OTHERS)).status_code == 204
        refused = await other_front_end.post(f"{URL}/c/stop", headers=OTHERS)
        assert (refused.status_code, refused.json()["id"]) == (200, None)
        resumed = group.create_task(listen(other_front_end, f"{URL}/c/stream", headers=MINE))
        stopped = await other_front_end.post(f"{URL}/c/stop", headers=MINE)
        assert stopped.status_code == 202
    assert resumed.result().status in (200, 204)  # it may have ended before
    client = ended(sent.result())
    assert (client.is_aborted, client.is_done) == (True, True)
    assert sent.result().headers["broadcaster-generation-id"] == stopped.json()["id"]
    assert (await front_end.get(f"{URL}/c/stream", headers=MINE)).status_code == 204


async def test_a_missing_key_is_reported_in_the_shape_of_the_surface(front_end: httpx2.AsyncClient) -> None:
    response = await front_end.post(URL, json=BODY)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.json().keys() == {"error", "code"}


async def test_a_repeated_request_leaves_the_chat_its_newer_answer(
    front_end: httpx2.AsyncClient, other_front_end: httpx2.AsyncClient, services: Services
) -> None:
    async def start(at: httpx2.AsyncClient, key: str) -> str:
        async with at.stream("POST", URL, json=BODY, headers={**MINE, "idempotency-key": key}) as response:
            return response.headers["broadcaster-generation-id"]

    first, second = await start(front_end, "one"), await start(other_front_end, "two")
    assert await start(front_end, "one") == first
    chat = await services.chats.latest("c", tenant="mine")
    assert chat is not None
    assert chat.generation_id == second
    stopped = await front_end.post(f"{URL}/c/stop", headers=MINE)
    assert stopped.json()["id"] == second


@pytest.mark.parametrize(
    ("url", "body", "chat_id"),
    [(URL, KEPT_FOR_A_DAY, "c"), ("/agui", RUN, f"agui-thread:{RUN['threadId']}")],
    ids=["ai sdk", "ag-ui"],
)
async def test_a_chat_is_known_for_as_long_as_its_answer_may_run_and_is_stored(
    front_end: httpx2.AsyncClient,
    connection: LogConnection,
    settings: Settings,
    *,
    url: str,
    body: dict[str, Any],
    chat_id: str,
) -> None:
    async with front_end.stream("POST", url, json=body, headers=MINE) as response:
        assert response.status_code == 200
    longest_s = settings.queue_timeout_s + settings.generation_timeout_s + body.get("retention_s", settings.retention_s)
    assert await connection.redis.pttl(connection.keys.chat("mine", chat_id)) > longest_s * 1000
