"""With keys: a caller without one is refused before anything is done, and the key stays in the guard."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request

from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import in_process, listen, own_app, served

WEB, WEB_NEXT, JOBS = "web-key-0123456789", "web-key-next-0123456789", "jobs-key-0123456789"
KEYS = json.dumps({"web": [WEB, WEB_NEXT], "jobs": [JOBS]})
FILES = ["/console/app.js", "/console/operate/tables.js", "/docs/swagger-ui.css"]
OPEN = ["/", "/docs", *FILES, "/openapi.json", "/healthz", "/readyz"]
URL = "/v1/generations"


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services, host="0.0.0.0", auth="keys", api_keys=KEYS)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(app) as opened:
        yield opened


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", [WEB, WEB_NEXT, JOBS])
async def test_each_key_opens_in_either_header(client: httpx2.AsyncClient, key: str) -> None:
    for headers in (bearer(key), {"authorization": f"bearer  {key}"}, {"x-api-key": key}):
        assert (await client.get(URL, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, None),
        ({"authorization": ""}, None),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "Bearer  "}, None),
        ({"authorization": WEB}, None),
        ({"authorization": f"Basic {WEB}"}, None),
        ({"authorization": f"BearerBearer {WEB}"}, None),
        ({"x-api-key": ""}, None),
        ({"cookie": f"x-api-key={WEB}; authorization=Bearer {WEB}"}, None),
        ({"proxy-authorization": f"Bearer {WEB}"}, None),
        (bearer("nobody-has-this-key"), "invalid_token"),
        (bearer(WEB[:-1]), "invalid_token"),
        (bearer(f"{WEB} {JOBS}"), "invalid_token"),
        (bearer(f'"{WEB}"'), "invalid_token"),
        ({"x-api-key": f"Bearer {WEB}"}, "invalid_token"),
        ({**bearer(WEB), "x-api-key": JOBS}, "invalid_request"),
        ({**bearer(WEB), "x-api-key": WEB_NEXT}, "invalid_request"),
        ({**bearer(WEB), "x-api-key": "nobody-has-this-key"}, "invalid_request"),
    ],
)
async def test_anything_else_is_refused_with_a_challenge(
    client: httpx2.AsyncClient, headers: dict[str, str], error: str | None
) -> None:
    for response in (await client.get(URL, headers=headers), await client.get(f"{URL}?key={WEB}", headers=headers)):
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        challenge = response.headers["www-authenticate"]
        assert challenge == 'Bearer realm="broadcaster"' + (f', error="{error}"' if error else "")
        assert response.headers["x-request-id"]
        for key in (WEB, WEB_NEXT, JOBS):
            assert key not in response.text


async def test_a_header_sent_twice_is_one_key_or_none(client: httpx2.AsyncClient) -> None:
    same = [("authorization", f"Bearer {WEB}"), ("authorization", f"Bearer {WEB}"), ("x-api-key", WEB)]
    assert (await client.get(URL, headers=same)).status_code == 200
    other = [("x-api-key", WEB), ("x-api-key", JOBS)]
    assert (await client.get(URL, headers=other)).status_code == 401
    proxied = [("authorization", "Basic dXNlcjpwdw=="), ("x-api-key", WEB)]
    assert (await client.get(URL, headers=proxied)).status_code == 200


@pytest.mark.parametrize("path", OPEN)
async def test_a_path_without_a_tenants_streams_needs_no_key(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_every_other_route_needs_one_whatever_the_method(app: FastAPI, client: httpx2.AsyncClient) -> None:
    paths = {path.format_map(_AnyId()) for path in app.openapi()["paths"] if path not in OPEN}
    assert len(paths) >= 6
    paths |= {"/v1", "/v2/generations", "/console", "/console/", "/console/../v1/generations", "/console/../v1/x.js",
              "//v1/generations", "/healthz/", "/docs/oauth2-redirect", "/metrics",
              "/healthz/../v1/generations"}  # fmt: skip
    for path in paths:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            response = await client.request(method, f"http://broadcaster.example{path}")
            assert response.status_code == 401, (method, path)


class _AnyId(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "gen_0001"


async def test_nothing_is_done_and_no_body_is_read_without_a_key(app: FastAPI, world: MemoryWorld) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": URL, "query_string": b"", "http_version": "1.1", "scheme": "http",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"999999999")], "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent[0]["status"] == 401
    assert world.streams == {}


async def test_any_host_and_origin_may_call_with_a_key_and_no_cors_header_is_sent(client: httpx2.AsyncClient) -> None:
    headers = {**bearer(WEB), "host": "broadcaster.example", "origin": "https://app.example"}
    response = await client.get(URL, headers=headers)
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_the_key_is_taken_out_of_what_the_routes_see(services: Services) -> None:
    app = create_app(Settings.model_validate({"auth": "keys", "api_keys": KEYS}), services=services)

    @app.get("/seen")
    async def seen(request: Request) -> dict[str, Any]:
        return {"headers": dict(request.headers), "tenant": request.state.tenant}

    async with in_process(app) as client:
        result = (await client.get("/seen", headers={"x-api-key": JOBS, "accept": "text/plain"})).json()
    assert result["tenant"] == "jobs"
    assert result["headers"]["accept"] == "text/plain"
    assert JOBS not in str(result)


async def test_a_stream_is_followed_with_a_key_and_not_without(
    app: FastAPI, services: Services, world: MemoryWorld
) -> None:
    world.add("gen_1", tenant="web")
    world.append_raw("gen_1", b'{"type":"finish"}')
    async with served(app, services) as live:
        url = "/v1/streams/gen_1/events"
        assert len((await listen(live, url, headers=bearer(WEB_NEXT))).entries) == 1
        assert (await live.get(url, headers=bearer(JOBS))).json()["code"] == "unknown_stream"
        assert (await live.get(url)).json()["code"] == "unauthorized"


async def test_the_description_names_the_keys_only_where_they_are_needed(
    client: httpx2.AsyncClient, services: Services
) -> None:
    document = (await client.get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["apiKey"]["name"]) == ("bearer", "x-api-key")
    assert document["security"] == [{"bearer": []}, {"apiKey": []}, {"token": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in document["paths"][URL]["post"]
    async with in_process(own_app(services)) as without:
        document = (await without.get("/openapi.json")).json()
    assert "security" not in document
    assert "securitySchemes" not in document["components"]
