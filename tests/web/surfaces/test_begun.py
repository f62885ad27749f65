"""What goes wrong once a generation has begun: every surface's error names it: nothing else leads back to it."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from broadcaster.log.streams.reader import Meta
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.web.surfaces.calls import CALLS

HEADER = "broadcaster-generation-id"


@pytest.mark.parametrize(("path", "body"), CALLS.values(), ids=CALLS)
async def test_a_log_that_goes_away_right_after_the_creation(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str, body: dict[str, Any]
) -> None:
    world.on_create = lambda generation_id: setattr(world, "away", True)
    refused = await client.post(path, json=body)
    assert refused.status_code == 503
    assert refused.headers[HEADER] in world.streams


@pytest.mark.parametrize(("path", "body"), CALLS.values(), ids=CALLS)
async def test_a_log_that_goes_away_and_a_hub_that_drains_once_its_meta_was_read(
    client: httpx2.AsyncClient,
    services: Services,
    world: MemoryWorld,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
) -> None:
    get = world.get

    async def get_and_go(generation_id: str, *, tenant: str) -> Meta:
        meta = await get(generation_id, tenant=tenant)
        world.away = True
        monkeypatch.setattr(services.hub, "_is_draining", True)
        return meta

    monkeypatch.setattr(world, "get", get_and_go)
    refused = await client.post(path, json=body)
    # The stream of our own API begins, and reports inside that this front-end sends it away.
    assert refused.status_code in ((200,) if body.get("stream") and path == "/v1/generations" else (503, 529))
    assert refused.headers[HEADER] in world.streams


@pytest.mark.parametrize(("path", "body"), CALLS.values(), ids=CALLS)
async def test_a_refusal_before_a_generation_began_names_no_generation(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str, body: dict[str, Any]
) -> None:
    refused = await client.post(path, json={**body, "messages": 7, "input": 7, "id": 7})
    assert refused.status_code == 400
    assert HEADER not in refused.headers
    assert not world.streams
