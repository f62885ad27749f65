"""The WebSocket of a stream in a host's app: its guards decide, and only its own pages may open one."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, HTTPException, Request
from starlette.middleware.base import RequestResponseEndpoint
from starlette.responses import Response

from broadcaster.core.events import Finish, TextDelta
from broadcaster.library.broadcaster import Broadcaster
from broadcaster.log.redis.connect import LogConnection
from tests.support.apps.mounting import Mounted, create_host, every_stream, serve_host
from tests.support.servers.websocket_client import follow_over_websocket, refusal_of
from tests.support.streaming import on_stock_uvicorn


def signed_in(session: Annotated[str, Cookie()] = "") -> str:
    if not session:
        raise HTTPException(401, "sign in first")
    return session


def owns(stream_id: str, request: Request, user: Annotated[str, Depends(signed_in)]) -> bool:
    assert request.method == "GET"
    return user == "ann" and stream_id == "gen_1"


def mounted() -> Mounted:
    found = Mounted(can_watch=owns, websockets=True)
    for name in ("gen_1", "gen_2"):
        found.world.add(name)
        found.world.append(name, TextDelta(id="0", delta="a"), Finish())
    return found


def cookie(user: str, **options: Any) -> dict[str, Any]:
    return {"additional_headers": {"cookie": f"session={user}"}, **options}


async def test_the_guard_of_the_host_decides_with_its_dependencies() -> None:
    async with serve_host(create_host(("/llm", mounted().router))) as client:
        stream = f"{client.base_url}".rstrip("/") + "/llm/v1/streams"
        talk = await follow_over_websocket(f"{stream}/gen_1/ws", **cookie("ann"))
        assert (talk.text, talk.code) == ("a", 1000)
        assert await refusal_of(f"{stream}/gen_1/ws", **cookie("bob")) == (404, "unknown_stream")
        assert await refusal_of(f"{stream}/gen_2/ws", **cookie("ann")) == (404, "unknown_stream")
        assert (await refusal_of(f"{stream}/gen_1/ws"))[0] == 401


@pytest.mark.parametrize(
    ("origin", "host", "is_allowed"),
    [
        ("https://app.example", "app.example", True),
        ("http://app.example:8000", "app.example:8000", True),
        ("https://app.example", "app.example:443", True),
        ("https://listed.example", "app.example", True),
        ("https://evil.example", "app.example", False),
        ("https://app.example.evil.example", "app.example", False),
        ("null", "app.example", False),
    ],
)
async def test_a_page_of_another_host_is_refused_although_the_browser_sends_the_cookie(
    origin: str, host: str, is_allowed: bool
) -> None:
    world = mounted()
    world.changes = {"cors_origins": frozenset({"https://listed.example"})}
    async with serve_host(create_host(("/llm", world.router))) as client:
        url = f"http://{host}/llm/v1/streams/gen_1/ws"
        options = cookie("ann", origin=origin, host="127.0.0.1", port=client.base_url.port)
        if is_allowed:
            assert (await follow_over_websocket(url, **options)).code == 1000
        else:
            assert await refusal_of(url, **options) == (403, "forbidden_origin")


async def test_middleware_for_plain_requests_cannot_be_bypassed_unless_the_host_serves_websockets() -> None:
    world = Mounted(can_watch=every_stream)
    world.world.add("gen_1")
    world.world.append("gen_1", TextDelta(id="0", delta="a"), Finish())
    app = create_host(("/llm", world.router))

    @app.middleware("http")
    async def signed_in_only(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request) if "session" in request.cookies else Response(status_code=401)

    async with serve_host(app) as client:
        stream = f"{client.base_url}".rstrip("/") + "/llm/v1/streams/gen_1"
        assert (await client.get(f"{stream}/events")).status_code == 401
        assert (await refusal_of(f"{stream}/ws"))[0] == 403
        assert (await refusal_of(f"{stream}/ws", **cookie("ann")))[0] == 403
        assert (await client.get(f"{stream}/ws", headers={"cookie": "session=ann"})).status_code == 404


async def test_the_asgi_app_of_the_library_serves_it_over_a_real_log(connection: LogConnection) -> None:
    async with Broadcaster.from_url(connection.url) as broadcaster:
        app = broadcaster.asgi(can_watch=lambda stream_id: True, drain_on_signal=False, websockets=True)
        async with on_stock_uvicorn(app, on_drain=_nothing) as port:
            publication = broadcaster.publish_nowait(["Half ", "of it"])
            await publication.result()
            url = f"http://127.0.0.1:{port}/v1/streams/{publication.id}/ws"
            talk = await follow_over_websocket(url)
            assert (talk.text, talk.code) == ("Half of it", 1000)
            first = talk.entries[0][0]
            rest = await follow_over_websocket(f"{url}?after={first}")
            assert rest.entries == talk.entries[1:]


async def _nothing() -> None:
    return
