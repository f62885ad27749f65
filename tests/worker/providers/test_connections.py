"""The providers' connections: how their names are resolved, and what is left of a call that was stopped."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import uvloop

from broadcaster.core.events import Event
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.process.tasks import end_tasks
from broadcaster.testing import ScriptedProvider
from tests.support.log.log_world import until
from tests.support.servers.certificates import loopback_certificate, serving_with
from tests.worker.providers.provider_support import (
    ANTHROPIC,
    CHAT,
    Wire,
    collect,
    failing,
    provider_at,
    request_for,
    text_of,
)
from worker.attempt import DEFAULT_RETRY
from worker.providers import wire_stream
from worker.providers.registry import Providers
from worker.providers.sdk_provider import SdkProvider
from worker.retry import ModelAnswer

# The loopback's own buffers have megabytes.
BODY_CHARS = 7_000_000
RECEIVED_BYTES = 65_536


async def test_a_provider_whose_name_server_is_silent_leaves_the_others_reachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve, may_answer, silent = socket.getaddrinfo, threading.Event(), list[str]()

    def of_silent_server(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".invalid"):
            silent.append(host)
            assert may_answer.wait(20)
        return resolve("localhost", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", of_silent_server)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))  # as uvloop's
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ScriptedProvider())
        port = urlsplit(server.base_url).port
        urls = [f"http://{host}:{port}/v1" for host in ("one.invalid", "two.invalid", "good.test")]
        *mute, good = [await stack.enter_async_context(provider_at(url, CHAT)) for url in urls]
        waiting = [asyncio.create_task(collect(each, request_for("m"))) for each in mute]
        await until(lambda: len(silent) == len(mute))
        try:
            async with asyncio.timeout(5):
                assert text_of(await collect(good, request_for("m"))) == "Hello world."
        finally:
            may_answer.set()
            await end_tasks(*waiting)


async def test_a_name_without_an_address_makes_its_provider_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with provider_at("http://unknown.invalid/v1", CHAT) as provider:
        failure, _ = await failing(provider, request_for("m"))
    assert (failure.reason, failure.retryable) == ("provider_unreachable", True)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("on", [CHAT, ANTHROPIC], ids=str)
def test_a_stopped_call_whose_request_the_provider_does_not_read_leaves_no_socket(
    on: Wire, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = None
    if scheme == "https":
        certificate = loopback_certificate(tmp_path)
        tls = serving_with(certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def check() -> None:
        async with unread(tls) as (port, paused):
            async with provider_at(f"{scheme}://127.0.0.1:{port}{on.prefix}", on, read_timeout_s=60) as provider:
                request = request_for("m", messages=[{"role": "user", "content": "x" * BODY_CHARS}])
                calls = [asyncio.create_task(collect(provider, request)) for _ in range(3)]
                await until(lambda: len(paused) == len([each for each in unsent_bytes(port) if each]) == len(calls))
                await end_tasks(*calls)
                await until(lambda: not unsent_bytes(port), deadline_s=2)

    uvloop.run(check())


async def test_a_whole_answer_gives_its_connection_to_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS: a server without it is called with ``Connection: close``."""
    certificate = loopback_certificate(tmp_path)
    tls = serving_with(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    connections = list[asyncio.StreamWriter]()
    body = CHAT.frames("hello")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while await read_request(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
            writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        async with provider_at(f"https://127.0.0.1:{port}/v1", CHAT) as provider:
            for _ in range(3):
                assert text_of(await collect(provider, request_for("m"))) == "hello"
    assert len(connections) == 1


async def test_a_body_that_ends_after_its_answer_keeps_its_connection_and_delays_no_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_stream, "DRAIN_TIMEOUT_S", 20.0)
    certificate = loopback_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    connections = list[asyncio.StreamWriter]()
    may_end, body = asyncio.Event(), CHAT.frames("hello")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while await read_request(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%s\r\n" % (len(body), body))
            await may_end.wait()
            may_end.clear()
            writer.write(b"0\r\n\r\n")

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving_with(certificate)) as server:
        port = server.sockets[0].getsockname()[1]
        async with provider_at(f"https://127.0.0.1:{port}/v1", CHAT) as provider:
            sdk_provider = cast("SdkProvider", provider)
            providers = Providers(ModelRoutes({"*": "one"}), {"one": lambda: provider})
            for _ in range(3):
                deadline, given = asyncio.get_running_loop().time() + 20, list[Event]()
                answer = ModelAnswer(request_for("m"), providers, bounds=DEFAULT_RETRY, deadline=deadline, name="gen_1")
                async with asyncio.timeout_at(deadline):
                    last = await answer.run(given.extend)
                assert text_of([*given, *last]) == "hello"
                may_end.set()
                await until(lambda: not may_end.is_set() and not sdk_provider._finishing)
    assert len(connections) == 1


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """The head of the next request of a connection; its body is read too."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head


@asynccontextmanager
async def unread(tls: ssl.SSLContext | None) -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """The port of a server that reads the head of each request and no more, and the connections where it has."""
    paused = list[asyncio.StreamWriter]()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport of a socket
        paused.append(writer)
        try:
            await asyncio.Event().wait()
        finally:
            writer.transport.abort()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
    server = await asyncio.start_server(stall, sock=listener, ssl=tls)
    try:
        yield int(listener.getsockname()[1]), paused
    finally:
        server.close()


def unsent_bytes(port: int) -> list[int]:
    """For each socket to this port that a process has: the bytes that its peer has not acknowledged.

    A closed socket, whose inode is 0, is the kernel's.
    """
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[4].split(":")[0], 16) for row in rows if int(row[2].split(":")[1], 16) == port and row[9] != "0"]


@pytest.mark.parametrize("on", [CHAT, ANTHROPIC], ids=str)
async def test_no_piece_of_an_answer_passes_the_layers_between_aiohttp_and_the_sdk(
    on: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pass_on(_: Any) -> AsyncIterator[bytes]:
        raise AssertionError("a layer was used")

    monkeypatch.setattr("httpx2._client.BoundAsyncStream.__aiter__", pass_on)
    async with ScriptedProvider() as server, provider_at(f"{server.base_url}{on.prefix}", on) as provider:
        for _ in range(2):
            assert text_of(await collect(provider, request_for("m"))) == "Hello world."
