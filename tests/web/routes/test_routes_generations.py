"""``/v1/generations``: create, get, wait, stop."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from broadcaster.core.events import Attempt, Error, Finish, ReasoningDelta, Start, TextDelta, Usage
from broadcaster.errors import StopNotDurable, StopPending
from broadcaster.web.services import Services
from tests.support.memory.memory_world import EPOCH, NOW_MS, MemoryWorld
from tests.support.servers.front_end import listen, until_watched

URL = "/v1/generations"
STREAM = {"accept": "text/event-stream"}


async def test_a_prompt_becomes_a_waiting_generation(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    response = await client.post(URL, json={"prompt": "why is\n the sky blue?"})
    body = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"{URL}/{body['id']}"
    assert response.headers["broadcaster-generation-id"] == body["id"]
    assert body == {
        "id": body["id"],
        "status": "queued",
        "model": "local",
        "title": "why is the sky blue?",
        "attempt": 0,
        "created_at": NOW_MS / 1000,
        "started_at": None,
        "ended_at": None,
        "stop_requested": False,
        "viewers": 0,
        "last_id": None,
        "last_seq": 0,
        "events_url": f"/v1/streams/{body['id']}/events",
        "error": None,
        "webhook": None,
        "metadata": {},
    }
    (requested,) = world.requests
    messages = [{"role": "user", "content": "why is\n the sky blue?"}]
    assert (requested.model, requested.request) == ("local", {"messages": messages})


async def test_the_whole_request_reaches_the_log(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    request_body = {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "why?", "cache_control": {"type": "ephemeral"}}]},
        ],
        "system": "you are a poet",
        "max_tokens": 7,
        "temperature": 0,
        "tools": [{"name": "search", "input_schema": {}}],
        "max_steps": 3,
        "metadata": {"chat": 42},
    }
    policies = {"on_worker_loss": "fail", "on_abandon": "cancel", "retention_s": 90.5}
    response = await client.post(URL, json={"model": "claude-x", **request_body, **policies})
    assert response.json()["metadata"] == {"chat": 42}
    assert response.json()["title"] == "why?"
    (requested,) = world.requests
    assert (requested.model, dict(requested.request)) == ("claude-x", request_body)
    assert (requested.on_worker_loss, requested.on_abandon, requested.retention_s) == ("fail", "cancel", 90.5)


async def test_the_same_key_and_body_give_the_same_generation(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    key = {"idempotency-key": "once"}
    first = await client.post(URL, json={"prompt": "a"}, headers=key)
    repeated = await client.post(URL, json={"prompt": "a"}, headers=key)
    other = await client.post(URL, json={"prompt": "b"}, headers=key)
    assert (first.json()["id"], first.status_code) == (repeated.json()["id"], repeated.status_code)
    assert "idempotent-replayed" not in first.headers
    assert repeated.headers["idempotent-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(world.requests) == 1


async def test_a_streamed_request_is_answered_with_the_stream(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.on_create = lambda each: world.append(each, Start(), TextDelta(id="0", delta="hi"), Finish())
    received = await listen(live_client, URL, method="POST", json={"prompt": "a", "stream": True}, headers=STREAM)
    assert received.status == 200
    assert received.headers["broadcaster-generation-id"] == "gen_0001"
    assert received.headers["location"] == f"{URL}/gen_0001"
    assert received.headers["content-type"].startswith("text/event-stream")
    assert [each for each, _ in received.entries] == [f"{EPOCH}-{seq}" for seq in (1, 2, 3)]


async def test_a_caller_that_requests_a_stream_gets_it_whatever_it_accepts(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.on_create = lambda each: world.append(each, Finish())
    body = {"prompt": "a", "stream": True}
    received = await listen(live_client, URL, method="POST", json=body, headers={"accept": "application/json"})
    assert (received.status, len(received.entries)) == (200, 1)


async def test_a_caller_that_does_not_request_a_stream_is_answered_at_once(client: httpx2.AsyncClient) -> None:
    response = await client.post(URL, json={"prompt": "a"}, headers=STREAM)
    assert (response.status_code, response.json()["status"]) == (202, "queued")


async def test_the_list_has_the_newest_first_without_their_answers(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    for name in ("gen_a", "gen_b", "gen_c"):
        world.add(name)
    world.append("gen_b", TextDelta(id="0", delta="hi"))
    world.append("gen_c", Finish())
    world.viewers["gen_b"] = 3
    listed = (await client.get(URL)).json()["generations"]
    assert [(each["id"], each["status"], each["viewers"]) for each in listed] == [
        ("gen_c", "finished", 0),
        ("gen_b", "running", 3),
        ("gen_a", "queued", 0),
    ]
    assert "text" not in listed[0]


@pytest.mark.parametrize(("status", "found"), [("open", ["gen_2", "gen_0"]), ("over", ["gen_3", "gen_1"])])
async def test_the_list_can_be_of_open_ones_or_of_those_that_are_over(
    client: httpx2.AsyncClient, world: MemoryWorld, status: str, found: list[str]
) -> None:
    for n in range(4):
        world.add(f"gen_{n}")
        if n % 2:
            world.append(f"gen_{n}", Finish())
    assert [each["id"] for each in (await client.get(f"{URL}?status={status}")).json()["generations"]] == found


async def test_the_list_comes_in_pages_that_name_the_next_one(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    for n in range(5):
        world.add(f"gen_{n}")
    found, before = [], ""
    for size in (2, 2, 1):
        page = (await client.get(f"{URL}?limit=2{before}")).json()
        assert len(page["generations"]) == size
        found += [each["id"] for each in page["generations"]]
        before = f"&before={page['next_before']}"
    assert page["next_before"] is None
    assert found == [f"gen_{n}" for n in (4, 3, 2, 1, 0)]


async def test_an_empty_list_is_a_list(client: httpx2.AsyncClient) -> None:
    assert (await client.get(URL)).json() == {"generations": [], "next_before": None}


async def test_a_running_generation_shows_its_answer_so_far(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    usage = Usage(input_tokens=3)
    world.append("gen_a", Start(), ReasoningDelta(id="r", delta="hm"), TextDelta(id="0", delta="blue"), usage)
    body = (await client.get(f"{URL}/gen_a")).json()
    assert (body["status"], body["text"], body["reasoning"], body["prompt"]) == ("running", "blue", "hm", "why?")
    assert body["usage"] == {"inputTokens": 3}
    assert [part["type"] for part in body["parts"]] == ["reasoning", "text"]
    assert (body["last_id"], body["last_seq"], body["attempt"]) == (f"{EPOCH}-4", 4, 1)


async def test_a_new_attempt_drops_what_the_last_one_wrote(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.append("gen_a", TextDelta(id="0", delta="gree"), Attempt(attempt=2), TextDelta(id="0", delta="blue"))
    assert (await client.get(f"{URL}/gen_a")).json()["text"] == "blue"


async def test_a_failed_generation_reports_why(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.append("gen_a", TextDelta(id="0", delta="bl"), Error(error_text="it broke", code="provider_truncated"))
    for query in ("", "?parts=false"):
        body = (await client.get(f"{URL}/gen_a{query}")).json()
        assert (body["status"], body["error"]) == ("failed", {"code": "provider_truncated", "message": "it broke"})
        assert body["ended_at"] == NOW_MS / 1000


async def test_the_short_form_leaves_the_answer_out(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.append("gen_a", TextDelta(id="0", delta="blue"))
    body = (await client.get(f"{URL}/gen_a?parts=false")).json()
    assert body["last_seq"] == 1
    assert not {"text", "parts", "reasoning", "usage", "prompt"} & body.keys()


async def test_an_answer_of_many_pages_is_folded_whole(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.append("gen_a", *(TextDelta(id="0", delta=f"{n} ") for n in range(2500)))
    text = (await client.get(f"{URL}/gen_a")).json()["text"]
    assert text == "".join(f"{n} " for n in range(2500))


async def test_a_log_that_has_expired_leaves_what_meta_knows(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.append("gen_a", TextDelta(id="0", delta="blue"), Finish())
    assert (await client.get(f"{URL}/gen_a")).json()["truncated"] is False
    world.expire("gen_a")
    body = (await client.get(f"{URL}/gen_a")).json()
    assert (body["status"], body["text"], body["last_id"]) == ("finished", "", f"{EPOCH}-2")
    assert body["truncated"] is True


async def test_stop_is_requested_once_or_twice_with_the_same_effect(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_a")
    world.append("gen_a", TextDelta(id="0", delta="bl"))
    for _ in range(2):
        response = await client.post(f"{URL}/gen_a/stop")
        assert (response.status_code, response.json()["stop_requested"]) == (202, True)
    body = (await client.get(f"{URL}/gen_a")).json()
    assert (body["status"], body["text"], body["last_seq"]) == ("aborted", "bl", 2)


async def test_a_stop_that_was_not_written_down_is_reported(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.refusal = StopNotDurable("the worker was told, but Redis could not store the stop; repeat it")
    response = await client.post(f"{URL}/gen_a/stop")
    assert (response.status_code, response.json()["code"]) == (503, "stop_not_durable")


async def test_another_tenants_generation_is_unknown(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a", tenant="somebody")
    assert (await client.get(f"{URL}/gen_a")).status_code == 404
    assert (await client.post(f"{URL}/gen_a/stop")).status_code == 404
    assert (await client.delete(f"{URL}/gen_a")).status_code == 404
    assert (await client.get(URL)).json()["generations"] == []


async def test_while_the_log_is_away_every_call_may_be_repeated(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.away = True
    answers = [
        await client.get(URL),
        await client.get(f"{URL}/gen_a"),
        await client.post(URL, json={"prompt": "a"}),
        await client.post(f"{URL}/gen_a/stop"),
        await client.delete(f"{URL}/gen_a"),
    ]
    assert {(each.status_code, each.json()["code"], each.json()["retry"]) for each in answers} == {
        (503, "log_unavailable", True)
    }


@pytest.mark.parametrize("path", [URL, "/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_request_whose_new_generation_redis_loses_at_once_may_be_repeated(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str
) -> None:
    world.on_create = world.streams.__delitem__
    requested = [{"role": "user", "content": "a"}]
    body = {URL: {"prompt": "a"}, "/v1/responses": {"model": "local", "input": "a"}}.get(
        path, {"model": "local", "max_tokens": 9, "messages": requested}
    )
    response = await client.post(path, json=body)
    assert response.status_code in (503, 529)
    assert "Redis lost the new generation" in response.text


async def test_a_deleted_generation_is_gone_and_a_second_deletion_is_no_error(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_a")
    world.append("gen_a", TextDelta(id="0", delta="blue"))
    for _ in range(2):
        response = await client.delete(f"{URL}/gen_a")
        assert (response.status_code, response.content) == (204, b"")
    assert (await client.get(f"{URL}/gen_a")).json()["code"] == "unknown_stream"
    assert (await client.get("/v1/streams/gen_a/events")).json()["code"] == "unknown_stream"


async def test_a_viewer_of_a_deleted_generation_gets_its_end(
    live_client: httpx2.AsyncClient, world: MemoryWorld, services: Services
) -> None:
    world.add("gen_a")
    watching = asyncio.create_task(listen(live_client, "/v1/streams/gen_a/events"))
    await until_watched(services, "gen_a")
    assert (await live_client.delete(f"{URL}/gen_a")).status_code == 204
    assert [data for _, data in (await watching).entries] == ['{"type":"abort","reason":"stopped"}']


async def test_a_deletion_that_is_still_stopping_it_reports_that(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_a")
    world.refusal = StopPending("it is being stopped but has not ended yet; repeat the deletion")
    response = await client.delete(f"{URL}/gen_a")
    assert (response.status_code, response.json()["code"], response.json()["retry"]) == (503, "stop_pending", True)


@pytest.mark.parametrize(
    ("prompt", "title"),
    [("  short  ", "short"), ("x" * 120, "x" * 120), ("y" * 121, "y" * 119 + "…")],
)
async def test_a_title_is_one_short_line(client: httpx2.AsyncClient, prompt: str, title: str) -> None:
    assert (await client.post(URL, json={"prompt": prompt})).json()["title"] == title
