"""Logs of real processes: one line about each request, refusal, creation, viewer and attempt, and no secret in any."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from broadcaster.testing import Answer, Script, ScriptedProvider
from tests.support.log_lines import chosen, lines_of, only
from tests.support.servers.processes import Running, Stack

MODEL = "claude-scripted"
SECRET = "secret-5f1e77a9"
KEY = f"{SECRET}-key-0123456789"
KEYS = json.dumps({"acme": [{"key": KEY, "name": "web"}]})


@asynccontextmanager
async def keyed(front_end: Running) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=front_end.url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
async def worker(stack: Stack) -> Running:
    return await stack.worker(anthropic_api_key=KEY)


@pytest.fixture
async def front_end(stack: Stack) -> Running:
    return await stack.front_end(auth="keys", api_keys=KEYS, log_refusals_per_s=3)


async def start(client: httpx2.AsyncClient, **body: object) -> str:
    response = await client.post("/v1/generations", json={"prompt": f"{SECRET}-prompt", **body})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def test_a_generation_leaves_one_line_for_each_of_its_steps(
    scripted: ScriptedProvider, front_end: Running, worker: Running
) -> None:
    conversation = scripted.conversation(MODEL)
    async with keyed(front_end) as client:
        response = await client.post(
            "/v1/generations",
            json={"prompt": f"{SECRET}-prompt", "metadata": {"a": f"{SECRET}-metadata"}},
            headers={"x-request-id": "req-of-the-test"},
        )
        stream = response.json()["id"]
        await conversation.send_text(f"{SECRET}-answer-0 ")
        async with asyncio.timeout(20):  # the worker has the first content before the rest is sent
            while not (await client.get(f"/v1/generations/{stream}")).json()["text"]:
                await asyncio.sleep(0.02)
        for number in range(1, 20):
            await conversation.send_text(f"{SECRET}-answer-{number} ")
        await conversation.finish()
        events = (await client.get(f"/v1/streams/{stream}/events?hint={SECRET}")).text
    created = await only(front_end, "stream_created", stream=stream)
    assert created["request_id"] == "req-of-the-test"
    assert (created["tenant"], created["caller"], created["model"]) == ("acme", "web", MODEL)
    request = await only(front_end, "request_ended", operation="create_generation")
    assert (request["status"], request["stream"], request["request_id"]) == (202, stream, "req-of-the-test")
    viewer = await only(front_end, "viewer_ended", stream=stream)
    assert (viewer["level"], viewer["reason"], viewer["lag"], viewer["status"]) == ("info", "terminal", 0, 200)
    assert viewer["entries"] == events.count("\nid: ") + events.startswith("id: ")
    assert viewer["sent_bytes"] >= len(events)
    assert 0 < viewer["first_entry_s"] <= viewer["duration_s"]
    attempt = await only(worker, "attempt_ended", stream=stream)
    assert (attempt["level"], attempt["outcome"], attempt["reason"]) == ("info", "finished", "stop")
    assert (attempt["tenant"], attempt["provider"], attempt["provider_model"]) == ("acme", "anthropic", MODEL)
    assert (attempt["attempt"], attempt["tries"]) == (1, 1)
    assert attempt["queue_wait_s"] >= 0
    assert 0 < attempt["first_token_s"] <= attempt["duration_s"]
    assert attempt["input_tokens"] > 0
    assert attempt["output_tokens"] > 0
    assert attempt["tokens_per_s"] > 0
    for process in (front_end, worker):
        assert SECRET not in process.log.read_text()


async def test_the_line_of_a_failed_answer_names_its_reason_and_is_a_warning(
    scripted: ScriptedProvider, front_end: Running, worker: Running
) -> None:
    scripted.script(MODEL, Script(Answer(400, {"request-id": "req_011"}, message=f"{SECRET} is too long")))
    async with keyed(front_end) as client:
        stream = await start(client)
        body = {"model": MODEL, "messages": [{"role": "user", "content": SECRET}]}
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 400
    attempt = await only(worker, "attempt_ended", stream=stream)
    assert (attempt["level"], attempt["outcome"], attempt["reason"]) == ("warning", "failed", "provider_bad_request")
    assert attempt["provider_request_id"] == "req_011"
    assert "first_token_s" not in attempt
    refused = await only(front_end, "request_refused", operation="create_chat_completion")
    assert (refused["status"], refused["surface"]) == (400, "chat completions")
    assert SECRET not in worker.log.read_text() + front_end.log.read_text()


async def test_a_stopped_answer_and_a_viewer_that_leaves_are_no_failures(
    scripted: ScriptedProvider, front_end: Running, worker: Running
) -> None:
    conversation = scripted.conversation(MODEL)
    async with keyed(front_end) as client:
        stream = await start(client)
        async with client.stream("GET", f"/v1/streams/{stream}/events") as response:
            await conversation.send_text("half an answer")
            async for chunk in response.aiter_bytes():
                if b"half an answer" in chunk:
                    break
        viewer = await only(front_end, "viewer_ended", stream=stream)
        assert (viewer["level"], viewer["reason"]) == ("info", "client_gone")
        await client.post(f"/v1/generations/{stream}/stop")
    attempt = await only(worker, "attempt_ended", stream=stream)
    assert (attempt["level"], attempt["outcome"], attempt["reason"]) == ("info", "aborted", "stopped")
    assert attempt["is_estimated"] is True


async def test_a_crowd_of_refused_requests_is_counted_and_not_written(front_end: Running) -> None:
    crowd = 200
    async with httpx2.AsyncClient(base_url=front_end.url) as client:
        wrong = {"x-api-key": f"{SECRET}-that-is-no-key"}
        refused = await asyncio.gather(
            *(client.get(f"/v1/generations?n={SECRET}", headers=wrong) for _ in range(crowd))
        )
        assert {response.status_code for response in refused} == {401}

    def counted() -> int:
        lines = chosen(front_end, "request_refused", code="unauthorized")
        return sum(line.get("suppressed", 1) for line in lines)

    async with asyncio.timeout(10):
        while counted() < crowd:
            await asyncio.sleep(0.05)
    lines = chosen(front_end, "request_refused", code="unauthorized")
    assert counted() == crowd
    assert len(lines) < crowd / 5
    assert all("tenant" not in line and "caller" not in line for line in lines)
    assert SECRET not in front_end.log.read_text()


async def test_malformed_http_is_a_refusal_and_health_is_silent(front_end: Running) -> None:
    host, _, port = front_end.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
    assert b"400" in await reader.readline()
    writer.close()
    async with httpx2.AsyncClient(base_url=front_end.url) as client:
        for path in ("/healthz", "/readyz", "/", "/docs"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get(f"/v1/streams/gen_1/events?token={SECRET}")).status_code == 401
        assert (await client.get(f"/nothing-here?hint={SECRET}", headers={"x-api-key": KEY})).status_code == 404
    assert (await only(front_end, "request_refused", code="malformed_http"))["status"] == 400
    assert (await only(front_end, "request_refused", code="not_found"))["path"] == "/nothing-here"
    assert await only(front_end, "request_refused", status=401)
    assert SECRET not in front_end.log.read_text()
    events = [line["event"] for line in lines_of(front_end)]
    assert "request_ended" not in events


async def test_the_console_format_is_text_for_people(stack: Stack) -> None:
    front_end = await stack.front_end(log_format="console")
    async with httpx2.AsyncClient(base_url=front_end.url) as client:
        assert (await client.get("/v1/generations/gen_unknown")).status_code == 404
    line = await front_end.logged("request_refused")
    assert not line.startswith("{")
    assert "code=unknown_stream" in line
