"""Alive and ready are two questions."""

from __future__ import annotations

import httpx2

from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld


async def test_a_front_end_with_its_log_is_alive_and_ready(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "checks": {"log": "ok", "drain": "ok"}})
    assert (await client.head("/healthz")).status_code == 200
    assert (await client.head("/readyz")).status_code == 200


async def test_a_front_end_without_its_log_is_alive_and_not_ready(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.away = True
    assert (await client.get("/healthz")).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    assert ready.json()["checks"]["log"] != "ok"


async def test_a_draining_front_end_is_alive_and_not_ready(client: httpx2.AsyncClient, services: Services) -> None:
    services.draining.set()
    assert (await client.get("/healthz")).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["drain"]) == (503, "draining")
