"""The calls: what is sent, what comes back, how they fail, what is repeated."""

from __future__ import annotations

import asyncio
import json

import pytest

from broadcaster.client import AsyncClient, BadAnswer, CannotConnect, ClientError, Fault, Generation, JobProgress
from broadcaster.client import client as client_module
from broadcaster.client.repeating import RETRIES
from broadcaster.core.cursor import Cursor
from tests.support.servers.sse_server import Exchange, Plan, SseServer

RUNNING = {
    "id": "gen_1", "status": "running", "model": "local", "attempt": 1,
    "created_at": 1.5, "started_at": 2.0, "ended_at": None, "stop_requested": False, "viewers": 2,
    "last_id": "7-3", "last_seq": 3, "events_url": "/v1/streams/gen_1/events", "usage": {"inputTokens": 3},
    "text": "Hé", "reasoning": "", "parts": [{"type": "text", "text": "Hé", "state": "streaming"}],
    "error": None, "metadata": {"chat": "42"}, "of_a_newer_version": True,
}  # fmt: skip


def answering(document: object, status: int = 200) -> Plan:
    async def plan(exchange: Exchange) -> None:
        await exchange.answer(status, json.dumps(document).encode(), **{"content-type": "application/json"})

    return plan


def failing(status: int, code: str, *, retry: bool = False) -> Plan:
    async def plan(exchange: Exchange) -> None:
        await exchange.problem(status, code, retry=retry)

    return plan


async def hang_up(exchange: Exchange) -> None:
    """End the connection without an answer."""


async def be_silent(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def test_start_sends_the_requested_fields_and_nothing_else(server, client):
    server.routes["POST", "/v1/generations"] = answering({"id": "gen_1", "status": "queued"}, 202)
    generation = await client.start("Hé?", model="local", max_tokens=5, system=None)
    assert generation == Generation(id="gen_1", status="queued")
    [request] = server.requests
    assert request.body == {"prompt": "Hé?", "model": "local", "max_tokens": 5}
    assert request.headers["idempotency-key"]
    assert "authorization" not in request.headers


async def test_start_takes_a_conversation_and_the_callers_own_key(server, client):
    server.routes["POST", "/v1/generations"] = answering({"id": "gen_1", "status": "queued"}, 202)
    messages = [{"role": "user", "content": "hello"}]
    await client.start(messages=messages, idempotency_key="mine")
    assert server.requests[0].body == {"messages": messages}
    assert server.requests[0].headers["idempotency-key"] == "mine"


async def test_a_start_whose_answer_was_lost_is_repeated_under_the_same_key(server, client):
    plans = iter([hang_up, failing(503, "log_unavailable", retry=True), answering({"id": "gen_1", "status": "queued"})])
    server.routes["POST", "/v1/generations"] = lambda exchange: next(plans)(exchange)
    assert (await client.start("x")).id == "gen_1"
    assert len(server.requests) == 3
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1


async def test_two_starts_have_two_keys(server, client):
    server.routes["POST", "/v1/generations"] = answering({"id": "gen_1", "status": "queued"})
    await client.start("x")
    await client.start("x")
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 2


async def test_get_gives_the_generation_as_it_stands(server, client):
    server.routes["GET", "/v1/generations/gen_1"] = answering(RUNNING)
    generation = await client.get("gen_1")
    assert (generation.status, generation.text, generation.viewers) == ("running", "Hé", 2)
    assert generation.cursor == Cursor(7, 3)
    assert not generation.is_over
    assert server.requests[0].query == {}


async def test_get_can_wait_for_the_end_longer_than_other_calls_may_take(server):
    async def slow(exchange: Exchange) -> None:
        passed = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, passed.set)
        await passed.wait()
        failed = RUNNING | {"status": "failed", "error": {"code": "worker_lost", "message": "gone"}}
        await answering(failed)(exchange)

    server.routes["GET", "/v1/generations/gen_1"] = slow
    async with AsyncClient(server.url, timeout_s=0.2) as client:
        generation = await client.get("gen_1", wait_s=2.5)
    assert generation.is_over
    assert generation.error == Fault("worker_lost", "gone")
    assert server.requests[0].query == {"wait_s": "2.5"}


async def test_get_waits_on_where_a_front_end_responds_before_the_end(server, client, monkeypatch):
    monkeypatch.setattr(client_module, "WAITING_PACE_S", 0.01)
    documents = [RUNNING, RUNNING, RUNNING | {"status": "finished"}]

    async def next_document(exchange: Exchange) -> None:
        await answering(documents.pop(0))(exchange)

    server.routes["GET", "/v1/generations/gen_1"] = next_document
    assert (await client.get("gen_1", wait_s=600)).is_over
    waits = [float(request.query["wait_s"]) for request in server.requests]
    assert len(waits) == 3
    assert 600 == waits[0] > waits[1] > waits[2] > 500


async def test_get_returns_a_generation_that_still_runs_when_its_time_is_over(server, client):
    server.routes["GET", "/v1/generations/gen_1"] = answering(RUNNING)
    assert (await client.get("gen_1", wait_s=0.05)).status == "running"
    assert [float(request.query["wait_s"]) for request in server.requests] == [0.05, 0]


async def test_list_gives_a_page_and_where_the_next_one_begins(server, client):
    rows = [RUNNING, {"id": "b", "status": "queued"}]
    server.routes["GET", "/v1/generations"] = answering({"generations": rows, "next_before": "17"})
    page = await client.list(status="open", limit=2)
    assert [(each.id, each.cursor) for each in page] == [("gen_1", Cursor(7, 3)), ("b", None)]
    assert (len(page), page.next_before) == (2, "17")
    await client.list(before=page.next_before)
    assert [request.query for request in server.requests] == [
        {"status": "open", "limit": "2"},
        {"status": "all", "before": "17"},
    ]


async def test_list_streams_gives_generations_and_feeds(server, client):
    progress = {"job": "", "done": 1, "total": 4, "message": "copying"}
    feed = {"id": "nightly", "kind": "feed", "status": "running", "active_at": 3.5, "model": None}
    rows: list[dict[str, object]] = [{**feed, "progress": progress}]
    rows.append({"id": "gen_1", "kind": "generation", "status": "failed", "error": {"code": "x"}})
    server.routes["GET", "/v1/streams"] = answering({"streams": rows, "next_before": "17"})
    page = await client.list_streams(status="open", limit=2)
    assert [(each.id, each.kind, each.is_over) for each in page] == [
        ("nightly", "feed", False),
        ("gen_1", "generation", True),
    ]
    assert (len(page), page.next_before, page.streams[0].active_at) == (2, "17", 3.5)
    assert page.streams[0].progress == JobProgress("", 1, 4, "copying")
    assert server.requests[0].query == {"status": "open", "limit": "2"}


async def test_a_list_of_an_older_front_end_is_its_only_page(server, client):
    server.routes["GET", "/v1/generations"] = answering({"generations": []})
    page = await client.list()
    assert (list(page), page.next_before) == ([], None)


async def test_a_deletion_whose_answer_was_lost_is_repeated(server, client):
    async def nothing(exchange: Exchange) -> None:
        await exchange.answer(204, b"")

    plans = iter([hang_up, failing(503, "stop_pending", retry=True), nothing])
    server.routes["DELETE", "/v1/generations/gen_1"] = lambda exchange: next(plans)(exchange)
    await client.delete("gen_1")
    assert len(server.requests) == 3


async def test_stop_sends_one_request_and_returns_the_state(server, client):
    server.routes["POST", "/v1/generations/gen_1/stop"] = answering({"id": "gen_1", "status": "running"}, 202)
    assert (await client.stop("gen_1")).status == "running"
    assert [request.method for request in server.requests] == ["POST"]


async def test_an_id_stays_one_segment_of_the_path(server, client):
    for id in ("a/b", "..", "a?b#c", "é"):
        with pytest.raises(ClientError):
            await client.get(id)
    assert [request.path for request in server.requests] == [
        "/v1/generations/a%2Fb", "/v1/generations/%2E%2E", "/v1/generations/a%3Fb%23c", "/v1/generations/%C3%A9",
    ]  # fmt: skip


async def test_the_key_is_sent_as_a_bearer(server):
    server.routes["GET", "/v1/generations"] = answering({"generations": []})
    async with AsyncClient(server.url + "/", "secret") as client:
        await client.list()
    assert server.requests[0].headers["authorization"] == "Bearer secret"


async def test_a_problem_document_becomes_an_error_with_its_code(server, client):
    server.routes["POST", "/v1/generations"] = failing(400, "unknown_model")
    with pytest.raises(ClientError) as raised:
        await client.start("x")
    error = raised.value
    assert (error.code, error.status, error.detail, error.retry) == ("unknown_model", 400, "it is unknown_model", False)
    assert len(server.requests) == 1


async def test_a_retryable_failure_is_retried_a_few_times_and_then_raised(server, client):
    server.routes["POST", "/v1/generations"] = failing(503, "queue_full", retry=True)
    with pytest.raises(ClientError, match="queue_full") as raised:
        await client.start("x")
    assert (raised.value.code, raised.value.retry) == ("queue_full", True)
    assert len(server.requests) == RETRIES + 1


@pytest.mark.parametrize("plan", [answering([]), answering({"id": "x"}), answering({"error": "x"}, 418)])
async def test_an_answer_of_something_else_is_refused(server, client, plan):
    server.routes["GET", "/v1/generations/gen_1"] = plan
    with pytest.raises(BadAnswer):
        await client.get("gen_1")
    assert len(server.requests) == 1


async def test_a_redirect_is_not_followed_with_our_key(server):
    async def elsewhere(exchange: Exchange) -> None:
        await exchange.answer(307, location="http://127.0.0.1:1/")

    server.routes["GET", "/v1/generations"] = elsewhere
    async with AsyncClient(server.url, "secret") as client:
        with pytest.raises(BadAnswer):
            await client.list()


async def test_an_address_without_a_server_raises_cannot_connect():
    async with SseServer() as server:
        url = server.url
    async with AsyncClient(url.replace("//", "//me:secret@")) as client:
        with pytest.raises(CannotConnect, match=f"^cannot connect to {url}: ") as raised:
            await client.list()
    assert (raised.value.code, raised.value.status, raised.value.retry) == ("cannot_connect", None, True)


async def test_a_call_ends_at_its_deadline(server):
    server.routes["GET", "/v1/generations"] = be_silent
    async with AsyncClient(server.url, timeout_s=0.1) as client:
        async with asyncio.timeout(20):
            with pytest.raises(CannotConnect, match=r"0\.1 s"):
                await client.list()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "localhost"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(ValueError, match=r"URL|http"):
        AsyncClient(url)


@pytest.mark.parametrize("key", ["a\nb", "é", "a\0", "", "secret-key ", " secret-key"])
def test_a_key_that_no_header_can_carry_is_refused_at_once(key):
    with pytest.raises(ValueError, match="API key") as refused:
        AsyncClient("http://localhost", key)
    assert "secret" not in str(refused.value)
