"""``/v1/streams/{id}``: create, append, close, get; on the real app over a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND
from broadcaster.log.jobs.deletion import TOMBSTONE_MS
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.documents.problem_table import PROBLEMS
from broadcaster.web.documents.problems import MEDIA_TYPE
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import Received, listen, own_app, served, until_watched

URL = "/v1/streams/build-42"
EVENTS = f"{URL}/events"
JSON = {"content-type": "application/json"}


def progress(done: int) -> dict[str, Any]:
    return {"type": "data-progress", "id": "p", "data": {"done": done, "total": 9}}


@pytest.fixture
def settings(connection: LogConnection) -> Settings:
    return Settings(redis_url=connection.url, max_event_bytes=4096, feed_append_rate=1000, retry_ms=100)


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened


@pytest.fixture
async def client(settings: Settings, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(own_app(services, settings), services) as opened:
        yield opened


@pytest.fixture
async def feed(client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The client, with an open feed."""
    assert (await client.put(URL, json={"metadata": {"job": 42}})).status_code == 201
    return client


def refused(response: httpx2.Response, code: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (document["code"], response.status_code) == (code, PROBLEMS[code].status)
    assert response.headers["content-type"] == MEDIA_TYPE
    return document


# -- create and get


async def test_a_created_feed_is_shown_as_it_stands(client: httpx2.AsyncClient) -> None:
    response = await client.put(URL, json={"metadata": {"job": 42}})
    body = response.json()
    assert (response.status_code, response.headers["location"]) == (201, URL)
    assert body == {
        "id": "build-42", "kind": "feed", "status": "running", "first_seq": 0, "last_seq": 0, "last_id": None,
        "created_at": body["created_at"], "ended_at": None, "metadata": {"job": 42}, "events_url": EVENTS, "viewers": 0,
        "lease_s": None, "webhook": None, "content_type": None,
    }  # fmt: skip
    assert (await client.get(URL)).json() == body


async def test_creating_it_twice_succeeds_only_in_the_same_way(feed: httpx2.AsyncClient) -> None:
    repeated = await feed.put(URL, json={"metadata": {"job": 42}})
    assert (repeated.status_code, repeated.json()["kind"]) == (200, "feed")
    refused(await feed.put(URL, json={"on_full": "trim"}), "stream_exists")
    refused(await feed.put(URL), "stream_exists")


async def test_a_feed_needs_no_body(client: httpx2.AsyncClient) -> None:
    assert (await client.put(URL)).status_code == 201
    assert (await client.put(URL, json={})).status_code == 200


@pytest.mark.parametrize("stream_id", ["gen_1", "gen_", "-x", "x" * 129, "%7Bx%7D", "%C3%A9", "%E6%97%A5"])
async def test_an_id_that_no_feed_may_have_is_an_invalid_request(client: httpx2.AsyncClient, stream_id: str) -> None:
    document = refused(await client.put(f"/v1/streams/{stream_id}"), "invalid_request")
    assert [(fault["in"], fault["name"]) for fault in document["errors"]] == [("path", "stream_id")]


@pytest.mark.parametrize(
    "body",
    [
        {"on_full": "drop"}, {"max_events": 0}, {"max_events": 10**9}, {"max_bytes": 10**12}, {"retention_s": 0},
        {"retention_s": "5"}, {"more": 1}, [], {"metadata": {"a": "\ud800"}}, {"lease_s": 1}, {"lease_s": 3601},
    ],
)  # fmt: skip
async def test_a_configuration_that_cannot_be_is_an_invalid_request(client: httpx2.AsyncClient, body: Any) -> None:
    document = refused(await client.put(URL, content=json.dumps(body), headers=JSON), "invalid_request")
    assert {fault["in"] for fault in document["errors"]} == {"body"}
    refused(await client.get(URL), "unknown_stream")


async def test_a_generation_is_a_stream_too_and_a_feed_no_generation(feed: httpx2.AsyncClient) -> None:
    generation = (await feed.post("/v1/generations", json={"prompt": "a", "metadata": {"chat": "7"}})).json()
    visible = (await feed.get(f"/v1/streams/{generation['id']}")).json()
    assert (visible["kind"], visible["status"], visible["metadata"]) == ("generation", "queued", {"chat": "7"})
    for call in (feed.get("/v1/generations/build-42"), feed.post("/v1/generations/build-42/stop", json={})):
        refused(await call, "unknown_stream")
    refused(await feed.post(f"/v1/streams/{generation['id']}/events", json=progress(1)), "unknown_stream")
    refused(await feed.post(f"/v1/streams/{generation['id']}/close"), "unknown_stream")
    listed = (await feed.get("/v1/generations")).json()["generations"]
    assert [each["id"] for each in listed] == [generation["id"]]


# -- append


async def test_one_event_or_many_get_the_next_ids(feed: httpx2.AsyncClient) -> None:
    one = (await feed.post(EVENTS, json=progress(1))).json()
    many = (await feed.post(EVENTS, json=[progress(2), progress(3)])).json()
    ids = one["ids"] + many["ids"]
    assert [each.split("-")[1] for each in ids] == ["1", "2", "3"]
    assert (many["last_id"], many["last_seq"]) == (ids[-1], 3)
    visible = (await feed.get(URL)).json()
    assert (visible["first_seq"], visible["last_seq"], visible["last_id"]) == (1, 3, ids[-1])


async def test_an_append_resent_under_its_key_returns_the_same_ids(feed: httpx2.AsyncClient) -> None:
    key = {"idempotency-key": "k"}
    first = await feed.post(EVENTS, json=[progress(1), progress(2)], headers=key)
    repeated = await feed.post(EVENTS, json=[progress(1), progress(2)], headers=key)
    assert first.json() == repeated.json()
    assert ("idempotent-replayed" in first.headers, repeated.headers["idempotent-replayed"]) == (False, "true")
    refused(await feed.post(EVENTS, json=progress(1), headers=key), "idempotency_mismatch")
    assert (await feed.get(URL)).json()["last_seq"] == 2


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"type": "finish"}, ["#/type"]),
        ({"type": "attempt", "attempt": 2}, ["#/type"]),
        ({"type": "hub.live"}, ["#/type"]),
        ({"type": "data-x"}, ["#"]),
        (5, ["#"]),
        ([], ["#"]),
        ([progress(1), {"type": "text-delta", "id": 0, "delta": "a"}, {"typ": 1}], ["#/1/id", "#/2/type"]),
        ([progress(1)] * (MAX_EVENTS_PER_APPEND + 1), ["#"]),
    ],
)
async def test_events_that_cannot_be_published_are_named_and_nothing_is_appended(
    feed: httpx2.AsyncClient, body: Any, pointers: list[str]
) -> None:
    document = refused(await feed.post(EVENTS, json=body), "invalid_event")
    assert [fault["pointer"] for fault in document["errors"]] == pointers
    assert (await feed.get(URL)).json()["last_seq"] == 0


async def test_a_thousand_events_are_one_append(feed: httpx2.AsyncClient) -> None:
    body = [progress(number) for number in range(MAX_EVENTS_PER_APPEND)]
    assert (await feed.post(EVENTS, json=body)).json()["last_seq"] == MAX_EVENTS_PER_APPEND


async def test_every_refusal_has_its_code(client: httpx2.AsyncClient) -> None:
    refused(await client.post(EVENTS, json=progress(1)), "unknown_stream")
    refused(await client.post(f"{URL}/close"), "unknown_stream")
    await client.put(URL, json={"max_events": 2})
    refused(await client.post(EVENTS, json={"type": "data-x", "data": "x" * 4096}), "event_too_large")
    refused(await client.post(EVENTS, json=[progress(1)] * 3), "stream_full")
    await client.post(f"{URL}/close")
    refused(await client.post(EVENTS, json=progress(1)), "stream_closed")
    refused(await client.post(EVENTS, content=b"{", headers=JSON), "invalid_request")
    refused(await client.post(EVENTS, content=b"{}", headers={"content-type": "text/plain"}), "unsupported_media_type")


async def test_too_many_appends_are_refused_with_a_retry_delay(connection: LogConnection) -> None:
    settings = Settings(redis_url=connection.url, feed_append_rate=0.25)
    async with open_services(settings) as services:
        async with served(own_app(services, settings), services) as client:
            await client.put(URL)
            assert (await client.post(EVENTS, json=progress(1))).status_code == 200
            response = await client.post(EVENTS, json=progress(2))
            assert refused(response, "rate_limited")["retry"] is True
            assert response.headers["retry-after"] == "4"
            assert (await client.post(f"{URL}/close")).status_code == 200


# -- close


async def test_the_same_end_twice_succeeds_and_another_does_not(feed: httpx2.AsyncClient) -> None:
    await feed.post(EVENTS, json=progress(1))
    fault = {"type": "error", "errorText": "the disk is full", "code": "disk_full"}
    for _ in range(2):
        closed = await feed.post(f"{URL}/close", json=fault)
        assert (closed.status_code, closed.json()["status"], closed.json()["last_seq"]) == (200, "failed", 2)
        assert closed.json()["ended_at"] is not None
    refused(await feed.post(f"{URL}/close"), "stream_closed")
    refused(await feed.post(f"{URL}/close", json={"type": "abort"}), "stream_closed")


@pytest.mark.parametrize("content", [None, b"{}", b'{"type": "finish"}'])
async def test_an_end_without_a_body_is_finish(feed: httpx2.AsyncClient, content: bytes | None) -> None:
    headers = None if content is None else JSON
    assert (await feed.post(f"{URL}/close", content=content, headers=headers)).json()["status"] == "finished"


@pytest.mark.parametrize("body", [{"type": "done"}, {"type": "error"}, [], "finish", {"reason": "x"}])
async def test_an_event_that_is_not_an_end_closes_nothing(feed: httpx2.AsyncClient, body: Any) -> None:
    refused(await feed.post(f"{URL}/close", json=body), "invalid_event")
    assert (await feed.get(URL)).json()["status"] == "running"


# -- watched by the same route as a generation


def data(seen_by: Received) -> list[int]:
    return [json.loads(text)["data"]["done"] for _, text in seen_by.entries if "data-progress" in text]


async def test_viewers_see_what_is_appended_and_the_one_end(feed: httpx2.AsyncClient, services: Services) -> None:
    viewers = [asyncio.create_task(listen(feed, EVENTS)) for _ in range(3)]
    await until_watched(services, "build-42", 3)
    for done in range(1, 4):
        await feed.post(EVENTS, json=progress(done))
    assert (await feed.get(URL)).json()["viewers"] == 3
    await feed.post(f"{URL}/close")
    late = await listen(feed, EVENTS)
    for received in [*await asyncio.gather(*viewers), late]:
        assert data(received) == [1, 2, 3]
        assert json.loads(received.entries[-1][1]) == {"type": "finish"}
        assert received.entries == late.entries
        assert "broadcaster-generation-id" not in received.headers


async def test_a_feed_reports_running_in_its_hello_before_its_first_event(feed: httpx2.AsyncClient) -> None:
    received = await listen(feed, EVENTS, until="hub.live")
    assert json.loads(received.messages[0].data) == {"id": "build-42", "status": "running"}


async def test_a_feed_resumed_at_any_cursor_is_exactly_the_rest_and_204_after_its_end(
    feed: httpx2.AsyncClient,
) -> None:
    for done in range(5):
        await feed.post(EVENTS, json=progress(done))
    await feed.post(f"{URL}/close")
    whole = (await listen(feed, EVENTS)).entries
    for seen in range(1, len(whole)):
        assert (await listen(feed, EVENTS, headers={"last-event-id": whole[seen - 1][0]})).entries == whole[seen:]
    assert (await feed.get(EVENTS, headers={"last-event-id": whole[-1][0]})).status_code == 204


async def test_a_viewer_behind_a_trim_receives_a_gap_and_goes_on(client: httpx2.AsyncClient) -> None:
    await client.put(URL, json={"max_events": 3, "on_full": "trim"})
    ids = [(await client.post(EVENTS, json=progress(done))).json()["last_id"] for done in range(6)]
    await client.post(f"{URL}/close")
    for after, first in (("", 1), (ids[0], 2)):
        received = await listen(client, EVENTS, headers={"last-event-id": after})
        (gap,) = [message for message in received.messages if message.event == "hub.gap"]
        assert json.loads(gap.data) == {"reason": "trimmed", "from": first, "to": 3}
        assert data(received) == [3, 4, 5]
        repeated = await listen(client, EVENTS, headers={"last-event-id": gap.id})
        assert ("hub.gap" in repeated.names, data(repeated)) == (False, [3, 4, 5])


async def test_a_feed_not_created_yet_is_held_for(client: httpx2.AsyncClient) -> None:
    listening = asyncio.create_task(listen(client, f"{EVENTS}?wait_s=9"))
    refused(await client.get(f"{EVENTS}?wait_s=0.01"), "unknown_stream")
    await client.put(URL)
    await client.post(EVENTS, json=progress(1))
    await client.post(f"{URL}/close", json={"type": "abort", "reason": "enough"})
    received = await listening
    assert data(received) == [1]
    assert json.loads(received.entries[-1][1]) == {"type": "abort", "reason": "enough"}


async def test_a_feed_whose_log_has_expired_still_ends_honestly(
    feed: httpx2.AsyncClient, connection: LogConnection
) -> None:
    await feed.post(EVENTS, json=progress(1))
    await feed.post(f"{URL}/close")
    await connection.redis.delete(connection.keys.log("build-42"))
    received = await listen(feed, EVENTS)
    assert received.names == ["hub.hello", "hub.gap", "message"]
    assert json.loads(received.entries[-1][1]) == {"type": "finish"}


async def test_a_trim_under_warm_rooms_is_reported_and_its_cursor_holds_on_another_front_end(
    connection: LogConnection,
) -> None:
    """Both front-ends know every id ever delivered, and neither has the old entries any more."""
    settings = Settings(redis_url=connection.url, room_bytes=2**16, hub_bytes=2**20, retry_ms=100)
    async with open_services(settings) as one, open_services(settings) as two:
        async with (
            served(create_app(settings, services=one), one) as first,
            served(create_app(settings, services=two), two) as second,
        ):
            await first.put(URL, json={"max_events": 5, "on_full": "trim"})
            warm = [asyncio.create_task(listen(client, EVENTS)) for client in (first, second)]
            for services in (one, two):
                await until_watched(services, "build-42")
            for done in range(60):
                event = progress(done)
                event["data"]["message"] = "x" * 4000
                assert (await first.post(EVENTS, json=event)).status_code == 200
            late = await listen(first, EVENTS, until=5)
            (gap,) = [message for message in late.messages if message.event == "hub.gap"]
            assert json.loads(gap.data) == {"reason": "trimmed", "from": 1, "to": 55}
            assert data(late) == [55, 56, 57, 58, 59]
            for client in (first, second):
                resumed = await listen(client, EVENTS, until=5, headers={"last-event-id": gap.id})
                assert ("hub.gap" in resumed.names, data(resumed)) == (False, [55, 56, 57, 58, 59])
            await first.post(f"{URL}/close")
            for received in await asyncio.gather(*warm):
                assert ("hub.gap" in received.names, data(received)) == (False, list(range(60)))


# -- deleting


async def test_a_deleted_feed_ends_for_its_viewers_and_is_unknown_to_new_ones(
    feed: httpx2.AsyncClient, services: Services, connection: LogConnection
) -> None:
    await feed.post(EVENTS, json=progress(1), headers={"idempotency-key": "k"})
    watching = asyncio.create_task(listen(feed, EVENTS))
    await until_watched(services, "build-42")
    assert (await feed.delete(URL)).status_code == 204
    received = await watching
    assert [json.loads(data)["type"] for _, data in received.entries] == ["data-progress", "abort"]
    for call in (feed.get(URL), feed.get(EVENTS)):
        refused(await call, "unknown_stream")
    refused(await feed.post(EVENTS, json=progress(2)), "stream_closed")
    refused(await feed.put(URL, json={"metadata": {"job": 42}}), "stream_exists")
    keys = connection.keys
    assert [key async for key in connection.redis.scan_iter("*build-42*")] == [keys.meta("build-42").encode()]
    assert 0 < await connection.redis.pttl(keys.meta("build-42")) <= TOMBSTONE_MS
    assert (await feed.delete(URL)).status_code == 204
    await connection.redis.delete(keys.meta("build-42"))
    refused(await feed.delete(URL), "unknown_stream")


async def test_deleting_an_ended_feed_leaves_its_end_as_it_was(
    feed: httpx2.AsyncClient, connection: LogConnection
) -> None:
    await feed.post(f"{URL}/close")
    assert (await feed.delete(URL)).status_code == 204
    assert await connection.redis.hget(connection.keys.meta("build-42"), "status") == b"finished"


async def test_a_generation_is_not_deleted_as_a_feed(client: httpx2.AsyncClient) -> None:
    generation = (await client.post("/v1/generations", json={"prompt": "a"})).json()
    refused(await client.delete(f"/v1/streams/{generation['id']}"), "unknown_stream")
    assert (await client.get(f"/v1/generations/{generation['id']}")).json()["status"] == "queued"
