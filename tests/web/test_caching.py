"""No cache between a front-end and its clients keeps an answer, whatever key it was requested with."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.apps.mounting import Mounted, create_host, serve_host
from tests.support.servers.front_end import listen

CREDENTIALS = {"authorization", "x-api-key"}
REQUEST = [
    ("GET", "/v1/generations"),
    ("POST", "/v1/generations"),
    ("GET", "/v1/generations/none"),
    ("PUT", "/v1/streams/job"),
    ("GET", "/v1/streams/job"),
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/messages"),
]
OF_OUR_OWN_APP = [("GET", "/openapi.json"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/nowhere"), ("PUT", "/")]


def assert_not_kept(answer: httpx2.Response) -> None:
    assert answer.headers["cache-control"] == "no-store"
    if answer.content and "json" in answer.headers["content-type"]:
        assert {each.strip() for each in answer.headers["vary"].split(",")} == CREDENTIALS


@pytest.mark.parametrize(("method", "path"), [*REQUEST, *OF_OUR_OWN_APP])
async def test_every_response_of_our_own_app_forbids_storing(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    assert_not_kept(await client.request(method, path, json={} if method != "GET" else None))


async def test_a_mounted_router_forbids_storing_too_and_the_hosts_own_responses_stay_as_they_are() -> None:
    async with serve_host(create_host(("/llm", Mounted().router))) as host:
        for method, path in REQUEST:
            assert_not_kept(await host.request(method, f"/llm{path}", json={} if method != "GET" else None))
        assert "cache-control" not in (await host.get("/hello/1")).headers


async def test_a_stream_also_forbids_transforming(live_client: httpx2.AsyncClient) -> None:
    await live_client.put("/v1/streams/job", json={})
    await live_client.post("/v1/streams/job/close")
    received = await listen(live_client, "/v1/streams/job/events")
    assert received.headers["cache-control"] == "no-store, no-transform"


async def test_the_pages_files_may_be_cached_and_are_revalidated(client: httpx2.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert "vary" not in page.headers
