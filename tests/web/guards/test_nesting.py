"""What is nested too deeply to be returned is refused wherever it may come in, before anything begins."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from broadcaster.core.events import Finish
from broadcaster.core.requests.json_values import MAX_LEVELS
from tests.support.memory.memory_world import MemoryWorld

REQUEST = [{"role": "user", "content": "Hi"}]
MESSAGE = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
HOLDERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "generations": ("POST", "/v1/generations", {"messages": REQUEST}),
    "feeds": ("PUT", "/v1/streams/feed", {}),
    "chat completions": ("POST", "/v1/chat/completions", {"model": "local", "messages": REQUEST, "stream": True}),
    "responses": ("POST", "/v1/responses", {"model": "local", "input": "Hi", "background": True}),
    "messages": ("POST", "/v1/messages", {"model": "local", "max_tokens": 9, "messages": REQUEST, "stream": True}),
    "ai sdk": (
        "POST",
        "/api/chat",
        {"id": "c", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]},
    ),
}


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(("method", "path", "body"), HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("levels", [MAX_LEVELS, 300, 600])
async def test_metadata(
    client: httpx2.AsyncClient, world: MemoryWorld, method: str, path: str, body: dict[str, Any], levels: int
) -> None:
    """One level is the body's own."""
    refused = await client.request(method, path, json={**body, "metadata": nested(levels)})
    assert refused.status_code == 400
    assert str(MAX_LEVELS) in refused.text
    assert not world.streams


@pytest.mark.parametrize("levels", [MAX_LEVELS, 300])
async def test_deep_nesting_is_refused_in_fields_that_the_surfaces_of_pages_do_not_read(
    client: httpx2.AsyncClient, world: MemoryWorld, levels: int
) -> None:
    chat = {"id": "c", "messages": [{**MESSAGE, "metadata": nested(levels)}]}
    run = {"threadId": "t", "runId": "r", "messages": [{"id": "m", **REQUEST[0]}], "tools": [], "context": []}
    for path, body in (("/api/chat", chat), ("/agui", {**run, "state": nested(levels), "forwardedProps": {}})):
        assert (await client.post(path, json=body)).status_code == 400
    assert not world.streams


@pytest.mark.parametrize(("method", "path", "body"), HOLDERS.values(), ids=HOLDERS)
async def test_metadata_of_as_many_levels_as_are_taken_is_returned(
    client: httpx2.AsyncClient, world: MemoryWorld, method: str, path: str, body: dict[str, Any]
) -> None:
    metadata = nested(MAX_LEVELS - 1)
    world.on_create = lambda generation_id: world.append(generation_id, Finish())
    assert (await client.request(method, path, json={**body, "metadata": metadata})).status_code < 300
    (id,) = world.streams
    kind = "streams" if path.startswith("/v1/streams") else "generations"
    assert (await client.get(f"/v1/{kind}/{id}")).json()["metadata"] == metadata
    assert (await client.get("/v1/generations?state=all")).status_code == 200
