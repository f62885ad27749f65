"""Odd ids, queries and cursors: each is refused with a problem, or answered, and none is an error of ours."""

from __future__ import annotations

from itertools import product
from urllib.parse import quote

import httpx2
import pytest

from tests.support.memory.memory_world import MemoryWorld

ODD = [
    "..", ".", "%00", "\x00", "\n", "a\r\nb: c", "a b", "a/b", "a\\b", "{jobs}", "{a}b", "*", "?", "#", "jobs", "a:b",
    "probe-x", "gen_", "gen_" + "0" * 200, "x" * 5000, "\u2028", "\ud800", "é", "😀", "null",
    "__proto__", "constructor", "-1", "~", "a~b", "'; DROP", "${jndi:ldap://x}", "<script>", "bc:{jobs}:ready",
]  # fmt: skip
CALLS = [
    ("GET", "/v1/streams/{}"),
    ("GET", "/v1/streams/{}/events?wait_s=0"),
    ("POST", "/v1/streams/{}/close"),
    ("DELETE", "/v1/streams/{}"),
    ("GET", "/v1/generations/{}"),
    ("POST", "/v1/generations/{}/stop"),
    ("DELETE", "/v1/generations/{}"),
    ("GET", "/v1/responses/{}"),
    ("GET", "/v1/models/{}"),
    ("GET", "/api/chat/{}/stream"),
    ("POST", "/api/chat/{}/stop"),
]
QUERIES = [
    "after=0", "after=1-", "after=-1-1", "after=1e400-1", "after=" + "9" * 4000 + "-1", "after=1-1&after=2-2",
    "wait_s=nan", "wait_s=inf", "wait_s=-1", "wait_s=1e400", "wait_s=", "dialect=", "dialect=../native", "replay=none",
    "after=%00", "%00=%00", "after=%ff", "x=" + "y" * 20_000, "&&&&", "=", "after=1-1%0d%0aa:b",
]  # fmt: skip
CURSORS = ["0", "1-1-1", "x" * 5000, "99999999999999999999-1", "-", "1-0x1"]


@pytest.mark.filterwarnings("error")
async def test_no_id_is_an_error_of_ours(client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    for odd, (method, path) in product(ODD, CALLS):
        response = await client.request(method, path.format(quote(odd.encode("utf-8", "surrogatepass"), safe="")))
        assert response.status_code < 500, (method, path, odd)
    assert "request_failed" not in caplog.text


async def test_no_query_and_no_cursor_is_an_error_of_ours(
    client: httpx2.AsyncClient, world: MemoryWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.add("gen_1", status="running")
    world.append_raw("gen_1", b'{"type":"finish"}')
    for query in QUERIES:
        for url in ("/v1/streams/gen_1/events", "/v1/generations", "/v1/generations/gen_1"):
            assert (await client.get(f"{url}?{query}")).status_code < 500, (url, query)
    for cursor in CURSORS:
        response = await client.get("/v1/streams/gen_1/events", headers={"last-event-id": cursor})
        assert response.status_code in (200, 204, 400), cursor
    assert "request_failed" not in caplog.text
