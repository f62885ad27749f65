"""What a viewer that is admitted directly needs, and what is kept of its request: as of one that the route answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from broadcaster.core.access.callers import Caller
from broadcaster.core.events import TextDelta
from broadcaster.errors import Unauthorized
from broadcaster.observability.limits import REACHED
from broadcaster.observability.tracing.otel import ExportingTracing
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.guards.tenant_rates import TenantRates
from broadcaster.web.guards.tokens.presented import COOKIE
from broadcaster.web.services import Services
from broadcaster.web.viewing.direct import DirectViewers
from tests.support.access import token_kit as kit
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.first_requests import HeldLookUps
from tests.support.servers.front_end import DEADLINE_S, own_app, served, until_watched
from tests.support.whole_answers import fetch, scope_of

MINE = "the-key-of-mine-0"
URL = "/v1/streams/{}/events"
HARMLESS = "?dialect=native"
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
KEYED = Settings.model_validate({"auth": "keys", "api_keys": json.dumps({"local": [MINE]})})
TOKEN_SETTINGS = {
    "host": "0.0.0.0",
    "auth": "keys",
    "api_keys": json.dumps({"web": [{"key": MINE, "rights": ["start"]}]}),
    "token_keys": kit.TOKEN_KEYS,
}


@pytest.fixture
def world() -> MemoryWorld:
    world = MemoryWorld()
    world.add("gen_run")
    world.append("gen_run", TextDelta(id="0", delta="a"))
    return world


@pytest.mark.parametrize("place", ["query", "cookie", "header"])
async def test_a_token_admits_directly_from_wherever_a_client_can_put_it(
    services: Services, world: MemoryWorld, taken: list[str], place: str
) -> None:
    world.add("gen_web", tenant="web")
    token = kit.own_token(time.time())
    cookie = {"cookie": f"{COOKIE}={token}".encode(), "sec-fetch-site": b"same-origin"}
    header = {"authorization": f"Bearer {token}".encode()}
    headers = {"query": {}, "cookie": cookie, "header": header}[place]
    query = f"?token={token}" if place == "query" else "?"
    async with served(own_app(services, **TOKEN_SETTINGS), services) as client:
        url = URL.format("gen_web")
        plain = await fetch(client, f"{url}{query}&dialect=native", headers)
        assert taken == []
        assert await fetch(client, url + query, headers) == plain
        assert len(taken) == 1
    assert plain.status == 200
    assert (("referrer-policy", "no-referrer") in plain.headers) is (place == "query")


def bearer(*, grants: list[dict[str, Any]]) -> dict[str, bytes]:
    return {"authorization": f"Bearer {kit.own_token(time.time(), grants=grants)}".encode()}


# A token has to be made in its test: it may have expired before, in a long run.
@pytest.mark.parametrize(
    ("make_headers", "status"),
    [
        (lambda: {"x-api-key": MINE.encode()}, 403),
        (lambda: bearer(grants=[]), 401),
        (lambda: bearer(grants=[{"stream": "gen_x", "actions": ["watch"]}]), 403),
        (lambda: {"cookie": f"{COOKIE}={kit.own_token(time.time())}".encode()}, 403),
        (lambda: {"x-api-key": MINE.encode(), "authorization": b"Bearer another-key-0123456"}, 401),
    ],
    ids=["key", "no grants", "another stream", "cookie", "key and another bearer"],
)
async def test_a_credential_that_may_not_watch_the_stream_is_refused_by_the_app(
    services: Services, world: MemoryWorld, taken: list[str], make_headers: Callable[[], dict[str, bytes]], status: int
) -> None:
    world.add("gen_web", tenant="web")
    async with served(own_app(services, **TOKEN_SETTINGS), services) as client:
        watching = {"authorization": f"Bearer {kit.own_token(time.time())}".encode()}
        for _ in range(2):
            assert (await fetch(client, URL.format("gen_web"), watching)).status == 200
        assert (await fetch(client, URL.format("gen_web"), make_headers())).status == status
    assert len(taken) == 2


async def test_a_page_of_another_origin_is_answered_by_the_layer_for_it(services: Services, taken: list[str]) -> None:
    page = "https://app.example.com"
    keyed = KEYED.model_copy(update={"cors_origins": [page]})
    async with served(own_app(services, keyed), services) as client:
        headers = {"origin": page.encode(), "x-api-key": MINE.encode()}
        for _ in range(2):
            answered = await fetch(client, URL.format("gen_run"), headers)
            assert ("access-control-allow-origin", page) in answered.headers
    assert taken == []


async def test_where_origins_are_listed_a_response_depends_on_the_origin(services: Services, taken: list[str]) -> None:
    async with served(own_app(services, cors_origins=["https://app.example.com"]), services) as client:
        answered = [await fetch(client, URL.format("gen_run") + query) for query in (HARMLESS, "")]
    assert answered[0] == answered[1]
    assert len(taken) == 1


async def test_a_priority_that_there_is_not_is_refused_by_the_app(services: Services, taken: list[str]) -> None:
    async with served(own_app(services), services) as client:
        answered = await fetch(client, URL.format("gen_run"), {"broadcaster-priority": b"urgent"})
    assert answered.status == 400
    assert taken == []


async def test_a_limit_that_is_met_is_counted_once(services: Services, taken: list[str]) -> None:
    async with served(own_app(services), services) as client:
        async with client.stream("GET", URL.format("gen_run")):
            object.__setattr__(services.hub.limits, "max_viewers", 1)
            before = REACHED["MAX_VIEWERS"]
            refused = await fetch(client, URL.format("gen_run"))
    assert '"reason":"limit"' in refused.body
    assert REACHED["MAX_VIEWERS"] == before + 1
    assert len(taken) == 1


async def test_a_credential_that_is_revoked_during_the_wait_for_a_turn_admits_nothing(
    services: Services, world: MemoryWorld
) -> None:
    world.add("gen_web", tenant="web")
    revoked: list[Caller] = []

    def check(caller: Caller) -> None:
        if caller in revoked:
            raise Unauthorized("it was revoked")

    checked = replace(services, check_admitted=check)
    app = create_app(Settings.model_validate(TOKEN_SETTINGS), services=checked)
    headers = {"authorization": f"Bearer {kit.own_token(time.time())}".encode()}
    async with served(app, checked) as client:
        await fetch(client, URL.format("gen_web"), headers)
        request = app.state.direct.judge(scope_of(URL.format("gen_web"), headers))
        assert await app.state.direct.join(request) is not None
        revoked.append(request.visitor.caller)
        assert await app.state.direct.join(request) is None


async def test_a_request_is_counted_once_among_those_of_its_tenant_however_it_is_answered(
    services: Services, taken: list[str]
) -> None:
    """Of 4 in a second: three viewers, and one that is not there. A refused one takes nothing."""
    rates = TenantRates(requests_per_s=4)
    async with served(own_app(replace(services, rates=rates)), services) as client:
        ids = ("gen_run", "nobody", "gen_run", "gen_run")
        statuses = [(await fetch(client, URL.format(id))).status for id in ids]
        refused = await fetch(client, URL.format("gen_run"))
    assert statuses == [200, 404, 200, 200]
    assert "hub.bye" in refused.body
    assert len(taken) == 3


async def test_beyond_the_rate_of_its_tenant_no_stream_is_read_however_slow_redis_is(
    services: Services, world: MemoryWorld, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = replace(services, rates=TenantRates(requests_per_s=2))
    look_ups = HeldLookUps(limited, monkeypatch)
    async with served(own_app(limited), limited) as client, asyncio.timeout(DEADLINE_S):
        viewers = [asyncio.create_task(fetch(client, URL.format(id))) for id in ("gen_run", "a", "b", "c", "d", "e")]
        while sum(each.done() for each in viewers) < 4:
            await asyncio.sleep(0.001)
        assert len(look_ups.ids) == 2
        look_ups.go_on()
        answered = [await each for each in viewers]
    assert sorted(each.status for each in answered) == [200, 200, 200, 200, 200, 404]
    assert sum("hub.bye" in each.body for each in answered) == 4
    assert len(taken) == 1


@pytest.mark.parametrize(("id", "status"), [("gen_run", 200), ("nobody", 404)])
async def test_a_request_counts_once_although_it_begins_anew(
    services: Services, monkeypatch: pytest.MonkeyPatch, id: str, status: int
) -> None:
    """At once it would wait for its stream; what is not there is for the app."""
    monkeypatch.setattr(DirectViewers, "admits_at_once", lambda self, request: True)
    limited = own_app(replace(services, rates=TenantRates(requests_per_s=0.001)))
    async with served(limited, services) as client:
        answered = [await fetch(client, URL.format(id)) for _ in range(2)]
    assert answered[0].status == status
    assert ["hub.bye" in each.body for each in answered] == [False, True]


async def test_a_viewer_that_came_directly_is_counted_logged_and_traced_as_one_of_the_route(
    services: Services, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("structlog.is_configured", lambda: True)
    exporter = InMemorySpanExporter()
    tracing = ExportingTracing(SimpleSpanProcessor(exporter), service="test")
    app = create_app(Settings(), services=services, tracing=tracing)
    kept = []
    async with served(app, services) as client:
        await fetch(client, URL.format("gen_run"))
        await until_watched(services, "gen_run", 0)
        exporter.clear()
        for query in ("", HARMLESS):
            with capture_logs() as logged:
                before = app.state.request_counts.heads.copy()
                await fetch(client, URL.format("gen_run") + query, {"traceparent": TRACE})
                await until_watched(services, "gen_run", 0)
                async with asyncio.timeout(DEADLINE_S):
                    while not (lines := [line for line in logged if line["event"] == "viewer_ended"]):
                        await asyncio.sleep(0.001)
            (line,) = lines
            drawn = {name: line.pop(name) for name in ("duration_s", "first_entry_s")}
            spans = [(span.name, span.attributes, span.parent) for span in exporter.get_finished_spans()]
            exporter.clear()
            kept.append((line, set(drawn), app.state.request_counts.heads - before, spans))
    assert kept[0] == kept[1]
    assert [name for name, _, _ in kept[0][3]] == ["GET /v1/streams/{stream_id}/events"]
    assert kept[0][2] == {("streams", "200"): 1}
    assert len(taken) == 2
