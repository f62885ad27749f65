"""Pages of other origins: those that the operator lists call every surface and read every answer, others nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.applications import Starlette

from broadcaster.core import events as ev
from broadcaster.errors import QueueFull
from broadcaster.settings import Settings, describe_error
from broadcaster.web.guards.cors import unread_headers
from broadcaster.web.server.connections import ConnectionLimits
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import in_process, listen, own_app
from tests.support.streaming import on_our_runner
from tests.web.conftest import MAX_BODY_BYTES
from tests.web.server.test_connections import GET, Client, no_drain, problem_of
from tests.web.surfaces.calls import CALLS

PAGE, OTHER = "https://app.example.com", "https://other.example.com"
CROSS = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}
KEYS = json.dumps({"web": ["web-key-0123456789"]})
URL = "/v1/generations"
SENT = (
    "authorization, content-type, last-event-id, x-api-key, anthropic-version, "
    "anthropic-dangerous-direct-browser-access, "
    "openai-organization, x-stainless-lang, idempotency-key, user-agent"
)


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services, cors_origins=f"{PAGE}, http://localhost:3000")


@pytest.fixture
async def keyed(services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    given = {"cors_origins": [PAGE], "host": "0.0.0.0", "auth": "keys", "api_keys": KEYS}
    async with in_process(own_app(services, **given)) as opened:
        yield opened


def preflight(method: str, *, origin: str = PAGE) -> dict[str, str]:
    wanted = {"access-control-request-method": method, "access-control-request-headers": SENT}
    return {"origin": origin, **CROSS, **wanted}


def is_readable(response: httpx2.Response, *, by: str = PAGE) -> bool:
    headers = response.headers
    exposed = headers.get("access-control-expose-headers", "")
    return (
        headers.get("access-control-allow-origin") == by
        and "Origin" in headers.get("vary", "")
        and all(
            name in exposed
            for name in ("broadcaster-generation-id", "broadcaster-provider-request-id", "x-request-id", "retry-after")
        )
        and "access-control-allow-credentials" not in headers
    )


async def test_a_listed_page_may_send_what_it_wants_to_every_route_and_needs_no_key_to_find_out(
    app: FastAPI, keyed: httpx2.AsyncClient
) -> None:
    operations = [(method.upper(), path) for path, each in app.openapi()["paths"].items() for method in each]
    assert len(operations) >= 20
    for method, path in operations:
        response = await keyed.options(path, headers=preflight(method))
        assert response.status_code == 200, (method, path)
        assert response.headers["access-control-allow-origin"] == PAGE
        assert method in response.headers["access-control-allow-methods"]
        assert response.headers["access-control-allow-headers"] == SENT
        assert "Origin" in response.headers["vary"]
        refusal = await keyed.request(method, path, headers={"origin": PAGE, **CROSS})
        assert is_readable(refusal), (method, path)


async def test_a_preflight_of_another_page_is_refused_with_the_setting_that_would_allow_it(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.options(URL, headers=preflight("POST", origin=OTHER))
    assert (response.status_code, response.json()["code"]) == (403, "forbidden_origin")
    assert OTHER in response.json()["detail"]
    assert "BROADCASTER_CORS_ORIGINS" in response.json()["detail"]
    assert "access-control-allow-origin" not in response.headers
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize("surface", list(CALLS))
async def test_a_listed_page_reads_refusals_and_failures_of_every_surface(
    client: httpx2.AsyncClient, world: MemoryWorld, surface: str
) -> None:
    path, body = CALLS[surface]

    def fail(_: str) -> None:
        raise QueueFull("too many wait")

    world.on_create = fail
    headers = {"origin": PAGE, **CROSS}
    seen = {}
    for name, options in {
        "full": {"json": body},
        "bad": {"json": {"messages": 1}},
        "large": {"json": {"pad": "x" * MAX_BODY_BYTES}},
        "form": {"data": {"a": "b"}},
    }.items():
        response = await client.post(path, headers=headers, **options)  # type: ignore[arg-type]
        assert is_readable(response), name
        seen[name] = response.status_code
    assert (seen["bad"], seen["large"], seen["form"]) == (400, 413, 415)
    assert seen["full"] in (429, 503, 529)


async def test_a_listed_page_reads_the_head_of_a_stream_and_every_event(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_1")
    world.append("gen_1", ev.TextDelta(id="0", delta="Hi"), ev.Finish())
    received = await listen(live_client, "/v1/streams/gen_1/events", headers={"origin": PAGE, **CROSS})
    assert received.headers["access-control-allow-origin"] == PAGE
    exposed = received.headers["access-control-expose-headers"].split(", ")
    assert "broadcaster-generation-id" in exposed
    assert len(exposed) == len(set(exposed))
    assert len(received.entries) == 2


async def test_without_keys_the_guards_let_a_listed_page_pass_and_no_other(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_1")
    stop = f"{URL}/gen_1/stop"
    bare = await client.post(stop, headers={"origin": PAGE, **CROSS})
    assert (bare.status_code, is_readable(bare)) == (202, True)
    for origins in ([OTHER], [PAGE, OTHER], [OTHER, PAGE], [f"{PAGE}.evil.example"], [f"{PAGE}:8443"], ["null"]):
        refused = await client.get(URL, headers=[("origin", origin) for origin in origins])
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden_origin")
    assert (await client.get(URL, headers={"origin": PAGE, "host": "evil.example"})).json()["code"] == "forbidden_host"
    embedded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    assert (await client.get(URL, headers=embedded)).status_code == 403
    # Another page of this machine may call, as without the setting, and reads nothing.
    neighbour = await client.get(URL, headers={"origin": "http://localhost:4000"})
    assert "access-control-allow-origin" not in neighbour.headers
    unlisted = await client.post(stop, headers={"origin": "http://localhost:4000", "sec-fetch-site": "cross-site"})
    assert unlisted.status_code == 415


async def test_a_refusal_before_the_request_is_read_is_readable_too() -> None:
    async with on_our_runner(
        Starlette(),
        on_drain=no_drain,
        limits=ConnectionLimits(max_connections=1),
        refusal_headers=unread_headers([PAGE]),
    ) as port:
        taken = await Client.connect(port, b"GET")
        for _ in range(2):
            full = await (await Client.connect(port, GET)).to_the_end()
            assert problem_of(full) == (503, "busy")
            assert b"access-control-allow-origin: *\r\n" in full
            assert b"retry-after" in full.partition(b"access-control-expose-headers: ")[2]
        taken.writer.write(b"\x00\r\n\r\n")
        malformed = await taken.to_the_end()
        assert problem_of(malformed) == (400, "malformed_http")
        assert b"access-control-allow-origin: *\r\n" in malformed
    assert unread_headers([]) == {}


@pytest.mark.parametrize(
    "origin",
    ["https://app.example.com", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173", "capacitor://localhost",
     "chrome-extension://abcdefghijklmnop", "https://xn--bcher-kva.example", "http://a_b.internal:65535"],
)  # fmt: skip
def test_an_origin_is_listed_as_a_browser_sends_it(origin: str) -> None:
    assert Settings.model_validate({"cors_origins": origin}).cors_origins == (origin,)


@pytest.mark.parametrize(
    ("origin", "remedy"),
    [("*", "https://app.example.com"), ("https://*.example.com", "https://app.example.com"),
     ("null", "sandboxed"), ("https://app.example.com/", "without a path"), ("https://App.example.com", "lower case"),
     ("app.example.com", "scheme://host[:port]"), ("https://app.example.com:443", "write https://app.example.com"),
     ("http://localhost:80", "write http://localhost"), ("http://localhost:99999", "65535"),
     ("https://user@app.example.com", "scheme://host[:port]"), ("https://bücher.example", "scheme://host[:port]")],
)  # fmt: skip
def test_an_origin_that_would_never_match_or_match_too_much_is_refused_at_start(origin: str, remedy: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"cors_origins": f"http://localhost:3000,{origin}"})
    line = describe_error(refused.value)
    assert line.startswith("BROADCASTER_CORS_ORIGINS: ")
    assert repr(origin) in line
    assert remedy in line
