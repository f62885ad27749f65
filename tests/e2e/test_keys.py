"""Keys in Redis on real front-ends: rotated by overlap, and revoked everywhere within a second."""

from __future__ import annotations

import asyncio
import json
import time

import httpx2
import pytest
from typer.testing import CliRunner

from broadcaster.cli.main import create_app
from tests.support.servers.processes import Stack

KEYED = {"auth": "keys", "host": "0.0.0.0", "log_level": "debug"}
DEADLINE_S = 20.0
WITHIN_S = 3.0  # a second, and what a busy machine adds

app = create_app(["key"])


async def key_command(*arguments: str) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["key", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


async def until_status(url: str, key: str, status: int) -> None:
    """Until the front-end answers so to this key."""
    async with httpx2.AsyncClient(base_url=url, timeout=DEADLINE_S) as client, asyncio.timeout(DEADLINE_S):
        while (await client.get("/v1/generations", headers={"x-api-key": key})).status_code != status:
            await asyncio.sleep(0.01)


async def watch(url: str, key: str, opened: asyncio.Event) -> str:
    """What a viewer of a feed receives until its front-end closes it."""
    headers = {"authorization": f"Bearer {key}"}
    text = ""
    async with (
        httpx2.AsyncClient(base_url=url, timeout=DEADLINE_S) as client,
        client.stream("GET", "/v1/streams/job/events", headers=headers) as response,
    ):
        assert response.status_code == 200
        async for chunk in response.aiter_text():
            text += chunk
            if "hub.live" in text:
                opened.set()
    return text


async def test_a_rotated_key_works_beside_its_successor_and_is_refused_everywhere_within_a_second(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROADCASTER_REDIS_URL", stack.environment["BROADCASTER_REDIS_URL"])
    front_ends = [await stack.front_end(**KEYED) for _ in range(2)]
    urls = [front_end.url for front_end in front_ends]
    old, new = await key_command("add", "--name", "old"), await key_command("add", "--name", "new")
    await asyncio.gather(*(until_status(url, key, 200) for url in urls for key in (old, new)))
    async with httpx2.AsyncClient(base_url=urls[0], headers={"x-api-key": new}) as client:
        assert (await client.put("/v1/streams/job", json={})).status_code == 201
    events = [asyncio.Event() for _ in range(4)]
    pairs = [(url, key) for key in (old, new) for url in urls]
    viewers = [asyncio.create_task(watch(*pair, event)) for pair, event in zip(pairs, events, strict=True)]
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*(event.wait() for event in events))

    await key_command("revoke", "old")
    begun = time.monotonic()
    await asyncio.gather(*(until_status(url, old, 401) for url in urls))
    closed, _ = await asyncio.wait(viewers[:2], timeout=DEADLINE_S)
    assert time.monotonic() - begun < WITHIN_S
    assert len(closed) == 2
    for viewer in closed:
        assert json.loads(viewer.result().rpartition("data: ")[2]) == {"reason": "revoked", "reconnect": False}

    await asyncio.gather(*(until_status(url, new, 200) for url in urls))
    assert not any(viewer.done() for viewer in viewers[2:])
    for viewer in viewers[2:]:
        viewer.cancel()
    await asyncio.wait(viewers)
    for front_end in front_ends:
        logged = front_end.log.read_text("utf-8")
        assert "credentials_read" in logged
        assert old not in logged
        assert new not in logged


async def test_a_key_that_redis_may_hold_is_not_refused_for_good_before_redis_has_answered(
    stack: Stack,
) -> None:
    front_end = await stack.front_end(
        **KEYED, redis_url="redis://127.0.0.1:1", redis_timeout_s=0.2, api_keys='{"web": ["a-key-of-the-setting"]}'
    )
    async with httpx2.AsyncClient(base_url=front_end.url, timeout=DEADLINE_S) as client:
        refused = await client.get("/v1/generations", headers={"x-api-key": "a-key-that-redis-may-hold"})
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (
            503, "log_unavailable", "1",
        )  # fmt: skip
        # An EventSource would never come back after that.
        follow = await client.get("/v1/streams/job/events", headers={"x-api-key": "a-key-that-redis-may-hold"})
        assert (follow.status_code, follow.text) == (200, "retry: 2000\n\n")
        assert (await client.get("/v1/generations")).status_code == 401
