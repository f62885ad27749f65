"""``start``, ``stop`` and ``publish`` of the JavaScript client under each runtime."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from tests.clients_js.conftest import FrontEnd
from tests.compat.node_clients import Driver
from tests.support.servers.sse_server import Exchange, Plan, SseServer

GENERATION = {"id": "gen_1", "status": "queued", "events_url": "/v1/streams/gen_1/events"}


def document(value: Any, status: int = 200) -> Plan:
    async def plan(exchange: Exchange) -> None:
        await exchange.answer(status, json.dumps(value).encode(), **{"content-type": "application/json"})

    return plan


def in_turn(*plans: Plan) -> Plan:
    """One plan for each request, the last one for all that follow."""
    left = list(plans)

    async def plan(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return plan


def problem(status: int, code: str, *, retry: bool = False, **headers: str) -> Plan:
    async def plan(exchange: Exchange) -> None:
        await exchange.problem(status, code, retry=retry, **headers)

    return plan


async def cut(exchange: Exchange) -> None:
    """No response."""


async def stored(front_end: FrontEnd, stream_id: str) -> dict[str, Any]:
    async with httpx2.AsyncClient(base_url=front_end.url) as client:
        response = await client.get(f"/v1/streams/{stream_id}", params={"parts": "true"})
        found: dict[str, Any] = response.json()
        return found


async def test_a_generation_is_started_and_stopped(driver: Driver, front_end: FrontEnd) -> None:
    started = (await driver.request("start", request="Why?", server=front_end.url))["result"]
    assert (started["status"], started["title"]) == ("queued", "Why?")
    stopped = (await driver.request("stop", stream=started["id"], server=front_end.url))["result"]
    assert stopped["id"] == started["id"]
    result = await driver.request("follow", url=started["events_url"], server=front_end.url)
    assert result["state"]["status"] == "aborted"


async def test_a_start_whose_response_was_lost_is_repeated_under_its_key(driver: Driver, server: SseServer) -> None:
    server.routes["POST", "/v1/generations"] = in_turn(cut, problem(503, "busy", retry=True), document(GENERATION))
    result = await driver.request("start", request={"prompt": "Why?"}, server=f"{server.url}/")
    assert result["result"] == GENERATION
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert [request.body for request in server.requests] == [{"prompt": "Why?"}] * 3


@pytest.mark.parametrize(
    ("plan", "code", "calls"),
    [
        (problem(422, "unknown_model"), "unknown_model", 1),
        (problem(503, "queue_full", retry=True), "queue_full", 3),
        (problem(429, "rate_limited", retry=True, **{"retry-after": "9"}), "rate_limited", 1),
        (cut, "cannot_connect", 3),
        (document("<html>", 404), "bad_answer", 1),
    ],
)
async def test_a_call_that_fails_reports_its_code(
    driver: Driver, server: SseServer, plan: Plan, code: str, calls: int
) -> None:
    server.routes["POST", "/v1/generations"] = plan
    failure = (await driver.request("start", request="Why?", server=server.url))["failure"]
    assert (failure["code"], len(server.requests)) == (code, calls)


async def test_a_call_whose_token_is_refused_is_repeated_with_a_new_one_once(driver: Driver, server: SseServer) -> None:
    refused = problem(401, "token_expired")
    server.routes["POST", "/v1/generations"] = in_turn(refused, document(GENERATION), refused)
    tokens = ["old", "new"]
    assert (await driver.request("start", request="?", server=server.url, tokens=tokens))["result"] == GENERATION
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer old", "Bearer new"]
    failed = await driver.request("start", request="?", server=server.url, tokens=tokens)
    assert (failed["failure"]["code"], len(server.requests)) == ("token_expired", 4)


async def test_a_signal_ends_a_call_and_a_watch_whose_token_function_does_not_return(
    driver: Driver, server: SseServer
) -> None:
    options = {"tokens": ["!never"], "abort_ms": 50}
    started = await driver.request("start", request="Why?", server=server.url, **options)
    assert started["failure"]["name"] == "TimeoutError"
    followed = await driver.request("follow", url="s", server=server.url, **options)
    assert (followed["failure"]["name"], followed["updates"]) == ("AbortError", [])
    assert server.requests == []


async def test_texts_become_a_part_and_events_stand_between_them(driver: Driver, front_end: FrontEnd) -> None:
    pieces = ["Salt ", "and ", {"type": "data-progress", "data": {"done": 1}}, "water"]
    published = await driver.request("publish", stream="job", list=pieces, server=front_end.url)
    assert published["state"]["status"] == "finished"
    found = await stored(front_end, "job")
    assert found["text"] == "Salt and water"
    assert [part["type"] for part in found["parts"]] == ["text", "data-progress", "text"]
    assert {part["state"] for part in found["parts"] if part["type"] == "text"} == {"done"}


async def test_many_pieces_share_appends_and_keep_their_order(driver: Driver, front_end: FrontEnd) -> None:
    pieces = [f"{number} " for number in range(3000)]
    await driver.request("publish", stream="job", list=pieces, server=front_end.url)
    assert (await stored(front_end, "job"))["text"] == "".join(pieces)


async def test_pieces_that_are_too_large_for_one_body_go_with_several_appends(
    driver: Driver, front_end: FrontEnd
) -> None:
    pieces = ["x" * 60_000] * 90
    published = await driver.request("publish", stream="job", list=pieces, server=front_end.url)
    assert published["state"]["status"] == "finished"
    assert (await stored(front_end, "job"))["text"] == "".join(pieces)


async def test_a_body_holds_as_many_pieces_as_fit_and_at_least_one(driver: Driver, server: SseServer) -> None:
    for method, path in (("PUT", ""), ("POST", "/close"), ("POST", "/events")):
        server.routes[method, f"/v1/streams/job{path}"] = document({"id": "job"})
    pieces = ["x" * 600_000, "y" * 400_000, "z" * 1_200_000, "end"]
    await driver.request("publish", stream="job", list=pieces, server=server.url)
    appended = [request.body for request in server.requests if request.path.endswith("/events")]
    sizes = [sum(len(event.get("delta", "")) for event in events) for events in appended]
    assert sum(sizes) == 2_200_003
    assert max(sizes) == 1_200_000


async def test_pieces_of_too_many_values_for_one_body_go_in_halves_with_keys_of_their_own(
    driver: Driver, front_end: FrontEnd
) -> None:
    pieces = [{"type": "data-row", "data": [number] * 200} for number in range(1200)]
    published = await driver.request("publish", stream="job", list=pieces, server=front_end.url)
    assert published["state"]["status"] == "finished"
    assert [part["data"][0] for part in (await stored(front_end, "job"))["parts"]] == list(range(1200))


async def test_one_piece_that_is_too_large_for_a_body_is_refused(driver: Driver, server: SseServer) -> None:
    for method, path in (("PUT", ""), ("POST", "/close")):
        server.routes[method, f"/v1/streams/job{path}"] = document({"id": "job"})
    server.routes["POST", "/v1/streams/job/events"] = problem(413, "body_too_large")
    pieces = [{"type": "data-row", "data": number} for number in range(8)]
    result = await driver.request("publish", stream="job", list=pieces, server=server.url)
    assert result["failure"]["code"] == "body_too_large"
    appended = [request.body for request in server.requests if request.path.endswith("/events")]
    assert appended[-1] == pieces[:1]


@pytest.mark.parametrize(
    ("pieces", "options", "status", "failure"),
    [
        (["half", "!"], {}, "failed", "Error"),
        (["half"], {"abort_ms": 50}, "aborted", "AbortError"),
        (["half", {"type": "error", "errorText": "the disk is full", "code": "disk_full"}, "more"], {}, "failed", None),
        ([{"type": "no-such-type"}], {}, "failed", "BroadcasterError"),
    ],
)
async def test_the_end_of_the_source_is_the_end_of_the_stream(
    driver: Driver, front_end: FrontEnd, pieces: list[Any], options: dict[str, Any], status: str, failure: str | None
) -> None:
    result = await driver.request("publish", stream="job", list=pieces, server=front_end.url, **options)
    assert result.get("failure", {}).get("name") == failure
    found = await stored(front_end, "job")
    assert found["status"] == status
    assert "secret" not in json.dumps(found)
    assert found["text"] in ("half", "")


async def test_an_open_part_that_the_source_did_not_complete_stays_open(driver: Driver, front_end: FrontEnd) -> None:
    await driver.request("publish", stream="job", list=["half", "!"], server=front_end.url)
    assert [part["state"] for part in (await stored(front_end, "job"))["parts"]] == ["streaming"]


async def test_while_the_source_is_quiet_its_lease_is_renewed(driver: Driver, server: SseServer) -> None:
    server.routes["PUT", "/v1/streams/job"] = document({"id": "job"})
    server.routes["POST", "/v1/streams/job/close"] = document({"id": "job"})
    options = {"server": server.url, "config": {"lease_s": 0.3}, "abort_ms": 3000}
    publishing = asyncio.create_task(driver.request("publish", stream="job", list=[], **options))
    await server.wait_for(lambda: sum(request.method == "PUT" for request in server.requests) >= 4)
    await publishing
    [renewal] = {json.dumps(request.body) for request in server.requests if request.method == "PUT"}
    assert json.loads(renewal)["lease_s"] == 0.3
