"""``/api/chat``: what a page sends, resumes and stops, and which errors it receives."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from broadcaster.core.events import Finish, FinishStep, KnownEvent, Start, StartStep, TextDelta, TextEnd, TextStart
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.dialects.ai_sdk.encode import Version
from broadcaster.errors import QueueFull
from broadcaster.web.services import Services
from tests.dialects.ai_sdk.ai_sdk_client import Client
from tests.dialects.ai_sdk.ai_sdk_packages import read_by_package, run_driver
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, Received, listen

URL = "/api/chat"
STREAM_HEADERS = {
    "content-type": "text/event-stream",
    "x-vercel-ai-ui-message-stream": "v1",
    "x-accel-buffering": "no",
}
BEGUN: list[KnownEvent] = [
    Start(message_id="msg_provider", message_metadata={"model": "local"}),
    StartStep(),
    TextStart(id="0"),
    TextDelta(id="0", delta="Hello "),
    TextDelta(id="0", delta="wor"),
]
REST: list[KnownEvent] = [TextDelta(id="0", delta="ld"), TextEnd(id="0"), Finish(finish_reason="stop")]
OF_TWO_STEPS: list[KnownEvent] = [*BEGUN, TextEnd(id="0"), FinishStep(), StartStep(), TextDelta(id="0", delta="lost")]
GENERATION = "gen_0001"


def message_of(text: str, *, role: str = "user", id: str = "m1") -> dict[str, Any]:
    return {"id": id, "role": role, "parts": [{"type": "text", "text": text}]}


def body(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "c", "messages": list(messages) or [message_of("Hi")], "trigger": "submit-message", **fields}


def answer_at_once(world: MemoryWorld, *events: KnownEvent) -> None:
    world.on_create = lambda generation_id: world.append(generation_id, *events)


def bytes_of(connection: Received) -> bytes:
    return "".join(f"data: {message.data}\n\n" for message in connection.messages).encode()


def shown(connection: Received, version: Version = 6) -> Client:
    return Client(version).read(bytes_of(connection))


async def until_watched(services: Services, viewers: int, *, chat_id: str = "c") -> None:
    """Until the chat is known, which it is a moment after its generation, and so many watch its answer."""
    async with asyncio.timeout(DEADLINE_S):
        while (
            await services.chats.latest(chat_id, tenant=LOCAL_TENANT) is None
            or services.hub.viewers().get(GENERATION, 0) < viewers
        ):
            await asyncio.sleep(0)


async def test_a_message_is_answered_with_the_stream(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answer_at_once(world, *BEGUN, *REST)
    received = await listen(live_client, URL, method="POST", json=body())
    assert received.status == 200
    assert {name: received.headers[name].partition(";")[0] for name in STREAM_HEADERS} == STREAM_HEADERS
    assert received.headers["broadcaster-generation-id"] == GENERATION
    assert "connection" not in received.headers
    client = shown(received)
    assert client.id == f"msg_{GENERATION}"
    assert [part.get("text") for part in client.parts] == [None, "Hello world"]
    assert (client.finish_reason, client.is_done) == ("stop", True)
    assert all(message.id == "" for message in received.messages)
    (response,) = world.requests
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert (response.model, dict(response.request)) == ("local", {"messages": messages})
    assert response.on_abandon == "cancel"


async def test_settings_have_the_names_of_the_sdk_or_of_the_messages_api(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answer_at_once(world, *REST)
    settings: dict[str, Any] = {
        "model": "claude-x",
        "system": "be brief",
        "maxOutputTokens": 7,
        "temperature": 0,
        "topP": 0.5,
        "stop_sequences": ["."],
        "tools": {"now": {"description": "d", "inputSchema": {"type": "object"}}},
        "toolChoice": "required",
        "metadata": {"page": 1},
    }
    policies = {"on_worker_loss": "fail", "on_provider_loss": "retry", "on_abandon": "continue", "retention_s": 90}
    system = {"id": "s", "role": "system", "parts": [{"type": "text", "text": "you are a poet"}]}
    await listen(live_client, URL, method="POST", json=body(system, message_of("Hi"), **settings, **policies))
    (response,) = world.requests
    assert response.model == "claude-x"
    assert {name: value for name, value in response.request.items() if name != "messages"} == {
        "system": "be brief\n\nyou are a poet",
        "max_tokens": 7,
        "temperature": 0,
        "top_p": 0.5,
        "stop_sequences": ["."],
        "tools": [{"name": "now", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "metadata": {"page": 1},
    }
    assert (response.on_worker_loss, response.on_provider_loss, response.on_abandon, response.retention_s) == (
        "fail",
        "retry",
        "continue",
        90,
    )


async def test_a_chat_without_an_answer_has_nothing_to_resume(live_client: httpx2.AsyncClient) -> None:
    response = await live_client.get(f"{URL}/nobody/stream")
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize("chat_id", ["c", "a/b", "ü 🌊", "100%", "stream", "a/stop"])
async def test_a_page_that_comes_back_gets_the_whole_then_the_rest(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, chat_id: str
) -> None:
    answer_at_once(world, *BEGUN)
    path = f"{URL}/{quote(chat_id, safe='')}/stream"
    async with asyncio.TaskGroup() as group:
        first = group.create_task(listen(live_client, URL, method="POST", json=body(id=chat_id)))
        await until_watched(services, 1, chat_id=chat_id)
        second = group.create_task(listen(live_client, path))
        await until_watched(services, 2, chat_id=chat_id)
        world.append(GENERATION, *REST)
    assert shown(first.result()).message == shown(second.result()).message
    opening = [json.loads(message.data)["type"] for message in second.result().messages[:4]]
    assert opening == ["start", "start-step", "text-start", "text-delta"]
    assert second.result().headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert (await live_client.get(path)).status_code == 204  # it is over now


async def test_an_answer_that_goes_on_with_a_message_has_its_id_wherever_it_is_read(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld
) -> None:
    answer_at_once(world, *BEGUN)
    called = {"type": "tool-now", "toolCallId": "t", "state": "output-available", "input": {}, "output": "noon"}
    assistant = {"id": "msg_page", "role": "assistant", "parts": [{"type": "step-start"}, called]}
    async with asyncio.TaskGroup() as group:
        first = group.create_task(listen(live_client, URL, method="POST", json=body(message_of("When?"), assistant)))
        await until_watched(services, 1)
        second = group.create_task(listen(live_client, f"{URL}/c/stream"))
        await until_watched(services, 2)
        world.append(GENERATION, *REST)
    assert {shown(received.result()).id for received in (first, second)} == {"msg_page"}
    (response,) = world.requests
    assert response.request["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "now", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "noon"}]},
    ]


async def test_another_answer_is_a_message_of_its_own_and_the_one_that_is_resumed(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answer_at_once(world, *BEGUN, *REST)
    await listen(live_client, URL, method="POST", json=body())
    repeated = body(trigger="regenerate-message", messageId="msg_gen_0001")
    received = await listen(live_client, URL, method="POST", json=repeated)
    assert shown(received).id == "msg_gen_0002"


async def test_a_stop_ends_the_answer_of_the_chat(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld
) -> None:
    answer_at_once(world, *BEGUN)
    async with asyncio.TaskGroup() as group:
        watched = group.create_task(listen(live_client, URL, method="POST", json=body()))
        await until_watched(services, 1)
        assert (await live_client.post(f"{URL}/c/stop")).status_code == 202
    client = shown(watched.result())
    assert (client.is_aborted, client.is_done, client.error) == (True, True, None)
    repeated = await live_client.post(f"{URL}/c/stop", json={"activeStreamId": "x", "message": {}})
    assert (repeated.status_code, repeated.json()) == (202, {"id": GENERATION, "status": "aborted"})


@pytest.mark.parametrize("version", [6, 7])
async def test_a_new_attempt_is_reported_to_viewers_and_is_all_that_late_joiners_see(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, version: Version
) -> None:
    answer_at_once(world, *BEGUN)
    async with asyncio.TaskGroup() as group:
        url = f"{URL}?version={version}"
        first = group.create_task(listen(live_client, url, method="POST", json=body()))
        await until_watched(services, 1)
        world.take_over(GENERATION, 2)
        if version == 6:
            await first
        second = group.create_task(listen(live_client, f"{URL}/c/stream?version={version}&ended=true"))
        await until_watched(services, 2 if version == 7 else 1)
        world.append(GENERATION, *BEGUN, *REST)
    watched, joined = (shown(received.result(), version) for received in (first, second))
    whole = [None, "Hello world"]
    assert [part.get("text") for part in joined.parts] == whole
    assert (joined.error, joined.is_done) == (None, True)
    if version == 7:
        assert [part.get("text") for part in watched.parts] == whole
    else:
        assert "begins again" in (watched.error or "")


@pytest.mark.parametrize("version", [6, 7])
async def test_a_reader_that_reads_on_behind_an_error_never_has_the_texts_of_two_attempts(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, version: Version
) -> None:
    """The SDK's own ``readUIMessageStream`` does by default."""
    answer_at_once(world, *OF_TWO_STEPS)
    async with asyncio.TaskGroup() as group:
        url = f"{URL}?version={version}"
        watched = group.create_task(listen(live_client, url, method="POST", json=body()))
        await until_watched(services, 1)
        world.take_over(GENERATION, 2)
        world.append(GENERATION, *BEGUN, *REST)
    resumed = await listen(live_client, f"{URL}/c/stream?version={version}&ended=true")
    bodies = [[bytes_of(connection)] for connection in (watched.result(), resumed)]
    pages = torn, whole = read_by_package(version, bodies, "--mode", "read")
    texts = [[part["text"] for part in page["messages"][0]["parts"] if part["type"] == "text"] for page in pages]
    assert texts == [["Hello wor", "lost"], ["Hello world"]]
    assert "begins again" in torn["error"]
    assert whole["error"] is None


async def test_a_stop_where_nothing_was_requested_changes_nothing(client: httpx2.AsyncClient) -> None:
    response = await client.post(f"{URL}/nobody/stop")
    assert (response.status_code, response.json()) == (200, {"id": None, "status": "ready"})


async def test_an_answer_that_has_ended_is_reported_to_a_page_that_requests_it(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answer_at_once(world, *BEGUN, *REST)
    sent = await listen(live_client, URL, method="POST", json=body())
    assert (await live_client.get(f"{URL}/c/stream")).status_code == 204
    repeated = await listen(live_client, f"{URL}/c/stream?ended=true")
    assert shown(repeated).message == shown(sent).message
    assert shown(repeated).is_done
    assert (await live_client.get(f"{URL}/nobody/stream?ended=true")).status_code == 204


async def test_a_deleted_answer_is_none(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answer_at_once(world, *BEGUN, *REST)
    await listen(live_client, URL, method="POST", json=body())
    await world.delete(GENERATION, tenant="local", timeout_s=1)
    assert (await live_client.get(f"{URL}/c/stream")).status_code == 204
    assert (await live_client.post(f"{URL}/c/stop")).status_code == 200


@pytest.mark.parametrize(
    ("changed", "code", "phrase"),
    [
        ({"temprature": 1}, "invalid_request", "temprature"),
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": [{"role": "user", "parts": [{"type": "file", "url": 1}]}]}, "invalid_request", "/0/parts/0"),
        ({"messages": [{"role": "user", "parts": []}]}, "invalid_request", "no content"),
        ({"id": ""}, "invalid_request", "#/id"),
        ({"id": "a\nb"}, "invalid_request", "#/id"),
        ({"messages": [message_of("Hi") | {"id": "m" * 257}]}, "invalid_request", "#/messages/0/id"),
        ({"trigger": "resume-stream"}, "invalid_request", "trigger"),
        ({"toolChoice": "maybe"}, "invalid_request", "toolChoice"),
        ({"model": "nobody-has-it"}, "unknown_model", "model"),
    ],
)  # fmt: skip
async def test_a_request_that_cannot_be_answered_has_its_fault_named_in_the_body_that_pages_show(
    client: httpx2.AsyncClient, world: MemoryWorld, changed: dict[str, Any], code: str, phrase: str
) -> None:
    answer_at_once(world, *BEGUN, *REST)
    response = await client.post(URL, json=body() | changed)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error", "code"}
    assert response.json()["code"] == code
    assert phrase in response.json()["error"]
    assert not world.requests


async def test_a_passing_failure_is_an_error_that_a_page_may_retry(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.refusal = QueueFull("as many generations wait as may")
    full = await client.post(URL, json=body())
    assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (503, "queue_full", "1")
    world.away = True
    for gone in (await client.post(URL, json=body()), await client.get(f"{URL}/c/stream")):
        assert (gone.status_code, gone.json()["code"]) == (503, "log_unavailable")


async def test_a_form_is_not_taken_for_a_chat(client: httpx2.AsyncClient) -> None:
    response = await client.post(URL, content=b"id=c", headers={"content-type": "text/plain"})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


async def test_a_refusal_outside_the_routes_has_the_same_shape(client: httpx2.AsyncClient) -> None:
    missing = await client.get(f"{URL}/c/nothing")
    wrong = await client.put(URL, json={})
    foreign = await client.post(URL, json=body(), headers={"host": "example.org"})
    for response, status in ((missing, 404), (wrong, 405), (foreign, 403)):
        assert (response.status_code, response.json().keys()) == (status, {"error", "code"})


async def test_the_same_key_gives_the_same_answer(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answer_at_once(world, *BEGUN, *REST)
    key = {"idempotency-key": "once"}
    first, repeated = [await listen(live_client, URL, method="POST", json=body(), headers=key) for _ in range(2)]
    assert shown(first).message == shown(repeated).message
    assert len(world.requests) == 1
    other = await live_client.post(URL, json=body(message_of("other")), headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize("version", [6, 7])
async def test_the_packages_send_and_resume_here(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, version: int
) -> None:
    answer_at_once(world, *BEGUN)
    api, chat = f"{live_client.base_url}{URL}?version={version}", "a/b ü"
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(asyncio.to_thread(run_driver, version, [api], "--mode", "send", "--id", chat))
        await until_watched(services, 1, chat_id=chat)
        resumed = group.create_task(asyncio.to_thread(run_driver, version, [api], "--mode", "resume", "--id", chat))
        await until_watched(services, 2, chat_id=chat)
        world.append(GENERATION, *REST)
    (page,), (reloaded,) = sent.result(), resumed.result()
    question, answer = page["messages"]
    assert question["role"] == "user"
    assert (page["status"], page["error"], reloaded["status"]) == ("ready", None, "ready")
    assert [part.get("text") for part in answer["parts"]] == [None, "Hello world"]
    assert reloaded["messages"] == [answer]


@pytest.mark.parametrize("version", [6, 7])
async def test_the_packages_show_the_body_of_an_error(live_client: httpx2.AsyncClient, version: int) -> None:
    api = f"{live_client.base_url}{URL}"
    options = ("--mode", "send", "--body", '{"model": "nobody-has-it"}')
    (page,) = await asyncio.to_thread(run_driver, version, [api], *options)
    assert json.loads(page["error"])["code"] == "unknown_model"
    (idle,) = await asyncio.to_thread(run_driver, version, [api], "--mode", "resume", "--id", "nobody")
    assert (idle["status"], idle["error"], idle["messages"]) == ("ready", None, [])
