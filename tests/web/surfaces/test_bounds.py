"""Bounds of a call: of its answer, which its caller or the operator may bound, and of the name of its model."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from broadcaster.core.events import Finish, Start, TextDelta
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import in_process, own_app
from tests.web.surfaces.calls import CALLS

LONGEST_NAME = "gpt-" + "x" * 196
PASSED: dict[str, tuple[str, dict[str, Any]]] = {
    "embeddings": ("/v1/embeddings", {"input": "Hi"}),
    "completions": ("/v1/completions", {"prompt": "Hi"}),
    "counts of messages": ("/v1/messages/count_tokens", {"messages": []}),
    "counts of responses": ("/v1/responses/input_tokens", {"input": "Hi"}),
}
UNBOUNDED = {name: call for name, call in CALLS.items() if "max_tokens" not in call[1]}


@pytest.mark.parametrize(("path", "body"), UNBOUNDED.values(), ids=UNBOUNDED)
@pytest.mark.parametrize("bound", [None, 512])
async def test_an_answer_without_a_requested_bound_has_the_operators_bound_or_none(
    world: MemoryWorld, path: str, body: dict[str, Any], bound: int | None
) -> None:
    world.on_create = lambda each: world.append(each, Start(), TextDelta(id="0", delta="Hi"), Finish())
    async with (
        memory_services(world, default_max_tokens=bound) as services,
        in_process(own_app(services)) as client,
    ):
        assert (await client.post(path, json=body)).is_success
    (response,) = world.requests
    # Workers of earlier versions bound a request without the field by themselves, and cannot read null.
    assert response.request.get("max_tokens", "left out") == (bound or "left out")


@pytest.mark.parametrize(("path", "body"), (CALLS | PASSED).values(), ids=CALLS | PASSED)
async def test_the_name_of_a_model_has_at_most_200_characters_on_every_surface(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str, body: dict[str, Any]
) -> None:
    world.on_create = lambda each: world.append(each, Finish())
    refused = await client.post(path, json=named(body, LONGEST_NAME + "x"))
    assert refused.status_code in (400, 422)
    assert "model" in refused.text
    assert "200 characters" in refused.text
    assert LONGEST_NAME not in refused.text
    assert not world.requests


@pytest.mark.parametrize(("path", "body"), CALLS.values(), ids=CALLS)
async def test_the_longest_name_of_a_model_is_stored(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str, body: dict[str, Any]
) -> None:
    world.on_create = lambda each: world.append(each, Start(), TextDelta(id="0", delta="Hi"), Finish())
    assert (await client.post(path, json=named(body, LONGEST_NAME))).is_success
    assert [request.model for request in world.requests] == [LONGEST_NAME]


def named(body: dict[str, Any], model: str) -> dict[str, Any]:
    return {**body, "forwardedProps": {"model": model}} if "forwardedProps" in body else {**body, "model": model}
