"""The server of /metrics: one path, two methods, a bound on connections, and a deadline for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from broadcaster.errors import SetupError
from broadcaster.observability.limits import REACHED
from broadcaster.observability.metrics_address import MetricsAddress
from broadcaster.observability.metrics_server import MetricsServer
from tests.support.scraping import exchange, get

TEXT = b"broadcaster_rooms 1.0\n" * 20_000  # more than a socket's buffer takes at once


async def expose(accept: str) -> tuple[bytes, str]:
    return TEXT, f"text/plain; for={accept}"


def address(*, port: int = 0, max_connections: int = 4, timeout_s: float = 10.0) -> MetricsAddress:
    return MetricsAddress(host="127.0.0.1", port=port, max_connections=max_connections, timeout_s=timeout_s)


@asynccontextmanager
async def serving(**bounds: float) -> AsyncIterator[int]:
    async with MetricsServer(expose, address(**bounds)).serving() as port:  # type: ignore[arg-type]
        yield port


async def test_it_serves_its_text_with_the_accept_header_of_the_scraper() -> None:
    async with serving() as port:
        head, body = await get(port, accept="openmetrics")
    assert head.startswith("HTTP/1.1 200 ")
    assert "content-type: text/plain; for=openmetrics" in head.lower()
    assert f"content-length: {len(TEXT)}" in head.lower()
    assert body.encode() == TEXT


async def test_head_has_the_length_and_no_body() -> None:
    async with serving() as port:
        head, body = await get(port, method="HEAD")
    assert f"content-length: {len(TEXT)}" in head.lower()
    assert body == ""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metricsx", 404), ("POST", "/metrics", 405), ("GET", "/metrics?x=1", 200)],
)
async def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    async with serving() as port:
        head, _ = await get(port, method=method, path=path)
    assert f" {status} " in head.partition("\r\n")[0]


@pytest.mark.parametrize("request_bytes", [b"\x16\x03\x01\x02\x00\x01", b"GET /metrics\r\n\r\n", b"A" * 100_000])
async def test_what_is_no_http_is_closed(request_bytes: bytes) -> None:
    async with serving(timeout_s=5) as port:
        with suppress(ConnectionError):
            assert b"200" not in await exchange(port, request_bytes)
        assert " 200 " in (await get(port))[0]


async def test_a_connection_that_sends_no_head_is_closed_in_time() -> None:
    async with serving(timeout_s=0.1) as port:
        assert await exchange(port, b"GET /metrics HTTP/1.1\r\n") == b""


async def test_connections_beyond_the_bound_are_closed_at_once_and_counted() -> None:
    before = REACHED["METRICS_CONNECTIONS"]
    async with serving(max_connections=2) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0)
        try:
            assert await exchange(port, b"") == b""
        finally:
            for _, writer in held:
                writer.transport.abort()
    assert REACHED["METRICS_CONNECTIONS"] == before + 1


async def test_a_scraper_that_reads_nothing_holds_its_connection_for_the_deadline_alone() -> None:
    async with serving(timeout_s=0.2, max_connections=1) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            while " 200 " not in (await get(port))[0]:
                await asyncio.sleep(0.05)
        writer.transport.abort()


async def test_the_end_of_the_server_ends_connections_that_wait(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n")
        await asyncio.sleep(0.05)
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.transport.abort()
    await asyncio.sleep(0)
    assert not caplog.records


async def test_a_port_that_is_taken_is_named() -> None:
    async with serving() as port:
        with pytest.raises(SetupError, match=f"127.0.0.1:{port} .*BROADCASTER_METRICS_PORT"):
            async with MetricsServer(expose, address(port=port)).serving():
                pass
