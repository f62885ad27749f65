"""Real workers and front-ends over providers in trouble: what a viewer sees, on one connection, from first to last."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broadcaster.client import AsyncClient
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Answer, Script, ScriptedProvider
from tests.support.servers.processes import Stack, open_stack
from tests.support.watching import Seen, watch

MODEL = "claude-x"


@pytest.fixture
async def servers() -> AsyncIterator[tuple[ScriptedProvider, ScriptedProvider]]:
    async with ScriptedProvider() as one, ScriptedProvider() as two:
        yield one, two


@pytest.fixture
async def stack(
    tmp_path: Path, connection: LogConnection, servers: tuple[ScriptedProvider, ScriptedProvider]
) -> AsyncIterator[Stack]:
    """The model is requested at ``one``, with two keys, then at ``two`` under another name and on another wire."""
    one, two = servers
    providers = {
        "one": {"wire": "anthropic", "base_url": one.base_url, "api_key_envs": ["KEY_A", "KEY_B"]},
        "two": {"wire": "openai", "base_url": two.openai_base_url},
    }
    settings: dict[str, Any] = {
        "default_model": MODEL,
        "providers": json.dumps(providers),
        "routes": json.dumps({"claude*": ["one", "two/meta/llama-4"]}),
        "provider_retries": 3,
        "provider_retry_cap_s": 0.05,
    }
    async with open_stack(tmp_path, redis_url=connection.url, provider_url=one.base_url, **settings) as opened:
        keys = {"KEY_A": "sk-a-0123456789", "KEY_B": "sk-b-0123456789"}
        yield Stack(opened.folder, {**opened.environment, **keys}, opened.started)


def types(seen: Seen) -> list[str]:
    return [json.loads(data)["type"] for _, data in seen.entries]


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "text-delta")


async def test_a_viewer_sees_one_clean_answer_after_rate_limits_an_overload_and_a_fallback(
    stack: Stack, servers: tuple[ScriptedProvider, ScriptedProvider]
) -> None:
    one, two = servers
    worker = await stack.worker()
    url = (await stack.front_end()).url
    limit = Script(Answer(429, headers={"retry-after-ms": "10"}, message="sk-a-0123456789"))
    one.script(MODEL, limit, limit, limit, Script(Answer(529)))
    async with AsyncClient(url) as client:
        generation = await client.start("hi")
        seen = await watch(url, generation.id)
        final = await client.get(generation.id)
    events = [json.loads(data) for _, data in seen.entries]
    expected = ["start", "start-step", "text-start", *["text-delta"] * 3, "text-end", "finish-step", "usage", "finish"]
    assert sorted(types(seen)) == sorted(expected)
    assert text(events) == final.text == "Hello world."
    assert [entry_id.split("-")[1] for entry_id, _ in seen.entries] == [str(n + 1) for n in range(len(expected))]
    assert len({entry_id.split("-")[0] for entry_id, _ in seen.entries}) == 1
    assert final.status == "finished"
    assert final.answered_by is not None
    assert (final.answered_by.provider, final.answered_by.model) == ("two", "meta/llama-4")
    assert (len(one.requests), len(two.requests)) == (final.answered_by.tries - 1, 1)
    assert len(one.requests) == 5  # its four tries, and one for the other key
    assert {request.headers["authorization"][7:11] for request in one.requests} == {"sk-a", "sk-b"}
    logged = worker.log.read_text()
    assert "provider_fallback" in logged
    assert "KEY_A" in logged
    assert "sk-a-" not in logged + json.dumps(events)
    fallback_s = two.requests[0].started_at - one.requests[0].started_at
    print(f"first 429 → request at the fallback: {fallback_s * 1000:.0f} ms, {len(one.requests)} tries")


async def test_a_broken_answer_restarts_on_the_same_connection_if_the_caller_chose_it_and_can_be_stopped_then(
    stack: Stack, servers: tuple[ScriptedProvider, ScriptedProvider]
) -> None:
    one, _ = servers
    await stack.worker(max_attempts=2)
    url = (await stack.front_end()).url
    async with AsyncClient(url) as client:
        broken, whole = one.conversation(MODEL), one.conversation(MODEL)
        generation = await client.start("hi", on_provider_loss="retry")
        watching = asyncio.create_task(watch(url, generation.id))
        await broken.send_text("half")
        await until_text(client, generation.id, "half")
        await broken.cut()
        await whole.send_text("the whole")
        await whole.finish()
        seen = await watching
        final = await client.get(generation.id, wait_s=10)
        events = [json.loads(data) for _, data in seen.entries]
        (attempt,) = [event for event in events if event["type"] == "attempt"]
        assert attempt == {"type": "attempt", "attempt": 2, "reason": "provider_lost"}
        assert text(events[: events.index(attempt)]) == "half"
        assert text(events[events.index(attempt) :]) == "the whole"
        assert [entry_id.split("-")[1] for entry_id, _ in seen.entries] == [str(n + 1) for n in range(len(events))]
        assert (final.status, final.text, final.attempt) == ("finished", "the whole", 2)

        # With its attempts spent, the end is the provider's.
        first, second = one.conversation(MODEL), one.conversation(MODEL)
        generation = await client.start("hi", on_provider_loss="retry")
        for conversation in (first, second):
            await conversation.send_text("half")
            await until_text(client, generation.id, "half", attempt=1 if conversation is first else 2)
            await conversation.cut()
        final = await client.get(generation.id, wait_s=10)
        assert final.error is not None
        assert (final.status, final.error.code, final.attempt) == ("failed", "provider_disconnected", 2)
        assert final.usage is not None
        assert final.usage["estimated"]

        # A stop finds the attempt that runs now.
        first, second = one.conversation(MODEL), one.conversation(MODEL)
        generation = await client.start("hi", on_provider_loss="retry")
        await first.send_text("half")
        await until_text(client, generation.id, "half")
        await first.cut()
        await second.send_text("more")
        await until_text(client, generation.id, "more")
        await client.stop(generation.id)
        await (await second.request()).wait_disconnected(5)
        final = await client.get(generation.id, wait_s=10)
        assert (final.status, final.text, final.attempt) == ("aborted", "more", 2)

        # A caller that did not choose it gets the error.
        broken = one.conversation(MODEL)
        generation = await client.start("hi")
        await broken.send_text("half")
        await broken.cut()
        final = await client.get(generation.id, wait_s=10)
        assert final.error is not None
        assert (final.status, final.error.code, final.text) == ("failed", "provider_disconnected", "half")


async def until_text(client: AsyncClient, generation_id: str, text: str, *, attempt: int | None = None) -> None:
    async with asyncio.timeout(20):
        while True:
            found = await client.get(generation_id)
            if found.text == text and attempt in (None, found.attempt):
                return
            await asyncio.sleep(0.02)
