"""A key of one tenant learns nothing of another's streams: each answer is that to an id which no stream has.

Compared are the status, every header and every byte, over a real Redis.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Container
from typing import Any

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import served

MINE = {"authorization": "Bearer the-key-of-mine-0"}
# One request id for all: it is the only thing in a header that differs by itself, beside the date.
OTHERS = {"authorization": "Bearer the-key-of-others", "x-request-id": "the-same"}
EVENT = {"type": "data-x", "data": 1}
CHAT = {
    "trigger": "submit-message",
    "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "x"}]}],
}

Call = tuple[str, str, Any]

STREAM_CALLS: list[Call] = [
    ("GET", "/v1/streams/{id}", None),
    ("GET", "/v1/streams/{id}/events", None),
    ("GET", "/v1/streams/{id}/events?after=1-1", None),
    ("GET", "/v1/streams/{id}/events?dialect=ai-sdk", None),
    ("GET", "/v1/streams/{id}/events?replay=snapshot", None),
    ("GET", "/v1/streams/{id}/events?wait_s=0.05", None),
    ("POST", "/v1/streams/{id}/events", EVENT),
    ("POST", "/v1/streams/{id}/close", {}),
    ("DELETE", "/v1/streams/{id}", None),
    ("GET", "/v1/generations/{id}", None),
    ("GET", "/v1/generations/{id}?wait_s=0.05", None),
    ("GET", "/v1/generations/{id}?parts=false", None),
    ("POST", "/v1/generations/{id}/stop", None),
    ("DELETE", "/v1/generations/{id}", None),
]
RESPONSE_CALLS: list[Call] = [
    ("GET", "/v1/responses/{id}", None),
    ("GET", "/v1/responses/{id}?stream=true", None),
    ("GET", "/v1/responses/{id}/input_items", None),
    ("POST", "/v1/responses/{id}/cancel", None),
    ("DELETE", "/v1/responses/{id}", None),
    ("POST", "/v1/responses", {"model": "local", "input": "x", "previous_response_id": "{id}"}),
]
CHAT_CALLS: list[Call] = [
    ("GET", "/api/chat/{id}/stream", None),
    ("POST", "/api/chat/{id}/stop", None),
]


@pytest.fixture
async def http(connection: LogConnection) -> AsyncIterator[httpx2.AsyncClient]:
    keys = json.dumps({"mine": ["the-key-of-mine-0"], "others": ["the-key-of-others"]})
    settings = Settings.model_validate({"redis_url": connection.url, "auth": "keys", "api_keys": keys, "retry_ms": 100})
    async with open_services(settings) as services, served(create_app(settings, services=services), services) as opened:
        yield opened


async def answer(http: httpx2.AsyncClient, call: Call, id: str) -> tuple[int, list[tuple[str, str]], str]:
    method, url, body = call
    content = None if body is None else json.dumps(body).replace("{id}", id)
    headers = OTHERS if body is None else {**OTHERS, "content-type": "application/json"}
    response = await http.request(method, url.format(id=id), content=content, headers=headers)
    header_items = sorted((name, value) for name, value in response.headers.multi_items() if name != "date")
    return response.status_code, header_items, response.text.replace(id, "{id}")


async def compared(
    http: httpx2.AsyncClient,
    calls: list[Call],
    *,
    theirs: str,
    unowned: str,
    expected: Container[int] = (204, 400, 404),
) -> None:
    for call in calls:
        found = await answer(http, call, theirs)
        assert found == await answer(http, call, unowned), call
        assert found[0] in expected, call


async def test_a_generation_of_another_tenant_is_as_unknown_as_none(http: httpx2.AsyncClient) -> None:
    id = (await http.post("/v1/generations", json={"prompt": "secret"}, headers=MINE)).json()["id"]
    await compared(http, STREAM_CALLS, theirs=id, unowned="gen_" + "0" * 32)
    assert (await http.get(f"/v1/generations/{id}", headers=MINE)).json()["status"] == "queued"
    assert (await http.delete(f"/v1/generations/{id}", headers=MINE)).status_code == 204
    await compared(http, STREAM_CALLS, theirs=id, unowned="gen_" + "0" * 32)


async def test_a_feed_of_another_tenant_is_as_unknown_as_none(http: httpx2.AsyncClient) -> None:
    assert (await http.put("/v1/streams/build-42", headers=MINE)).status_code == 201
    assert (await http.post("/v1/streams/build-42/events", json=EVENT, headers=MINE)).status_code == 200
    await compared(http, STREAM_CALLS, theirs="build-42", unowned="build-43")
    assert (await http.post("/v1/streams/build-42/close", headers=MINE)).json()["last_seq"] == 2
    await compared(http, STREAM_CALLS[:4], theirs="build-42", unowned="build-43")
    assert (await http.delete("/v1/streams/build-42", headers=MINE)).status_code == 204
    await compared(http, STREAM_CALLS, theirs="build-42", unowned="build-43")


async def test_a_response_and_a_chat_of_another_tenant_are_as_unknown_as_none(http: httpx2.AsyncClient) -> None:
    secret_body = {"model": "local", "input": "secret", "background": True}
    id = (await http.post("/v1/responses", json=secret_body, headers=MINE)).json()["id"]
    await compared(http, RESPONSE_CALLS, theirs=id, unowned=id[:-32] + "0" * 32)
    async with http.stream("POST", "/api/chat", json={"id": "chat-1", **CHAT}, headers=MINE) as answering:
        assert answering.status_code == 200
        await compared(http, CHAT_CALLS, theirs="chat-1", unowned="chat-2", expected=(200, 204))
