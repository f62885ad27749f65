"""A generation's priority: a field of our own body, and a header of every surface."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from broadcaster.core.requests.priorities import Priority, stored_priority
from broadcaster.log.jobs.generations import GenerationRequest
from tests.support.memory.memory_world import MemoryWorld

MESSAGES = [{"role": "user", "content": "x"}]
HEADER = "Broadcaster-Priority"
CALLS: dict[str, dict[str, Any]] = {
    "/v1/generations": {"prompt": "x"},
    "/v1/chat/completions": {"model": "gpt-1", "messages": MESSAGES, "stream": True},
    "/v1/responses": {"model": "gpt-1", "input": "x", "background": True},
    "/v1/messages": {"model": "claude-1", "max_tokens": 1, "messages": MESSAGES, "stream": True},
}


@pytest.fixture
def requests(world: MemoryWorld) -> list[GenerationRequest]:
    """What was created."""
    return world.requests


@pytest.mark.parametrize("path", ["/v1/generations", "/v1/responses"])
async def test_the_header_sets_the_priority_on_every_surface(
    client: httpx2.AsyncClient, requests: list[GenerationRequest], path: str
) -> None:
    for given, priority in ({"x-other": "1"}, Priority.NORMAL), ({HEADER: "High"}, Priority.HIGH):
        response = await client.post(path, json=CALLS[path], headers=given)
        assert response.status_code in (200, 202), response.text
        assert requests[-1].priority is priority


async def test_the_field_of_our_own_body_wins(client: httpx2.AsyncClient, requests: list[GenerationRequest]) -> None:
    body = {"prompt": "x", "priority": "low"}
    assert (await client.post("/v1/generations", json=body, headers={HEADER: "high"})).status_code == 202
    assert requests[-1].priority is Priority.LOW


@pytest.mark.parametrize("path", CALLS)
async def test_a_priority_that_there_is_not_is_refused_before_anything_is_created(
    client: httpx2.AsyncClient, requests: list[GenerationRequest], path: str
) -> None:
    refused = await client.post(path, json=CALLS[path], headers={HEADER: "urgent"})
    assert (refused.status_code, requests) == (400, [])
    assert "high, normal, low" in refused.text
    assert "urgent" not in refused.text


def test_the_priority_belongs_to_what_an_idempotency_key_is_stored_with() -> None:
    plain, high = (GenerationRequest("m", {}, priority=each) for each in (Priority.NORMAL, Priority.HIGH))
    assert plain.digest() != high.digest()


def test_a_priority_of_a_newer_version_counts_as_normal() -> None:
    assert [stored_priority(each) for each in ("low", "", "urgent")] == [Priority.LOW, Priority.NORMAL, Priority.NORMAL]
