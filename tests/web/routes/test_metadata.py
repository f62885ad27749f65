"""What a caller keeps with a generation or a feed has a bound, wherever it comes in, and is in no list."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broadcaster import Broadcaster
from broadcaster.core.requests.metadata import MAX_METADATA_BYTES
from broadcaster.errors import BodyTooLarge, MetadataTooLarge
from broadcaster.sync import Publisher
from tests.attacks.measuring import opened
from tests.support.memory.memory_world import MemoryWorld
from tests.web.guards.test_nesting import HOLDERS

LARGEST = {"a": "b" * (MAX_METADATA_BYTES - 8)}
TOO_LARGE = {"a": "b" * (MAX_METADATA_BYTES - 7)}


async def test_http_refuses_more_metadata_than_the_setting_allows_on_every_surface(
    tmp_path: Path, redis_url: str
) -> None:
    async with (
        opened(tmp_path, redis_url=redis_url, key_prefix="metadata") as (running, _),
        httpx2.AsyncClient(base_url=running.url, timeout=30) as client,
    ):
        for name, (method, path, body) in HOLDERS.items():
            refused = await client.request(method, path, json={**body, "metadata": TOO_LARGE})
            assert refused.status_code == 413, name
            assert "MAX_METADATA_BYTES" in refused.text, name
        assert (await client.get("/v1/generations")).json()["generations"] == []
        taken = await client.post("/v1/generations", json={"prompt": "a", "metadata": LARGEST})
        assert taken.json()["metadata"] == LARGEST
        (listed,) = (await client.get("/v1/generations")).json()["generations"]
        assert listed == {name: value for name, value in taken.json().items() if name != "metadata"}


@pytest.fixture
async def broadcaster(redis_url: str) -> Any:
    async with Broadcaster.from_url(redis_url) as opened:
        yield opened


async def test_the_library_refuses_it_too(broadcaster: Broadcaster) -> None:
    with pytest.raises(MetadataTooLarge, match="MAX_METADATA_BYTES"):
        await broadcaster.start(prompt="a", metadata=TOO_LARGE)
    with pytest.raises(MetadataTooLarge, match="MAX_METADATA_BYTES"):
        async with broadcaster.feed("large", metadata=TOO_LARGE):
            pass


async def test_the_blocking_publisher_refuses_it_too(redis_url: str) -> None:
    def refuse() -> None:
        with Publisher.from_url(redis_url) as publisher:
            publisher.feed("taken", metadata=LARGEST)
            with pytest.raises(MetadataTooLarge, match="MAX_METADATA_BYTES"):
                publisher.feed("large", metadata=TOO_LARGE)

    await asyncio.to_thread(refuse)


@pytest.mark.parametrize("name", sorted(set(HOLDERS) - {"feeds"}))
async def test_every_surface_refuses_a_request_too_large_to_be_stored(
    client: httpx2.AsyncClient, world: MemoryWorld, name: str
) -> None:
    world.refusal = BodyTooLarge("the request has 9 bytes as it is stored")
    method, path, body = HOLDERS[name]
    refused = await client.request(method, path, json=body)
    assert refused.status_code == 413
    assert "9 bytes as it is stored" in refused.text
    assert "body_too_large" in refused.text or "request_too_large" in refused.text
