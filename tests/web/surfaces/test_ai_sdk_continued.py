"""``/api/chat``: a page whose client ran a tool resumes the answer that continues its message."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import httpx2
import pytest

from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.log.jobs.lists.chats import Chat
from broadcaster.web.services import Services
from tests.dialects.ai_sdk.ai_sdk_packages import run_driver
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import listen
from tests.web.surfaces.test_ai_sdk_chat import (
    BEGUN,
    GENERATION,
    REST,
    URL,
    answer_at_once,
    body,
    message_of,
    shown,
    until_watched,
)

HELD: Final[list[dict[str, Any]]] = [
    message_of("Weather?"),
    {
        "id": "a",
        "role": "assistant",
        "metadata": {"page": 1},
        "parts": [
            {"type": "step-start"},
            {"type": "text", "text": "Let me look.", "state": "done"},
            {"type": "tool-weather", "toolCallId": "t", "state": "output-available", "input": {}, "output": "sunny"},
            {"type": "data-secret", "data": "eel"},
        ],
    },
]


async def test_the_longest_id_of_a_message_is_continued(
    client: httpx2.AsyncClient, services: Services, world: MemoryWorld
) -> None:
    answer_at_once(world, *BEGUN, *REST)
    longest = "m" * 256
    held = [message_of("Weather?"), HELD[-1] | {"id": longest}]
    assert (await client.post(URL, json=body() | {"messages": held})).status_code == 200
    chat = await services.chats.latest("c", tenant=LOCAL_TENANT)
    assert chat is not None
    assert chat.message_id == longest


@pytest.mark.parametrize("version", [6, 7])
async def test_the_packages_hold_the_same_message_live_and_resumed(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, version: int
) -> None:
    answer_at_once(world, *BEGUN)
    api = f"{live_client.base_url}{URL}?version={version}"
    options = ("--id", "c", "--messages", json.dumps(HELD))
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(asyncio.to_thread(run_driver, version, [api], "--mode", "continue", *options))
        await until_watched(services, 1)
        resumed = group.create_task(asyncio.to_thread(run_driver, version, [api], "--mode", "resume", *options))
        await until_watched(services, 2)
        world.append(GENERATION, *REST)
    (page,), (reloaded,) = sent.result(), resumed.result()
    answer = page["messages"][-1]
    assert answer["parts"][:4] == HELD[1]["parts"]
    assert [part.get("text") for part in answer["parts"][4:]] == [None, "Hello world"]
    assert answer["metadata"] == {"page": 1, "model": "local"}
    assert (reloaded["messages"], reloaded["status"]) == (page["messages"], "ready")
    assert reloaded["toolCalls"] == []


async def test_an_answer_that_has_ended_comes_with_the_message_that_it_continues(
    live_client: httpx2.AsyncClient, world: MemoryWorld, caplog: pytest.LogCaptureFixture
) -> None:
    answer_at_once(world, *BEGUN, *REST)
    sent = await listen(live_client, URL, method="POST", json=body(*HELD))
    ended = await listen(live_client, f"{URL}/c/stream?ended=true")
    assert [part.get("text") for part in shown(sent).parts] == [None, "Hello world"]
    texts = [part["text"] for part in shown(ended).parts if part["type"] == "text"]
    assert texts == ["Let me look.", "Hello world"]
    assert "eel" not in caplog.text


async def test_an_answer_that_an_older_front_end_has_started_is_resumed_alone(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld
) -> None:
    world.add(GENERATION, status="running", request={"messages": []})
    world.append(GENERATION, *BEGUN, *REST)
    chat = Chat(generation_id=GENERATION, message_id="a")
    await services.chats.remember("c", chat, tenant=LOCAL_TENANT, retention_ms=1)
    resumed = shown(await listen(live_client, f"{URL}/c/stream?ended=true"))
    assert (resumed.id, [part.get("text") for part in resumed.parts]) == ("a", [None, "Hello world"])
