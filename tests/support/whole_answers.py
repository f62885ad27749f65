"""All that a request brings, to be compared with what another one brings."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx2

from tests.support.servers.front_end import DEADLINE_S


class Answered(NamedTuple):
    """All that one request brought, but for what is drawn or computed anew each time."""

    status: int
    headers: list[tuple[str, str]]
    body: str


async def fetch(
    client: httpx2.AsyncClient, url: str, headers: Mapping[str, bytes] | None = None, *, method: str = "GET"
) -> Answered:
    """The answer on a connection of its own, of a stream that runs as far as it is there."""
    async with httpx2.AsyncClient(base_url=client.base_url, timeout=DEADLINE_S) as first:
        return await fetch_over(first, url, headers, method=method)


async def fetch_over(
    client: httpx2.AsyncClient, url: str, headers: Mapping[str, bytes] | None = None, *, method: str = "GET"
) -> Answered:
    """The same over a connection of this client's, which may have had other requests."""
    raw = [(name.encode(), value) for name, value in {"x-request-id": b"same", **(headers or {})}.items()]
    body = b""
    async with asyncio.timeout(DEADLINE_S), client.stream(method, url, headers=raw) as response:
        async for chunk in response.aiter_bytes():
            body += chunk
            if b"event: hub.live\n" in body and body.endswith(b"\n\n"):
                break
    result = [(name, value) for name, value in response.headers.multi_items() if name != "date"]
    return Answered(response.status_code, result, re.sub(r"retry: \d+", "retry: drawn", body.decode()))


def scope_of(path: str, headers: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    """The scope of a GET."""
    fields = {"host": b"localhost", **(headers or {})}
    raw = [(name.encode(), value) for name, value in fields.items()]
    path, _, query = path.partition("?")
    return {"method": "GET", "path": path, "query_string": query.encode(), "headers": raw, "state": {}}
