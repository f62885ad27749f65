"""JSON answers that their clients do not read are kept up to a bound, and no more of them than fit are made."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from tests.attacks.measuring import opened
from tests.attacks.unread import growth_bytes
from tests.attacks.unread_json import SETTINGS, paths
from tests.attacks.world import Target, kilobyte, write_generation

CONNECTIONS = 20
MEGABYTES = 4
# One answer while it is made, and what was read of the others; each connection kept 18 MB for 7 MB of text.
BOUND_BYTES = 100 * 2**20
DEADLINE_S = 60.0


@pytest.mark.parametrize("is_mounted", [False, True], ids=["our own app", "a mounted router"])
async def test_unread_json_is_held_up_to_its_bound_and_given_back(
    tmp_path: Path, redis_url: str, is_mounted: bool
) -> None:
    settings = {"max_json_bytes": 24 * 2**20, **SETTINGS}
    async with opened(tmp_path, redis_url=redis_url, is_mounted=is_mounted, **settings) as (running, prefix):
        target = Target(running, running.url, prefix)
        id = await write_generation(target, redis_url=redis_url, count=MEGABYTES * 1000, delta=kilobyte)
        for path in paths(id)[: 1 if is_mounted else 2]:
            assert await growth_bytes(target, path, viewers=CONNECTIONS, serves_all=False) < BOUND_BYTES
            async with asyncio.timeout(DEADLINE_S), httpx2.AsyncClient(base_url=running.url, timeout=30) as client:
                while (response := await client.get(prefix + path)).status_code != 200:
                    assert response.status_code == 503
                assert len(response.content) > MEGABYTES * 10**6
