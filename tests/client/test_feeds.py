"""Publishing: what is sent, what comes back, what is repeated."""

from __future__ import annotations

import asyncio
import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from broadcaster.client import Appended, AsyncClient, CannotConnect, ClientError, StreamState, repeating
from broadcaster.client.repeating import RETRIES
from broadcaster.core.backoff import BackOff
from broadcaster.core.cursor import Cursor
from broadcaster.core.events import DataEvent, Error, TextDelta
from broadcaster.core.requests.json_values import MAX_LEVELS
from broadcaster.core.requests.publishing import encode_published
from broadcaster.errors import InvalidEvent
from tests.client.test_calls import answering, failing, hang_up

STATE: dict[str, Any] = {
    "id": "s", "kind": "feed", "status": "running", "first_seq": 1, "last_seq": 3, "last_id": "7-3", "created_at": 1.5,
    "ended_at": None, "metadata": {"job": 1}, "events_url": "/v1/streams/s/events", "viewers": 2, "newer": True,
}  # fmt: skip
TAKEN = {"ids": ["7-3", "7-4"], "last_id": "7-4", "last_seq": 4}
PATH = "/v1/streams/s"


@pytest.fixture
def at_once(monkeypatch):
    """Calls are repeated without a pause."""
    for name in ("_BACK_OFF", "_OUTAGE_BACK_OFF"):
        monkeypatch.setattr(repeating, name, BackOff(0.001, 0.001))


@pytest.mark.parametrize("value", ["a\nb", "é", "", " x"])
async def test_a_key_or_creation_that_no_header_can_hold_is_named_and_nothing_is_sent(server, client, value):
    calls = [lambda: client.append("s", {"type": "finish"}, creation=value)]
    if value:  # an empty key is none
        calls.append(lambda: client.append("s", {"type": "finish"}, idempotency_key=value))
        calls.append(lambda: client.start("why?", idempotency_key=value))
    for call in calls:
        with pytest.raises(ClientError, match="one line of printable ASCII, not ") as refused:
            await call()
        assert (refused.value.code, refused.value.retry) == ("invalid_request", False)
    assert server.requests == []


async def test_creating_a_stream_sends_its_configuration_and_nothing_else(server, client):
    server.routes["PUT", PATH] = answering(STATE, 201)
    state = await client.create_stream("s", on_full="trim", max_events=9, retention_s=None)
    assert state == StreamState(**{name: value for name, value in STATE.items() if name != "newer"})
    assert not state.is_over
    assert server.requests[0].body == {"on_full": "trim", "max_events": 9}


async def test_a_stream_with_one_creator_is_created_under_one_key_and_written_under_its_tag(server, client):
    async def created(exchange):
        await exchange.answer(201, json.dumps(STATE).encode(), etag='"tag"')

    plans = iter([hang_up, created])
    server.routes["PUT", PATH] = lambda exchange: next(plans)(exchange)
    server.routes["POST", f"{PATH}/events"] = answering(TAKEN)
    server.routes["POST", f"{PATH}/close"] = answering(STATE)
    state = await client.create_stream("s", if_exists="replace", max_events=9)
    assert state.creation == '"tag"'
    await client.append("s", {"type": "data-x", "data": 1}, creation=state.creation)
    await client.close("s", creation=state.creation)
    lost, repeated, *written = server.requests
    assert (repeated.query, repeated.body) == ({"if_exists": "replace"}, {"max_events": 9})
    assert lost.headers["idempotency-key"] == repeated.headers["idempotency-key"]
    assert [each.headers["if-match"] for each in written] == ['"tag"'] * 2


async def test_events_are_appended_as_objects_or_as_our_types_one_or_many(server, client):
    server.routes["POST", f"{PATH}/events"] = answering(TAKEN)
    event = {"type": "data-x", "data": "é"}
    for given, sent in (
        (event, event),
        ([event], [event]),
        (DataEvent(type="data-x", data=1), {"type": "data-x", "data": 1}),
        ([TextDelta(id="0", delta="a"), event], [{"type": "text-delta", "id": "0", "delta": "a"}, event]),
    ):
        taken = await client.append("s", given)
        assert taken == Appended(ids=["7-3", "7-4"], last_id="7-4", last_seq=4)
        assert server.requests[-1].body == sent
        assert server.requests[-1].headers["content-type"] == "application/json"
    assert taken.cursors == [Cursor(7, 3), Cursor(7, 4)]
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 4


async def test_an_append_whose_answer_was_lost_is_repeated_under_the_same_key(server, client):
    plans = iter([hang_up, failing(503, "log_unavailable", retry=True), answering(TAKEN)])
    server.routes["POST", f"{PATH}/events"] = lambda exchange: next(plans)(exchange)
    await client.append("s", {"type": "data-x", "data": 1}, idempotency_key="mine")
    assert [request.headers["idempotency-key"] for request in server.requests] == ["mine"] * 3


async def _create(client):
    return await client.create_stream("s")


async def _append(client):
    return await client.append("s", {"type": "data-x", "data": 1})


async def _close(client):
    return await client.close("s")


@pytest.mark.parametrize(
    ("write", "route", "answer"),
    [
        (_create, ("PUT", PATH), STATE),
        (_append, ("POST", f"{PATH}/events"), TAKEN),
        (_close, ("POST", f"{PATH}/close"), STATE),
    ],
)
async def test_what_writes_to_a_feed_outlasts_a_front_end_that_is_away_for_longer_than_a_few_tries(
    server, client, at_once, write, route, answer
):
    server.routes["GET", PATH] = answering(STATE)
    await client.stream("s")  # the front-end has responded before
    away = [hang_up, failing(502, "x", retry=True), failing(503, "busy", retry=True), hang_up] * 3
    plans = iter([*away, answering(answer)])
    server.routes[route] = lambda exchange: next(plans)(exchange)
    await write(client)
    assert len(server.requests) == 1 + len(away) + 1


async def test_a_feed_is_not_waited_for_where_no_front_end_has_ever_responded(server, client, at_once):
    server.routes["POST", f"{PATH}/events"] = failing(502, "of_a_proxy", retry=True)
    for tries in (1, 2):
        with pytest.raises(ClientError):
            await _append(client)
        assert len(server.requests) == tries * (RETRIES + 1)


async def test_a_client_with_so_many_retries_outlasts_no_front_end(server, at_once):
    server.routes["GET", PATH] = answering(STATE)
    server.routes["POST", f"{PATH}/events"] = hang_up
    async with AsyncClient(server.url, retries=1) as client:
        await client.stream("s")
        with pytest.raises(CannotConnect, match=server.url):
            await _append(client)
    assert len(server.requests) == 1 + 2


async def test_an_append_to_a_front_end_that_stays_away_fails_within_its_time(server):
    server.routes["GET", PATH] = answering(STATE)
    async with AsyncClient(server.url, timeout_s=3) as client:
        await client.stream("s")
        await server.stop()
        async with asyncio.timeout(20):
            with pytest.raises(CannotConnect, match=server.url):
                await _append(client)


async def test_a_client_waits_at_least_the_requested_time_and_not_for_minutes(server, client):
    async def later(exchange):
        await exchange.problem(429, "rate_limited", retry=True, **{"retry-after": "60"})

    server.routes["POST", f"{PATH}/events"] = later
    with pytest.raises(ClientError) as refused:
        await client.append("s", {"type": "data-x", "data": 1})
    assert (refused.value.code, refused.value.retry_after_s) == ("rate_limited", 60.0)
    assert len(server.requests) == 1


CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)


@pytest.mark.parametrize("value", [datetime.now(UTC), object(), b"report", math.nan, math.inf, "\ud800", CIRCULAR])
async def test_what_the_library_refuses_is_refused_with_its_text_before_it_is_sent(server, client, value):
    event = {"type": "data-x", "data": [value]}
    with pytest.raises(InvalidEvent) as refused:
        encode_published(event)
    text = re.escape(refused.value.detail)
    calls = [
        (lambda: client.append("s", event), f"^{text}$"),
        (lambda: client.append("s", [{"type": "start-step"}, event]), rf"^events\[1\]: {text}$"),
        (lambda: client.close("s", {"type": "finish", "messageMetadata": event}), "."),
    ]
    for call, detail in calls:
        with pytest.raises(ValueError, match=detail):
            await call()
    assert server.requests == []


@pytest.mark.parametrize("value", [object(), b"report", math.nan, CIRCULAR])
async def test_an_event_of_our_types_is_refused_as_well(server, client, value):
    with pytest.raises(ValueError, match=r"is not JSON: send |JSON cannot hold|^NaN"):
        await client.append("s", DataEvent(type="data-x", data=[value]))
    assert server.requests == []


async def test_each_event_has_levels_of_its_own_and_plain_texts(server, client):
    class Text(str):
        __slots__ = ()

    deepest: Any = Text("a")
    for _ in range(MAX_LEVELS - 1):
        deepest = [deepest]
    server.routes["POST", f"{PATH}/events"] = answering(TAKEN)
    await client.append("s", [{"type": "data-x", "data": deepest}] * 2)
    assert len(server.requests[0].body) == 2
    with pytest.raises(ValueError, match="levels of nesting"):
        await client.append("s", {"type": "data-x", "data": [deepest]})


@pytest.mark.parametrize(
    ("end", "sent"),
    [
        (None, {}),
        ({"type": "abort", "reason": "r"}, {"type": "abort", "reason": "r"}),
        (Error(error_text="x", code="y"), {"type": "error", "errorText": "x", "code": "y"}),
    ],
)
async def test_a_feed_is_closed_with_an_end(server, client, end, sent):
    server.routes["POST", f"{PATH}/close"] = answering(STATE | {"status": "finished"})
    assert (await client.close("s", end)).is_over
    assert server.requests[0].body == sent


async def test_a_stream_is_shown_as_it_stands(server, client):
    server.routes["GET", PATH] = answering(STATE)
    assert (await client.stream("s")).metadata == {"job": 1}


async def test_an_id_is_one_segment_of_the_path_whatever_it_holds(server, client):
    server.routes["GET", "/v1/streams/a%2F..%2Fb"] = answering(STATE)
    assert (await client.stream("a/../b")).id == "s"


async def test_deleting_a_stream_has_no_answer(server, client):
    server.routes["DELETE", PATH] = answering({}, 200)
    await client.delete_stream("s")
    assert [(request.method, request.path) for request in server.requests] == [("DELETE", PATH)]
