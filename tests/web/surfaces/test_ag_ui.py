"""``POST /agui``, over real sockets; with the real client under Node where it is installed."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from fastapi import FastAPI

from broadcaster.core import events as ev
from broadcaster.errors import QueueFull
from broadcaster.web.services import Services
from tests.dialects.ag_ui import ag_ui_streams as streams
from tests.dialects.ag_ui.ag_ui_client import AgUiClient
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, own_app

NODE: Final = Path(__file__).parents[2] / "compat" / "node"
REQUEST: Final = {"id": "u1", "role": "user", "content": "Weather?"}
RUN: Final[dict[str, Any]] = {
    "threadId": "thread-1",
    "runId": "run-1",
    "protocolVersion": "1.0",
    "messages": [REQUEST],
    "tools": [],
    "context": [],
    "state": {},
    "forwardedProps": {},
}


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services)


def answering(world: MemoryWorld, *events: ev.KnownEvent | ev.DataEvent) -> None:
    """The worker sends this as soon as it has the request."""
    world.on_create = lambda generation_id: world.append(generation_id, *events)


def known(events: Sequence[ev.Event]) -> list[ev.KnownEvent | ev.DataEvent]:
    return [event for event in events if not isinstance(event, ev.UnknownEvent)]


async def run(client: httpx2.AsyncClient, **changes: Any) -> AgUiClient:
    async with asyncio.timeout(DEADLINE_S):
        response = await client.post("/agui", json={**RUN, **changes}, headers={"accept": "text/event-stream"})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    return AgUiClient([REQUEST]).read(response.content)


async def test_a_run_is_streamed_whole(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answering(world, *known(streams.LOOP))
    client = await run(live_client)
    assert client.outcome == "success"
    assert client.text == "I ask two.Paris 18, Rome 22."


async def test_the_run_is_the_clients_own(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answering(world, *known(streams.LOOP))
    response = await live_client.post("/agui", json=RUN)
    first = events_of(response.text)[0]
    assert first == {"type": "RUN_STARTED", "threadId": "thread-1", "runId": "run-1", "protocolVersion": "1.0"}
    assert response.headers["broadcaster-generation-id"] in world.streams


async def test_the_request_reaches_the_worker(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answering(world, *known(streams.LOOP))
    tools = [{"name": "weather", "description": "Says it", "parameters": {"type": "object"}}]
    await run(
        live_client,
        tools=tools,
        context=[{"description": "The user's city", "value": "Paris"}],
        forwardedProps={"model": "claude-x", "max_tokens": 7, "temperature": 0.5, "theme": "dark"},
    )
    (response,) = world.requests
    assert (response.model, response.on_abandon) == ("claude-x", "cancel")
    assert response.request == {
        "messages": [{"role": "user", "content": "Weather?"}],
        "system": "The user's city:\nParis",
        "tools": [{"name": "weather", "description": "Says it", "input_schema": {"type": "object"}}],
        "max_tokens": 7,
        "temperature": 0.5,
        "metadata": {"threadId": "thread-1"},
    }


async def test_without_a_model_the_servers_default_is_used(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answering(world, *known(streams.LOOP))
    await run(live_client, forwardedProps=None)
    (response,) = world.requests
    assert response.model == "local"


async def test_a_new_attempt_goes_back_to_the_conversation_that_was_sent(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answering(world, *known(streams.STREAMS["new attempt"]))
    client = await run(live_client)
    assert (client.outcome, client.text) == ("success", "I ask two.Paris 18, Rome 22.")
    assert client.messages[0] == REQUEST


async def test_the_same_key_gives_the_same_run(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answering(world, *known(streams.LOOP))
    key = {"idempotency-key": "once"}
    first = await live_client.post("/agui", json=RUN, headers=key)
    repeated = await live_client.post("/agui", json={**RUN, "runId": "run-2"}, headers=key)
    header = "broadcaster-generation-id"
    assert repeated.headers[header] == first.headers[header]
    assert AgUiClient([REQUEST]).read(repeated.content).left_with == AgUiClient([REQUEST]).read(first.content).left_with


async def test_a_late_joiner_receives_a_snapshot_of_the_answer_so_far(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    texts = [ev.TextDelta(id="0", delta="w") for _ in range(500)]
    answering(world, streams.START, ev.TextStart(id="0"), *texts)
    key = {"idempotency-key": "once"}
    async with asyncio.timeout(DEADLINE_S), live_client.stream("POST", "/agui", json=RUN, headers=key) as first:
        id = first.headers["broadcaster-generation-id"]
        async with live_client.stream("POST", "/agui", json=RUN, headers=key) as late:
            world.append(id, ev.TextEnd(id="0"), ev.Finish(finish_reason="stop"))
            short = await late.aread()
        whole = await first.aread()
    assert AgUiClient([REQUEST]).read(short).text == AgUiClient([REQUEST]).read(whole).text == "w" * 500
    assert short.count(b"TEXT_MESSAGE_CONTENT") < 10


# ------------------------------------------------------------------------------------------------------- coming back

TORN: Final = (streams.START, ev.TextStart(id="0"), ev.TextDelta(id="0", delta="The sea "))
REST: Final = (ev.TextDelta(id="0", delta="is salty."), ev.TextEnd(id="0"), ev.Finish(finish_reason="stop"))


async def torn_run(client: httpx2.AsyncClient, world: MemoryWorld) -> tuple[str, bytes, str]:
    """A run whose connection is lost in mid-answer: its id here, what had come, and the last SSE id of that."""
    answering(world, *TORN)
    came = b""
    async with asyncio.timeout(DEADLINE_S), client.stream("POST", "/agui", json=RUN) as response:
        async for chunk in response.aiter_bytes():
            came += chunk
            if b"The sea " in came:
                break
    return response.headers["broadcaster-generation-id"], came, came.rpartition(b"id: ")[2].split(b"\n")[0].decode()


async def test_the_same_post_with_the_last_id_continues_behind_it_and_starts_nothing(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    id, came, last = await torn_run(live_client, world)
    world.append(id, *REST)
    rest = await live_client.post("/agui", json=RUN, headers={"last-event-id": last})
    assert rest.headers["broadcaster-generation-id"] == id
    assert len(world.requests) == 1
    assert [event["type"] for event in events_of(rest.text)] == [
        "RUN_STARTED", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
    ]  # fmt: skip
    _, _, behind = rest.content.partition(b"\n\n")
    assert AgUiClient([REQUEST]).read(came + behind).text == "The sea is salty."
    last = rest.text.rpartition("id: ")[2].split("\n")[0]
    over = await live_client.post("/agui", json=RUN, headers={"last-event-id": last})
    assert (over.status_code, over.content) == (204, b"")


@pytest.mark.parametrize("changes", [{"runId": "run-other"}, {"threadId": "thread-other"}])
async def test_a_cursor_of_a_run_that_is_not_known_starts_nothing_either(
    live_client: httpx2.AsyncClient, world: MemoryWorld, changes: dict[str, str]
) -> None:
    _, _, last = await torn_run(live_client, world)
    lost = await live_client.post("/agui", json={**RUN, **changes}, headers={"last-event-id": last})
    assert (lost.status_code, lost.json()["code"]) == (404, "unknown_stream")
    bad = await live_client.post("/agui", json=RUN, headers={"last-event-id": "no cursor"})
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_cursor")
    assert len(world.requests) == 1


async def test_a_joiner_gets_the_conversation_then_what_was_written_then_the_rest(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    id, _, last = await torn_run(live_client, world)
    join = live_client.stream("GET", "/agui", params={"runId": "run-1", "offset": "-1"})
    async with asyncio.timeout(DEADLINE_S), join as late:
        world.append(id, *REST)
        received = await late.aread()
    started, _, _, snapshot, *rest = events_of(received.decode())
    assert (started["threadId"], started["runId"]) == ("thread-1", "run-1")
    assert snapshot["type"] == "MESSAGES_SNAPSHOT"
    assert [(each["role"], each["content"]) for each in snapshot["messages"]] == [("user", "Weather?")]
    assert next(each for each in rest if each["type"] == "TEXT_MESSAGE_CONTENT")["delta"].startswith("The sea ")
    joined = AgUiClient([]).read(received)
    assert (joined.outcome, joined.text, joined.messages[0]["content"]) == ("success", "The sea is salty.", "Weather?")
    cursors: tuple[tuple[str, dict[str, str]], ...] = ((last, {}), ("-1", {"last-event-id": last}))
    for offset, headers in cursors:
        behind = await live_client.get("/agui", params={"runId": "run-1", "offset": offset}, headers=headers)
        assert "MESSAGES_SNAPSHOT" not in behind.text
        assert "The sea " not in behind.text
        assert "is salty." in behind.text
    assert len(world.requests) == 1


@pytest.mark.parametrize("last", ["7-99", "6-3", "9-3"], ids=["beyond the end", "another attempt", "another run"])
async def test_an_id_that_the_run_never_gave_is_answered_by_the_whole_run_behind_its_conversation(
    live_client: httpx2.AsyncClient, world: MemoryWorld, last: str
) -> None:
    id, came, _ = await torn_run(live_client, world)
    world.append(id, *REST)
    torn = AgUiClient([REQUEST]).read(came).messages
    post = live_client.post("/agui", json=RUN, headers={"last-event-id": last})
    for response in (await post, await live_client.get("/agui", params={"runId": "run-1", "offset": last})):
        assert response.status_code == 200
        client = AgUiClient(torn).read(response.content)
        assert (client.errors, client.outcome, client.text) == (["new_attempt"], "success", "The sea is salty.")
    assert len(world.requests) == 1


async def test_a_thread_names_and_joins_its_newest_run_for_as_long_as_that_is_kept(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    async def named() -> Any:
        response = await live_client.get("/agui", params={"threadId": "thread-1"})
        assert response.json().keys() == {"messages", "activeRun", "interrupts"}
        return response.json()["activeRun"]

    async def joined() -> httpx2.Response:
        headers = {"accept": "text/event-stream"}
        return await live_client.get("/agui", params={"threadId": "thread-1"}, headers=headers)

    assert (await named(), (await joined()).status_code) == (None, 404)
    answering(world, *known(streams.LOOP))
    for run_id in ("run-1", "run-2"):
        await run(live_client, runId=run_id)
        await run(live_client, runId="elsewhere", threadId="thread-2")
        assert await named() == {"runId": run_id}
    client = AgUiClient([]).read((await joined()).content)
    assert (client.outcome, client.messages[0]["content"]) == ("success", "Weather?")
    world.streams[list(world.streams)[-2]].entries.clear()
    assert await named() is None


async def test_a_joiner_keeps_the_conversation_through_a_new_attempt(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answering(world, *known(streams.STREAMS["new attempt"]))
    await live_client.post("/agui", json=RUN)
    joined = AgUiClient([]).read((await live_client.get("/agui", params={"runId": "run-1"})).content)
    assert (joined.outcome, joined.messages[0]["content"]) == ("success", "Weather?")


@pytest.mark.parametrize("query", [{}, {"runId": ""}, {"offset": "-1"}])
async def test_a_join_without_a_run_is_refused_by_name(live_client: httpx2.AsyncClient, query: dict[str, str]) -> None:
    response = await live_client.get("/agui", params=query)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert "runId" in response.json()["error"]


async def test_a_run_without_viewers_continues_where_its_caller_wants_that(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answering(world, *known(streams.LOOP))
    await run(live_client, forwardedProps={"on_abandon": "continue"})
    await run(live_client, forwardedProps={"on_abandon": None})
    assert [response.on_abandon for response in world.requests] == ["continue", "cancel"]
    refused = await live_client.post("/agui", json={**RUN, "forwardedProps": {"on_abandon": "later"}})
    assert (refused.status_code, "on_abandon" in refused.json()["error"]) == (400, True)


def events_of(text: str) -> list[dict[str, Any]]:
    blocks = text.split("\n\n")
    return [json.loads(line[6:]) for each in blocks for line in each.split("\n") if line.startswith("data: ")]


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("changes", "status", "code", "message"),
    [
        ({"threadId": None}, 400, "invalid_request", "#/threadId"),
        ({"runId": 3}, 400, "invalid_request", "#/runId"),
        ({"messages": []}, 400, "invalid_request", "#/messages"),
        ({"messages": [{"id": "s", "role": "system", "content": "x"}]}, 400, "invalid_request", "for a model"),
        ({"messages": [{"id": "x", "role": "robot"}]}, 400, "invalid_request", "role"),
        ({"messages": [{**REQUEST, "content": [{"type": "audio"}]}]}, 400, "invalid_request", "audio"),
        ({"forwardedProps": {"temperature": "hot"}}, 400, "invalid_request", "temperature"),
        ({"forwardedProps": {"model": "nobodys-model"}}, 400, "unknown_model", "no route"),
        ({"resume": [{"interruptId": "i", "status": "resolved"}]}, 400, "invalid_request", "#/resume"),
    ],
)
async def test_an_error_is_reported_in_the_surfaces_shape(
    live_client: httpx2.AsyncClient, changes: dict[str, Any], status: int, code: str, message: str
) -> None:
    response = await live_client.post("/agui", json={**RUN, **changes})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error", "code"}
    assert body["code"] == code
    assert message in body["error"]


async def test_another_body_under_the_same_key_is_refused(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answering(world, *known(streams.LOOP))
    key = {"idempotency-key": "once"}
    await live_client.post("/agui", json=RUN, headers=key)
    other = {**RUN, "messages": [{**REQUEST, "content": "Else?"}]}
    response = await live_client.post("/agui", json=other, headers=key)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_mismatch")


async def test_a_full_queue_is_reported_with_a_retry_delay(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.refusal = QueueFull("10000 generations are waiting")
    response = await live_client.post("/agui", json=RUN)
    assert (response.status_code, response.json()["code"]) == (503, "queue_full")
    assert response.headers["retry-after"] == "1"


# ------------------------------------------------------------------------------------------------------ the real client

with_the_client = pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules" / "@ag-ui" / "client").is_dir(),
    reason="@ag-ui/client is not installed in tests/compat/node",
)


async def run_by_client(base_url: object, **input: Any) -> dict[str, Any]:
    """What the user of ``HttpAgent`` is left with."""
    url = f"{str(base_url).rstrip('/')}/agui"
    command = ("node", str(NODE / "ag_ui.mjs"), "--url", url, "--input", json.dumps(input))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(3 * DEADLINE_S):
        out, _ = await process.communicate()
    read: dict[str, Any] = json.loads(out)
    return read


@with_the_client
@pytest.mark.parametrize("name", ["agent loop", "new attempt", "stopped", "failed", "calls that nobody answers"])
async def test_the_client_is_left_with_the_run(live_client: httpx2.AsyncClient, world: MemoryWorld, name: str) -> None:
    answering(world, *known(streams.STREAMS[name]))
    read = await run_by_client(live_client.base_url, messages=[REQUEST])
    expected = await run(live_client)
    (first, second) = world.streams
    result = json.loads(json.dumps(expected.left_with).replace(second, first))
    assert {field: read[field] for field in result} == result
    assert read["warned"] == []


@with_the_client
async def test_the_client_goes_on_with_the_answer_it_got(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answering(world, *known(streams.LOOP))
    read = await run_by_client(live_client.base_url, messages=[REQUEST])
    follow_up = {"id": "u2", "role": "user", "content": "And tomorrow?"}
    await run_by_client(live_client.base_url, messages=[*read["messages"], follow_up])
    turns = world.requests[-1].request["messages"]
    assert turns[1]["content"][0] == {"type": "thinking", "thinking": "Let me look.", "signature": "c2ln"}
    assert turns[-1] == {"role": "user", "content": "And tomorrow?"}


@with_the_client
async def test_the_client_raises_our_errors(live_client: httpx2.AsyncClient) -> None:
    read = await run_by_client(live_client.base_url, forwardedProps={"model": "nobodys-model"})
    assert (read["outcome"], read["status"], read["payload"]["code"]) == ("failed", 400, "unknown_model")
