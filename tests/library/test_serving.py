"""``asgi`` and ``response``: our routes without FastAPI's lifespan, and a stream as a route's own response."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from fastapi import BackgroundTasks, FastAPI, Request, Response

from broadcaster import Broadcaster
from broadcaster.core.events import TextDelta
from broadcaster.log.redis.connect import LogConnection
from tests.support.apps.mounting import every_caller, every_stream
from tests.support.streaming import DEADLINE_S, on_stock_uvicorn

LAST = 'data: {"type":"finish"}\n\n'


def client_of(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://host")


async def test_an_app_without_a_lifespan_opens_at_its_first_request_and_closes_with_its_broadcaster(
    connection: LogConnection,
) -> None:
    before = asyncio.all_tasks()
    broadcaster = Broadcaster.from_url(connection.url)
    app = broadcaster.asgi(can_watch=every_stream)
    assert asyncio.all_tasks() == before
    for life in ("first", "second"):
        await broadcaster.publish(["a"], id=life)
        async with client_of(app) as client:
            assert (await client.get(f"/v1/streams/{life}/events")).text.endswith(LAST)
        await broadcaster.aclose()
        assert asyncio.all_tasks() == before


async def test_an_app_with_a_lifespan_is_open_from_its_start_to_its_end(connection: LogConnection) -> None:
    before = asyncio.all_tasks()
    broadcaster = Broadcaster.from_url(connection.url)
    app = broadcaster.asgi(can_watch=every_stream)
    to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    lifespan = asyncio.create_task(app({"type": "lifespan"}, to_app.get, from_app.put))
    to_app.put_nowait({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    assert broadcaster.statistics().viewers == 0
    async with client_of(app) as client:
        assert (await client.get("/v1/streams/nothing")).status_code == 404
    to_app.put_nowait({"type": "lifespan.shutdown"})
    assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
    await lifespan
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("lives", [["request", "lifespan"], ["lifespan", "request", "lifespan"]], ids="-".join)
async def test_a_lifespan_after_requests_without_one_opens_the_app_anew(
    connection: LogConnection, lives: list[str]
) -> None:
    broadcaster = Broadcaster.from_url(connection.url)
    await broadcaster.publish(["a"], id="answer")
    app = broadcaster.asgi(can_watch=every_stream)
    for life in lives:
        to_app: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        from_app: asyncio.Queue[Any] = asyncio.Queue()
        lifespan = None
        if life == "lifespan":
            lifespan = asyncio.create_task(app({"type": "lifespan"}, to_app.get, from_app.put))
            to_app.put_nowait({"type": "lifespan.startup"})
            assert (await from_app.get())["type"] == "lifespan.startup.complete"
        async with client_of(app) as client:
            assert (await client.get("/v1/streams/answer/events")).text.endswith(LAST)
        if lifespan is None:
            await broadcaster.aclose()
        else:
            to_app.put_nowait({"type": "lifespan.shutdown"})
            await lifespan


async def test_an_app_serves_what_its_guards_turn_on_and_nothing_else(broadcaster: Broadcaster) -> None:
    reads = broadcaster.asgi(can_watch=every_stream)
    lists = broadcaster.asgi(can_watch=every_stream, can_list=every_caller)
    for app, status in ((reads, 404), (lists, 200)):
        async with client_of(app) as client:
            assert (await client.get("/v1/streams")).status_code == status


@pytest.mark.parametrize("make", ["asgi", "router"])
def test_an_option_that_is_not_known_and_a_missing_guard_are_refused_by_name(make: str) -> None:
    create: Any = getattr(Broadcaster.from_url("redis://127.0.0.1:1"), make)
    with pytest.raises(TypeError, match="can_watch"):
        create()
    with pytest.raises(TypeError, match="can_wach"):
        create(can_watch=every_stream, can_wach=every_stream)
    with pytest.raises(TypeError, match="can_watch=can_watch"):
        create(auth=every_stream)


@pytest.mark.parametrize(
    ("scope", "path", "root"),
    [
        ({"path": "/v1/streams/a", "raw_path": b"/v1/streams/a?x=1"}, "/v1/streams/a", ""),
        ({"path": "/llm/v1/streams/a", "root_path": "/llm", "raw_path": b"/llm/v1/streams/a"}, None, "/llm"),
        ({"path": "/v1/streams/a/", "raw_path": b"/llm/v1/streams/a?x=1"}, "/v1/streams/a", "/llm"),
        ({"path": "/v1/streams/a", "raw_path": b"/llm/v1/streams/a"}, "/v1/streams/a", "/llm"),
        ({"path": "/v1/streams/a:b/", "raw_path": b"/llm/v1/streams/a%3Ab/"}, "/v1/streams/a:b", "/llm"),
        ({"path": "/v1/streams/a/"}, "/v1/streams/a", ""),
        ({"path": "/v1/streams/a", "raw_path": None}, "/v1/streams/a", ""),
        ({"path": "/v1/streams/a", "root_path": "/api", "raw_path": b"/elsewhere"}, "/v1/streams/a", "/api"),
    ],
    ids=[
        "served alone",
        "Starlette",
        "Litestar",
        "stripped",
        "quoted",
        "without raw_path",
        "raw_path is None",
        "another path",
    ],
)
async def test_links_begin_with_what_stands_before_our_paths_however_a_host_strips_it(
    broadcaster: Broadcaster, scope: dict[str, Any], path: str | None, root: str
) -> None:
    seen: list[Any] = []

    def can_watch(stream_id: str, request: Request) -> bool:
        seen.append((request.scope["path"], request.scope.get("root_path", "")))
        return False

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    app = broadcaster.asgi(can_watch=can_watch)
    whole = {"type": "http", "method": "GET", "headers": [], "query_string": b"", "root_path": "", **scope}
    await app(whole, receive, send)
    assert (sent[0]["status"], seen) == (404, [(path or scope["path"], root)])


async def test_a_route_of_the_hosts_own_answers_with_a_stream_from_the_requests_cursor(
    broadcaster: Broadcaster,
) -> None:
    host, ran = FastAPI(), asyncio.Event()

    @host.api_route("/answers/{id}", methods=["GET", "HEAD"])
    async def answer(id: str, request: Request, tasks: BackgroundTasks) -> Response:
        tasks.add_task(ran.set)
        response = broadcaster.response(id, request)
        response.headers["x-of"] = "the host"
        return response

    @host.get("/texts/{id}")
    async def text(id: str, request: Request) -> Response:
        return broadcaster.response(id, request, dialect="delta", wait_s=5)

    result = await broadcaster.publish([TextDelta(id="0", delta="one"), "two"], id="answer")
    async with client_of(host) as client:
        whole = await client.get("/answers/answer")
        assert (whole.headers["content-type"], whole.headers["x-of"]) == ("text/event-stream", "the host")
        assert whole.text.endswith(LAST)
        assert ran.is_set()
        ids = [line.removeprefix("id: ") for line in whole.text.splitlines() if line.startswith("id: ")]
        rest = await client.get("/answers/answer", headers={"last-event-id": ids[0]})
        assert [line.removeprefix("id: ") for line in rest.text.splitlines() if line.startswith("id: ")] == ids[1:]
        assert (await client.get("/answers/answer", params={"after": str(result.cursor)})).status_code == 204
        unknown = await client.get("/answers/nothing")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_stream")
        head = await client.head("/answers/answer")
        assert head.status_code == 405
        bad = await client.get("/answers/answer", headers={"last-event-id": "x"})
        assert (bad.status_code, bad.json()["code"]) == (400, "bad_cursor")
        waiting = asyncio.create_task(client.get("/texts/later"))
        await broadcaster.publish(["later"], id="later")
        assert '"later"' in (await waiting).text


@pytest.mark.parametrize("way", ["asgi", "response"])
async def test_a_request_whose_opening_is_ended_by_a_closing_is_answered_with_a_problem(
    connection: LogConnection, way: str
) -> None:
    broadcaster = Broadcaster.from_url(connection.url)
    app: Any = broadcaster.asgi(can_watch=every_stream)
    if way == "response":
        app = FastAPI()

        @app.get("/v1/streams/{id}/events")
        async def answer(id: str, request: Request) -> Response:
            return broadcaster.response(id, request)

    answers = []
    async with client_of(app) as client, asyncio.timeout(DEADLINE_S):
        for turns in range(60):  # of the loop, before the closing: some are in the middle of the opening
            waiting = asyncio.create_task(client.get("/v1/streams/nothing/events"))
            for _ in range(turns):
                await asyncio.sleep(0)
            await broadcaster.aclose()
            response = await waiting
            is_stream = response.status_code == 200
            answers.append((response.status_code, "hub.bye" if is_stream else response.json()["code"]))
            assert not is_stream or response.text.startswith("event: hub.bye")
            await broadcaster.aclose()
    assert (503, "busy") in answers
    assert {status for status, _ in answers} <= {503, 404, 200}


async def test_responses_of_a_hosts_own_route_count_for_the_limit_of_an_address(connection: LogConnection) -> None:
    host = FastAPI()
    broadcaster = Broadcaster.from_url(connection.url, address_viewers=1)

    @host.get("/answers/{id}")
    async def answer(id: str, request: Request) -> Response:
        return broadcaster.response(id, request)

    async with (
        broadcaster,
        on_stock_uvicorn(host, on_drain=broadcaster.aclose) as port,
        broadcaster.feed("job") as feed,
    ):
        await feed.text("one")
        async with asyncio.timeout(DEADLINE_S), httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            async with client.stream("GET", "/answers/job"):
                refused = await client.get("/answers/job")
        assert [line for line in refused.text.splitlines() if line.startswith("event: ")] == ["event: hub.bye"]
        assert '"reason":"limit"' in refused.text


async def test_a_response_that_is_never_sent_opens_nothing(connection: LogConnection) -> None:
    broadcaster = Broadcaster.from_url(connection.url)
    before = asyncio.all_tasks()
    broadcaster.response("answer", Request({"type": "http", "headers": [], "query_string": b""}))
    assert asyncio.all_tasks() == before
