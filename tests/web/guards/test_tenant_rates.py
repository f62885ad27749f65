"""How often one tenant may call a front-end: it learns when to retry, in each API's format; others notice nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.errors import RateLimited
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.guards.tenant_rates import TenantRates
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import served

MINE = {"authorization": "Bearer the-key-of-mine-0"}
OTHERS = {"authorization": "Bearer the-key-of-others"}
FEED = "/v1/streams/build-42"
EVENT = {"type": "data-x", "data": 1}
# Low enough that no test waits until another call is admitted.
A_CALL_IN_1000_S = 0.001

CALLS: dict[str, tuple[str, str, Any]] = {
    "/v1/generations": ("POST", "/v1/generations", {"prompt": "x"}),
    "/v1/generations/{id}": ("GET", "/v1/generations/gen_1", None),
    FEED: ("PUT", FEED, {}),
    "/v1/chat/completions": ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
    "/v1/responses": ("POST", "/v1/responses", {"input": "x"}),
    "/v1/messages": ("POST", "/v1/messages", {"max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}),
    "/v1/models": ("GET", "/v1/models", None),
    "/api/chat": ("POST", "/api/chat", {"id": "c", "messages": []}),
    "/agui": ("POST", "/agui", {}),
}


async def open_app(connection: LogConnection, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    keys = json.dumps({"mine": ["the-key-of-mine-0"], "others": ["the-key-of-others"]})
    read = Settings.model_validate({"redis_url": connection.url, "auth": "keys", "api_keys": keys, **settings})
    async with open_services(read) as services, served(create_app(read, services=services), services) as http:
        yield http


@pytest.fixture
async def slow_down(connection: LogConnection) -> AsyncIterator[httpx2.AsyncClient]:
    """A front-end that has taken the one call that it allows the tenant ``mine``."""
    async for http in open_app(connection, tenant_requests_per_s=A_CALL_IN_1000_S):
        assert (await http.get("/v1/generations", headers=MINE)).status_code == 200
        yield http


async def test_every_surface_reports_in_its_own_format_when_the_tenant_may_retry(
    slow_down: httpx2.AsyncClient,
) -> None:
    for name, (method, url, body) in CALLS.items():
        refused = await slow_down.request(method, url, json=body, headers=MINE)
        assert refused.status_code == 429, name
        assert 900 < int(refused.headers["retry-after"]) <= 1000, name
        assert "TENANT_REQUESTS_PER_S" in refused.text, name
        result = refused.json()
        if name in {"/v1/chat/completions", "/v1/responses", "/v1/models"}:
            assert result["error"]["type"] == "rate_limit_error", name
        elif name == "/v1/messages":
            assert (result["type"], result["error"]["type"]) == ("error", "rate_limit_error")
        elif name not in {"/api/chat", "/agui"}:
            assert result["code"] == "rate_limited", name


async def test_an_event_source_is_sent_away_with_a_retry_and_not_for_good(slow_down: httpx2.AsyncClient) -> None:
    for query in ("", "?replay=events"):
        refused = await slow_down.get(f"{FEED}/events{query}", headers=MINE)
        assert refused.status_code == 200
        assert "event: hub.bye" in refused.text
        assert "retry: " in refused.text


async def test_the_calls_of_one_tenant_take_nothing_from_another_nor_from_health(
    slow_down: httpx2.AsyncClient,
) -> None:
    assert (await slow_down.get("/v1/generations", headers=OTHERS)).status_code == 200
    for _ in range(3):
        for method in ("GET", "HEAD"):
            for path in ("/healthz", "/readyz"):
                assert (await slow_down.request(method, path, headers=MINE)).status_code == 200


async def test_a_call_without_a_right_takes_nothing_from_the_tenant(connection: LogConnection) -> None:
    async for http in open_app(connection, tenant_requests_per_s=A_CALL_IN_1000_S):
        for _ in range(3):
            assert (await http.get("/v1/generations")).status_code == 401
        assert (await http.get("/v1/generations", headers=MINE)).status_code == 200


async def test_appends_are_counted_by_their_events_and_a_refused_one_leaves_nothing(connection: LogConnection) -> None:
    async for http in open_app(connection, tenant_appends_per_s=0.01):
        assert (await http.put(FEED, headers=MINE)).status_code == 201
        assert (await http.post(f"{FEED}/events", json=[EVENT] * 5, headers=MINE)).status_code == 200
        refused = await http.post(f"{FEED}/events", json=EVENT, headers=MINE)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert "TENANT_APPENDS_PER_S" in refused.text
        assert 400 < int(refused.headers["retry-after"]) <= 500  # the burst of five is paid for first
        assert (await http.post(f"{FEED}/close", headers=MINE)).json()["last_seq"] == 6
        assert (await http.put(FEED, headers=OTHERS)).status_code == 201
        assert (await http.post(f"{FEED}/events", json=EVENT, headers=OTHERS)).status_code == 200


async def test_an_append_that_is_refused_counts_as_a_request_and_takes_no_events(connection: LogConnection) -> None:
    async for http in open_app(connection, tenant_appends_per_s=A_CALL_IN_1000_S):
        for _ in range(3):
            assert (await http.post(f"{FEED}/events", json=EVENT, headers=MINE)).status_code == 404
        assert (await http.put(FEED, headers=MINE)).status_code == 201
        assert (await http.post(f"{FEED}/events", json=EVENT, headers=MINE)).status_code == 200
        assert "TENANT_APPENDS_PER_S" in (await http.post(f"{FEED}/events", json=EVENT, headers=MINE)).text
    async for http in open_app(connection, tenant_appends_per_s=1000, tenant_requests_per_s=A_CALL_IN_1000_S):
        for url in ("/v1/streams/none/events", "/ds/none"):
            headers = MINE if url == "/v1/streams/none/events" else OTHERS
            assert (await http.post(url, json=EVENT, headers=headers)).status_code == 404
            assert "TENANT_REQUESTS_PER_S" in (await http.post(url, json=EVENT, headers=headers)).text


# Ten events at a time of twenty a second: as many calls in a row would take five seconds if each were counted.
TEN, CALLS_IN_A_ROW = list(range(10)), range(11)


async def test_a_repeated_append_takes_nothing(connection: LogConnection) -> None:
    async for http in open_app(connection, tenant_appends_per_s=20):
        assert (await http.put(FEED, headers=MINE)).status_code == 201
        once = {**MINE, "idempotency-key": "once"}
        for _ in CALLS_IN_A_ROW:
            assert (await http.post(f"{FEED}/events", json=[EVENT] * 10, headers=once)).status_code == 200


async def test_a_durable_append_that_is_refused_or_repeated_takes_nothing(connection: LogConnection) -> None:
    producer = {**MINE, "producer-id": "p", "producer-epoch": "0", "producer-seq": "0"}
    async for http in open_app(connection, tenant_appends_per_s=20):
        for _ in CALLS_IN_A_ROW:
            assert (await http.post("/ds/a", json=TEN, headers=MINE)).status_code == 404
        assert (await http.put("/ds/a", headers={**MINE, "content-type": "application/json"})).status_code == 201
        for _ in CALLS_IN_A_ROW:
            early = await http.post("/ds/a", json=TEN, headers={**producer, "producer-seq": "5"})
            assert early.json()["code"] == "producer_gap"
        codes = [(await http.post("/ds/a", json=TEN, headers=producer)).status_code for _ in CALLS_IN_A_ROW]
        assert codes == [200, *[204] * 10]


async def test_a_durable_creation_that_finds_its_stream_takes_nothing(connection: LogConnection) -> None:
    async for http in open_app(connection, tenant_appends_per_s=20):
        codes = [(await http.put("/ds/a", json=TEN, headers=MINE)).status_code for _ in CALLS_IN_A_ROW]
        assert codes == [201, *[200] * 10]


async def test_an_append_that_is_given_up_while_redis_works_on_it_stays_counted() -> None:
    rates = TenantRates(appends_per_s=A_CALL_IN_1000_S)
    with pytest.raises(asyncio.CancelledError), rates.appending("web", 1):
        raise asyncio.CancelledError
    with pytest.raises(RateLimited), rates.appending("web", 1):
        pass


async def test_a_request_without_events_is_no_append() -> None:
    rates = TenantRates(appends_per_s=A_CALL_IN_1000_S)
    with rates.appending("web", 2):
        pass
    with rates.appending("web", 0):
        pass
