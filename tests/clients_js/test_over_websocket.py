"""The JavaScript client over WebSockets: by choice, and by itself where the network holds server-sent events back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from broadcaster.core.events import Finish, TextDelta
from broadcaster.hub.limits import HubLimits
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from tests.clients_js.conftest import FrontEnd
from tests.clients_js.test_in_a_page import bundle
from tests.compat.node_clients import Driver
from tests.support.access import token_kit as kit
from tests.support.apps.mounting import Mounted, create_host, every_stream, serve_host
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.browser import open_tabs
from tests.support.servers.front_end import served
from tests.support.servers.relay import Cut, Link, Relay, opened

ID = "gen_1"
# A connection that brings nothing for so long is of no use to these tests.
IDLE_MS = 1500
# React Native has a `URL` whose parts cannot be changed.
NO_SETTER = "() => { throw new TypeError('protocol has only a getter') }"


class Holding(Relay):
    """A network that holds the body of server-sent events back, and their heads too where ``holds_head``.

    A handshake of a WebSocket, or the response to one, can be swallowed; ``carries_websockets`` False: it is cut.
    """

    scheme = "http"

    def __init__(
        self, target: str, *, holds_head: bool = False, carries_websockets: bool = True, swallows: str = ""
    ) -> None:
        super().__init__(target)
        self.holds = True
        self.holds_head = holds_head
        self.carries_websockets = carries_websockets
        self.swallows = swallows
        self.held = 0
        self.requests: list[str] = []

    @property
    def handshakes(self) -> int:
        return self.requests.count("websocket")

    async def on_request(self, link: Link, data: bytes) -> bytes:
        if b"upgrade: websocket" in data.lower():
            self.requests.append("websocket")
            if not self.carries_websockets:
                raise Cut
            if self.swallows == "handshake":
                await asyncio.Event().wait()
        elif data.startswith(b"GET "):
            self.requests.append("sse")
        return data

    async def on_response(self, link: Link, data: bytes) -> bytes:
        head, separator, _ = data.partition(b"\r\n\r\n")
        if self.holds and b"text/event-stream" in head:
            self.held += 1
            if not self.holds_head:
                link.client.write(head + separator)
            await asyncio.Event().wait()
        if self.swallows == "messages" and b"upgrade: websocket" in head.lower():
            link.client.write(head + separator)
            await asyncio.Event().wait()
        return data


@asynccontextmanager
async def behind(front_end: FrontEnd, **options: Any) -> AsyncIterator[Holding]:
    async with opened(Holding(front_end.url, **options)) as relay:
        yield relay


async def follow(driver: Driver, url: str, **options: Any) -> dict[str, Any]:
    return await driver.request("follow", url=f"{url}/v1/streams/{ID}/events", **options)


def begin(world: MemoryWorld, *, is_over: bool = True) -> None:
    world.add(ID)
    world.append(ID, *(TextDelta(id="0", delta=f"{number} \u2028") for number in range(50)))
    if is_over:
        world.append(ID, Finish())


def cursors(result: dict[str, Any]) -> list[str]:
    return [update["cursor"] for update in result["updates"] if update["kind"] == "entry"]


async def test_both_transports_give_the_same(front_end: FrontEnd, ws_driver: Driver) -> None:
    begin(front_end.world)
    results = [await follow(ws_driver, front_end.url, transport=transport) for transport in ("ws", "sse")]
    for result in results:
        assert cursors(result) == [f"7-{seq}" for seq in range(1, 52)]
        assert (result["failure"], result["isOver"], result["connection"]) == (None, True, "ended")
    assert results[0]["state"] == results[1]["state"]
    kinds = [[(update["kind"], update.get("name")) for update in result["updates"]] for result in results]
    assert kinds[0] == kinds[1]


async def test_where_no_websocket_can_be_created_events_are_read_as_slowly_as_they_come(
    front_end: FrontEnd, ws_driver: Driver
) -> None:
    begin(front_end.world)
    async with behind(front_end) as relay:
        following = asyncio.create_task(
            follow(ws_driver, relay.url, idleTimeoutMs=IDLE_MS, isWebSocketBroken=True, abort_ms=20_000)
        )
        async with asyncio.timeout(20):
            while relay.held < 2:
                await asyncio.sleep(0.02)
        relay.holds = False
        result = await following
    assert cursors(result) == [f"7-{seq}" for seq in range(1, 52)]


async def test_a_websocket_that_breaks_is_resumed_after_its_last_entry(front_end: FrontEnd, ws_driver: Driver) -> None:
    begin(front_end.world, is_over=False)
    async with behind(front_end) as relay:
        following = asyncio.create_task(follow(ws_driver, relay.url, transport="ws"))
        await front_end.until_watched(ID)
        relay.cut()
        await front_end.until_watched(ID, viewers=0)
        front_end.world.append(ID, TextDelta(id="0", delta="after"), Finish())
        result = await following
        assert relay.handshakes == 2
    assert cursors(result) == [f"7-{seq}" for seq in range(1, 53)]
    assert result["state"]["text"].endswith("after")
    after_end = await follow(ws_driver, front_end.url, transport="ws", after="7-52")
    assert (after_end["updates"], after_end["isOver"]) == ([], True)


@pytest.mark.parametrize("holds_head", [False, True], ids=["body", "head"])
async def test_where_events_are_held_back_a_websocket_brings_them_and_is_remembered(
    front_end: FrontEnd, ws_driver: Driver, holds_head: bool
) -> None:
    begin(front_end.world)
    async with behind(front_end, holds_head=holds_head) as relay:
        first = await follow(ws_driver, relay.url, idleTimeoutMs=IDLE_MS)
        assert cursors(first) == [f"7-{seq}" for seq in range(1, 52)]
        assert first["failure"] is None
        assert (relay.held, relay.handshakes) == (1, 1)
        second = await follow(ws_driver, relay.url, idleTimeoutMs=IDLE_MS)
        assert cursors(second) == cursors(first)
        assert (relay.held, relay.handshakes) == (1, 2)


async def test_sse_alone_never_opens_a_websocket(front_end: FrontEnd, ws_driver: Driver) -> None:
    begin(front_end.world)
    async with behind(front_end) as relay:
        following = asyncio.create_task(follow(ws_driver, relay.url, transport="sse", idleTimeoutMs=200))
        async with asyncio.timeout(20):
            while relay.held < 3:
                await asyncio.sleep(0.01)
        assert relay.handshakes == 0
        following.cancel()


async def test_where_no_websocket_can_be_opened_the_next_connection_is_sse(
    front_end: FrontEnd, ws_driver: Driver
) -> None:
    begin(front_end.world)
    async with behind(front_end, carries_websockets=False) as relay:
        following = asyncio.create_task(follow(ws_driver, relay.url, idleTimeoutMs=500))
        async with asyncio.timeout(20):
            while not relay.handshakes:
                await asyncio.sleep(0.01)
        relay.holds = False
        result = await following
    assert cursors(result) == [f"7-{seq}" for seq in range(1, 52)]
    assert relay.handshakes == 1


@pytest.mark.parametrize("swallows", ["handshake", "messages"])
async def test_where_a_websocket_brings_nothing_events_are_read_over_sse_and_that_is_remembered(
    front_end: FrontEnd, ws_driver: Driver, swallows: str
) -> None:
    begin(front_end.world)
    async with behind(front_end, swallows=swallows) as relay:
        following = asyncio.create_task(follow(ws_driver, relay.url, idleTimeoutMs=IDLE_MS))
        async with asyncio.timeout(20):
            while not relay.handshakes:
                await asyncio.sleep(0.01)
        relay.holds = False
        results = [await following, await follow(ws_driver, relay.url, idleTimeoutMs=IDLE_MS)]
        assert relay.handshakes == 1
    assert [cursors(result) for result in results] == [[f"7-{seq}" for seq in range(1, 52)]] * 2
    # The first of them met the network, and has left a WebSocket without another pause.
    names = [[update.get("name") for update in result["updates"]] for result in results]
    assert [each.count("reconnecting") for each in names] == [1, 0]


async def test_a_server_without_the_path_is_read_over_sse(ws_driver: Driver) -> None:
    host = Mounted(can_watch=every_stream)
    begin(host.world)
    async with serve_host(create_host(("", host.router))) as client:
        async with opened(Holding(f"{client.base_url}".rstrip("/"))) as relay:
            following = asyncio.create_task(follow(ws_driver, relay.url, idleTimeoutMs=500))
            async with asyncio.timeout(20):
                while not relay.handshakes:
                    await asyncio.sleep(0.01)
            relay.holds = False
            result = await following
    assert (cursors(result), result["failure"]) == ([f"7-{seq}" for seq in range(1, 52)], None)


class WithoutRefusals:
    """A layer: the server that an app sees cannot refuse a handshake with a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions = {**scope.get("extensions", {})}
        extensions.pop("websocket.http.response", None)
        await self._app({**scope, "extensions": extensions}, receive, send)


@asynccontextmanager
async def keyed(world: MemoryWorld, *, can_refuse: bool) -> AsyncIterator[str]:
    """A front-end with tokens; the URL."""
    settings = {"auth": "keys", "api_keys": json.dumps({"web": ["web-key-0123456789"]}), "token_keys": kit.TOKEN_KEYS}
    async with memory_services(world, limits=HubLimits(retry_ms=100)) as services:
        app = create_app(Settings.model_validate(settings), services=services)
        if not can_refuse:
            app.add_middleware(WithoutRefusals)
        async with served(app, services) as client:
            yield f"{client.base_url}".rstrip("/")


def token(*, seconds: float) -> str:
    claims = kit.own_claims(time.time() - 1200, exp=time.time() + seconds)
    return jwt.encode(claims, kit.SECRET, "HS256", headers={"kid": "new"})


@pytest.mark.parametrize("can_refuse", [True, False], ids=["by a problem", "by a close code"])
async def test_a_token_that_is_refused_is_replaced_and_one_that_is_refused_twice_ends_the_watch(
    ws_driver: Driver, can_refuse: bool
) -> None:
    world = MemoryWorld()
    world.add(ID, tenant="web")
    world.append(ID, Finish())
    old, new = token(seconds=-600), token(seconds=600)
    async with keyed(world, can_refuse=can_refuse) as url:
        result = await follow(ws_driver, url, transport="ws", tokens=[old, new])
        assert (result["tokens"], result["failure"], result["isOver"]) == ([old, new], None, True)
        refused = await follow(ws_driver, url, transport="ws", tokens=[old])
        assert (refused["failure"]["code"], refused["failure"]["status"]) == ("token_expired", 401)
        unknown = await ws_driver.request("follow", url=f"{url}/v1/streams/gen_9/events", transport="ws", token=new)
        assert (unknown["failure"]["code"], unknown["failure"]["status"]) == ("unknown_stream", 404)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"transport": "websocket"}, 'write "auto", "sse" or "ws"'),
        ({"transport": "ws", "token": "an-api-key"}, "needs a viewer token"),
        ({"transport": "ws", "url": "/v1/streams/gen_1/own"}, "must end with /events"),
    ],
)
async def test_what_cannot_go_over_a_websocket_is_an_error_that_names_the_remedy(
    front_end: FrontEnd, ws_driver: Driver, options: dict[str, Any], part: str
) -> None:
    url = front_end.url + options.pop("url", f"/v1/streams/{ID}/events")
    result = await ws_driver.request("follow", url=url, **options)
    assert result["failure"]["code"] == "invalid_option"
    assert part in result["failure"]["message"]


async def test_without_a_websocket_of_its_own_a_runtime_gets_an_error(front_end: FrontEnd, driver: Driver) -> None:
    result = await follow(driver, front_end.url, transport="ws")
    if result["failure"]["code"] == "unknown_stream":
        pytest.skip("this runtime has a WebSocket")
    assert result["failure"]["code"] == "invalid_option"
    assert "from version 22" in result["failure"]["message"]


async def test_a_page_behind_a_network_that_holds_events_back_reads_over_a_websocket(front_end: FrontEnd) -> None:
    begin(front_end.world, is_over=False)
    script = await bundle()
    async with behind(front_end) as relay, open_tabs() as tabs:
        # A document of the server's own: a browser keeps one that a test makes up from sockets of this machine.
        page = (await tabs.open(f"{relay.url}/healthz")).page
        server = relay.url.removeprefix("http:")
        await page.add_script_tag(content=script)
        await page.evaluate(f"Object.defineProperty(URL.prototype, 'protocol', {{ set: {NO_SETTER} }})")
        following = asyncio.create_task(
            page.evaluate(f"follow('{ID}', {{ server: '{server}', idleTimeoutMs: {IDLE_MS} }})")
        )
        async with asyncio.timeout(20):
            while not relay.handshakes:
                await asyncio.sleep(0.01)
        await front_end.until_watched(ID)
        front_end.world.append(ID, TextDelta(id="0", delta="end"), Finish())
        async with asyncio.timeout(20):
            result = await following
    assert result["text"].endswith("49 \u2028end")
    assert result["names"][:2] == ["catching-up", "reconnecting"]
    assert (relay.held, relay.handshakes) == (1, 1)
