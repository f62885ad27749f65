"""Our routes in apps of other frameworks, and on other servers, as real processes (docs/hosts.md)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx2
import pytest

from broadcaster import Broadcaster
from broadcaster.log.redis.connect import LogConnection
from tests.support.servers.front_end import listen
from tests.support.servers.ports import free_port
from tests.support.servers.processes import Running, Stack
from tests.support.servers.programs import lacking

ROOT: Final = Path(__file__).parents[3]
PACKAGES: Final = ROOT / ".venv" / "hosts"
DEADLINE_S: Final = 30.0
ADA: Final = {"x-user": "ada"}
SERVERS: Final = {
    "uvicorn": ("uvicorn", "{app}", "--port", "{port}", "--workers", "1"),
    "hypercorn": ("hypercorn", "{app}", "--bind", "127.0.0.1:{port}"),
    "granian": ("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "{app}"),
}
# Each server and each framework once; the other pairs of them in `make compat`.
FIRST: Final = [("uvicorn", "starlette"), ("uvicorn", "django"), ("hypercorn", "quart"), ("granian", "litestar")]
OTHERS: Final = [("uvicorn", "litestar"), ("uvicorn", "quart"), ("hypercorn", "starlette"), ("granian", "django")]
RUNS: Final = [
    *(pytest.param(run, id="-".join(run)) for run in FIRST),
    *(pytest.param(run, id="-".join(run), marks=pytest.mark.thorough) for run in OTHERS),
]


@pytest.fixture(params=RUNS)
async def host(request: pytest.FixtureRequest, tmp_path: Path, connection: LogConnection) -> AsyncIterator[Running]:
    async with _served(*request.param, tmp_path=tmp_path, redis_url=connection.url) as running:
        yield running


@asynccontextmanager
async def _served(server: str, framework: str, *, tmp_path: Path, redis_url: str) -> AsyncIterator[Running]:
    if not PACKAGES.is_dir():
        lacking("no other servers and frameworks here: get them with `make hosts`")
    stack = Stack(tmp_path, {"BROADCASTER_REDIS_URL": redis_url, "PYTHONPATH": f"{ROOT}:{PACKAGES}"})
    port = free_port()
    command = [part.format(app=f"tests.support.apps.hosts.{framework}_host:app", port=port) for part in SERVERS[server]]
    try:
        running = await stack.start(*command)
        running.url = f"http://127.0.0.1:{port}"
        await _until_served(running)
        yield running
    finally:
        await stack.aclose()


async def _until_served(running: Running) -> None:
    async with httpx2.AsyncClient() as client, asyncio.timeout(DEADLINE_S):
        while True:
            assert running.process.returncode is None, running.log.read_text()
            try:
                await client.get(f"{running.url}/nothing")
            except httpx2.TransportError:
                await asyncio.sleep(0.05)
            else:
                return


async def texts(gate: asyncio.Event) -> AsyncIterator[str]:
    """Two pieces, the second when the gate opens."""
    yield "all "
    await gate.wait()
    yield "copied"


async def test_a_framework_on_a_server_serves_streams_to_those_it_grants_and_ends_in_time(
    host: Running, connection: LogConnection
) -> None:
    gate = asyncio.Event()
    async with AsyncExitStack() as stack:
        broadcaster = await stack.enter_async_context(Broadcaster.from_url(connection.url, drain_s=0))
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=host.url, timeout=DEADLINE_S))
        publication = broadcaster.publish_nowait(texts(gate), id="ada-1")
        await publication.created()

        state = (await client.get("/llm/v1/streams/ada-1", headers=ADA)).json()
        assert state["events_url"] == "/llm/v1/streams/ada-1/events"
        begun = await listen(client, state["events_url"], headers=ADA, until=2)
        gate.set()
        rest = await listen(client, state["events_url"], headers={**ADA, "last-event-id": begun.entries[-1][0]})
        events = [event for _, event in (*begun.entries, *rest.entries)]
        assert "".join(_texts_of(events)) == "all copied"
        assert events[-1].startswith('{"type":"finish"')
        done = await client.get(state["events_url"], headers={**ADA, "last-event-id": rest.entries[-1][0]})
        assert done.status_code == 204

        await _refuses_others(client)
        await _serves_its_own(client)
        await _ends_in_time(host, client, broadcaster, path="/llm/v1/streams/ada-open/events")


async def test_a_host_that_only_returns_a_stream_from_a_route_ends_in_time(
    tmp_path: Path, connection: LogConnection
) -> None:
    async with (
        _served("uvicorn", "response", tmp_path=tmp_path, redis_url=connection.url) as host,
        Broadcaster.from_url(connection.url, drain_s=0) as broadcaster,
        httpx2.AsyncClient(base_url=host.url, timeout=DEADLINE_S) as client,
    ):
        await _ends_in_time(host, client, broadcaster, path="/mine/ada-open")


async def test_a_view_of_django_returns_a_stream_that_resumes_and_ends_with_its_viewer(
    tmp_path: Path, connection: LogConnection
) -> None:
    gate = asyncio.Event()
    async with (
        _served("uvicorn", "django", tmp_path=tmp_path, redis_url=connection.url) as host,
        Broadcaster.from_url(connection.url, drain_s=0) as broadcaster,
        httpx2.AsyncClient(base_url=host.url, timeout=DEADLINE_S) as client,
    ):
        await broadcaster.publish_nowait(texts(gate), id="ada-1").created()
        begun = await listen(client, "/answers/ada-1", until=2)
        async with asyncio.timeout(DEADLINE_S):
            while (await client.get("/llm/v1/streams/ada-1", headers=ADA)).json()["viewers"]:
                await asyncio.sleep(0.05)
        gate.set()
        rest = await listen(client, "/answers/ada-1", headers={"last-event-id": begun.entries[-1][0]})
        assert "".join(_texts_of([event for _, event in (*begun.entries, *rest.entries)])) == "all copied"
        done = await client.get("/answers/ada-1", headers={"last-event-id": rest.entries[-1][0]})
        assert done.status_code == 204
        assert (await client.head("/answers/ada-1")).status_code == 405
        await _ends_in_time(host, client, broadcaster, path="/answers/ada-open")


def _texts_of(events: Sequence[str]) -> list[str]:
    return [event.partition('"delta":"')[2].rstrip('"}') for event in events if '"type":"text-delta"' in event]


async def _refuses_others(client: httpx2.AsyncClient) -> None:
    for headers in ({"x-user": "bob"}, {}):
        refused = await client.get("/llm/v1/streams/ada-1/events", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_stream")
    for method, path in (("PUT", "streams/ada-2"), ("POST", "generations"), ("GET", "generations"), ("GET", "nothing")):
        absent = await client.request(method, f"/llm/v1/{path}", headers=ADA)
        assert (absent.status_code, absent.headers["content-type"]) in (
            (404, "application/problem+json"),
            (405, "application/problem+json"),
        )


async def _serves_its_own(client: httpx2.AsyncClient) -> None:
    mine = await client.get("/mine/ada-1")
    assert mine.status_code == 200
    if not mine.text.startswith("a page of"):
        assert mine.headers["content-type"].startswith("text/event-stream")
        assert mine.text.endswith('data: {"type":"finish"}\n\n')
        unknown = await client.get("/mine/nobody")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_stream")


async def _ends_in_time(host: Running, client: httpx2.AsyncClient, broadcaster: Broadcaster, *, path: str) -> None:
    """A viewer that watches an open stream is sent away, so that the server's end does not wait for it."""
    publication = broadcaster.publish_nowait(texts(asyncio.Event()), id="ada-open")
    await publication.created()
    async with client.stream("GET", path, headers=ADA) as watching:
        lines = watching.aiter_lines()
        async with asyncio.timeout(DEADLINE_S):
            while not (await anext(lines)).startswith("id:"):
                pass
            host.signal(signal.SIGTERM)
            rest = []
            with suppress(httpx2.TransportError):  # hypercorn cuts connections that are open
                rest = [line async for line in lines]
            assert not rest or "event: hub.bye" in rest
            await host.process.wait()
    assert host.process.returncode in (0, -signal.SIGTERM)
