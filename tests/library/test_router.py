"""The library inside a user's FastAPI app, on a stock uvicorn."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Cookie, FastAPI

from broadcaster import Broadcaster
from broadcaster.log.redis.connect import LogConnection
from tests.library.support import raw_events, until_in_the_log
from tests.support.apps.mounting import every_stream
from tests.support.servers.front_end import listen, read_stream
from tests.support.servers.processes import Running, Stack

DEADLINE_S = 30.0
ATTACKS: Sequence[tuple[str, str, Any]] = [
    ("GET", "streams/answer/events", None),
    ("GET", "streams/answer", None),
    ("PUT", "streams/answer", {}),
    ("POST", "streams/answer/events", {"type": "text-delta", "id": "0", "delta": "HACKED"}),
    ("POST", "streams/answer/close", {}),
    ("DELETE", "streams/answer", None),
    ("GET", "generations", None),
    ("POST", "generations", {"prompt": "why?"}),
    ("POST", "generations/answer/stop", {}),
    ("DELETE", "generations/answer", None),
    ("POST", "chat/completions", {"model": "local", "messages": [{"role": "user", "content": "why?"}]}),
]


@pytest.fixture
async def app(tmp_path: Path, connection: LogConnection) -> AsyncIterator[Running]:
    environment = {
        "BROADCASTER_REDIS_URL": connection.url,
        "BROADCASTER_DRAIN_WINDOW_S": "0.1",
        "PYTHONUNBUFFERED": "1",
    }
    stack = Stack(tmp_path, environment)
    try:
        running = await stack.start("uvicorn", "tests.support.apps.library_app:app", "--port", "0")
        line = await running.logged("Uvicorn running on http")
        running.url = line.partition("running on ")[2].split()[0]
        yield running
    finally:
        await stack.aclose()


async def test_an_answer_that_the_app_publishes_is_watched_through_its_router_and_ends_as_cancelled(
    app: Running, connection: LogConnection
):
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=app.url, timeout=DEADLINE_S))
        events_url = (await client.post("/jobs/answer")).json()["events_url"]
        received = await listen(client, events_url, until=5)
        assert json.loads(received.entries[1][1])["delta"] == "word "
        state = (await client.get("/llm/v1/streams/answer")).json()
        assert state["events_url"] == "/llm/v1/streams/answer/events"

        watching = await stack.enter_async_context(client.stream("GET", events_url))
        inside = await stack.enter_async_context(client.stream("GET", "/numbers/answer"))
        lines = inside.aiter_lines()
        assert [await anext(lines) for _ in range(3)] == ["1", "2", "3"]
        app.signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            assert (await read_stream(watching)).names[-1] == "hub.bye"
            await app.process.wait()
    assert (await raw_events(connection, "answer"))[-1] == b'{"type":"abort","reason":"cancelled"}'
    assert app.process.returncode in (0, -signal.SIGTERM)


async def test_an_apps_lifespan_closes_its_broadcaster_and_the_next_reopens_it(connection: LogConnection):
    broadcaster = Broadcaster.from_url(connection.url)
    app = FastAPI()
    app.include_router(broadcaster.router(can_watch=every_stream))
    for life in range(2):
        before = asyncio.all_tasks()
        async with app.router.lifespan_context(app):
            async with broadcaster.feed(f"job-{life}") as feed:
                await feed.data("x", life)
            await until_in_the_log(connection, f"job-{life}", 2)
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://host") as client:
                assert (await client.get(f"/v1/streams/job-{life}")).json()["status"] == "finished"
        assert asyncio.all_tasks() == before


async def test_a_program_that_entered_the_broadcaster_keeps_it_open_after_the_app(connection: LogConnection):
    async with Broadcaster.from_url(connection.url) as broadcaster:
        app = FastAPI()
        app.include_router(broadcaster.router(can_watch=every_stream))
        async with broadcaster.feed("job") as feed:
            async with app.router.lifespan_context(app):
                await feed.data("x", 1)
            await feed.data("x", 2)
    assert len(await raw_events(connection, "job")) == 3


async def test_a_second_user_of_the_app_can_do_nothing_with_the_first_ones_answer(connection: LogConnection):
    """He tries what a signed-in user of an unguarded router could do: read, write into, end and delete it."""
    owners = {"answer": "ada"}

    def owns(stream_id: str, user: Annotated[str, Cookie()]) -> bool:
        return owners.get(stream_id) == user

    def is_admin(user: Annotated[str, Cookie()]) -> bool:
        return user == "root"

    goes_on = asyncio.Event()

    async def texts() -> AsyncIterator[str]:
        yield "Because "
        await goes_on.wait()
        yield "of that."

    async with Broadcaster.from_url(connection.url) as broadcaster:
        app = FastAPI()
        app.include_router(broadcaster.router(can_watch=owns), prefix="/read")
        guards: Any = {"can_stop": owns, "can_write": owns, "can_delete": owns}
        whole = broadcaster.router(can_watch=owns, can_list=is_admin, can_generate=is_admin, **guards)
        app.include_router(whole, prefix="/all")
        publishing = broadcaster.publish_nowait(texts(), id="answer")
        await until_in_the_log(connection, "answer", 2)
        transport = httpx2.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://a") as http,
        ):
            for prefix in ("read", "all"):
                for method, path, body in ATTACKS:
                    refused = await http.request(
                        method, f"/{prefix}/v1/{path}", json=body, headers={"cookie": "user=bob"}
                    )
                    assert refused.status_code in (403, 404, 405), (prefix, path)
                    assert "Because" not in refused.text
            shown = await http.get("/read/v1/streams/answer", headers={"cookie": "user=ada"})
            assert (shown.status_code, shown.json()["status"]) == (200, "running")
            goes_on.set()
            await publishing.result()
    events = await raw_events(connection, "answer")
    assert (len(events), events[-1]) == (5, b'{"type":"finish"}')
