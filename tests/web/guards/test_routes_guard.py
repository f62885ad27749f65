"""What a request must be: from this machine, from a page of this machine, with a name of its own."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.web.guards.request import is_loopback_host, is_loopback_origin

URL = "/v1/generations"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8000"])
async def test_every_name_of_this_machine_is_served(client: httpx2.AsyncClient, host: str) -> None:
    assert (await client.get(URL, headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "127.0.0.1@evil.example", "0.0.0.0",
     "[::]", "::1", "127.0.0.1:", "127.0.0.1:80:80", "localhost.", "", " localhost"],
)  # fmt: skip
def test_a_host_that_only_resembles_this_machine_is_not_taken_for_it(host: str) -> None:
    assert not is_loopback_host(host)


async def test_a_rebound_name_is_refused_before_anything_is_done(client: httpx2.AsyncClient) -> None:
    response = await client.post(URL, json={"prompt": "a"}, headers={"host": "evil.example:8000"})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden_host")


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"])
async def test_a_page_of_this_machine_may_call(client: httpx2.AsyncClient, origin: str) -> None:
    assert (await client.post(URL, json={"prompt": "a"}, headers={"origin": origin})).status_code == 202


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://localhost.evil.example", "http://localhost@evil.example",
     "http://evil@localhost", "file://", "http://[::1", "chrome-extension://localhost",
     "http://127.0.0.1:8420.evil.com", "http://127.0.0.1:8420/", "http://127.0.0.1:", "http://127.0.0.1:80 "],
)  # fmt: skip
async def test_any_other_page_may_not(client: httpx2.AsyncClient, origin: str) -> None:
    response = await client.post(URL, json={"prompt": "a"}, headers={"origin": origin})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden_origin")


@pytest.mark.parametrize("path", [URL, "/v1/streams/job/events", "/healthz", "/"])
@pytest.mark.parametrize(
    ("mode", "destination"),
    [("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"), ("navigate", "object"), ("websocket", "")],
)
async def test_a_fetch_by_a_page_of_another_site_is_refused(
    client: httpx2.AsyncClient, path: str, mode: str, destination: str
) -> None:
    result = {"sec-fetch-site": "cross-site", "sec-fetch-mode": mode, "sec-fetch-dest": destination}
    response = await client.get(path, headers=result)
    assert (response.status_code, response.json()["code"]) == (403, "forbidden_origin")


@pytest.mark.parametrize(
    "sent_headers",
    [
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
        {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
        # A page of this machine on another name of it.
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "origin": "http://localhost:3000"},
    ],
)
async def test_a_link_that_a_user_follows_and_pages_of_this_machine_are_served(
    client: httpx2.AsyncClient, sent_headers: dict[str, str]
) -> None:
    assert (await client.get(URL, headers=sent_headers)).status_code == 200


@given(st.text(max_size=40))
def test_no_text_makes_the_guard_fail(text: str) -> None:
    assert is_loopback_host(text) in (True, False)
    assert is_loopback_origin(text) in (True, False)


async def test_a_harmless_request_id_is_kept_and_another_replaced(client: httpx2.AsyncClient) -> None:
    kept = await client.get("/healthz", headers={"x-request-id": "abc-123"})
    assert kept.headers["x-request-id"] == "abc-123"
    for given_id in ("", "a b", "a\tb", "x" * 129, "<script>"):
        answer = await client.get("/healthz", headers={"x-request-id": given_id})
        assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-content-type-options"] == "nosniff"
