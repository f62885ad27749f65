"""A new connection's first request: a plain viewer's is answered at once; whatever else comes is served as ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from broadcaster.core.events import Finish, TextDelta
from broadcaster.hub.flusher import ARRIVALS_A_TURN
from broadcaster.web.server.connections import ConnectionLimits
from broadcaster.web.server.first_request import FirstRequestProtocol, WouldWait, run_at_once
from broadcaster.web.server.http_protocol import FrontEndProtocol
from broadcaster.web.services import Services
from broadcaster.web.viewing.direct import Admitted, PlainRequest
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.first_requests import ENDED, LIVE, Clients, HeldLookUps, Noting, get, serving
from tests.support.servers.front_end import DEADLINE_S, own_app, until_watched

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def world() -> MemoryWorld:
    world = MemoryWorld()
    world.add("run")
    world.append("run", TextDelta(id="0", delta="a"))
    return world


@pytest.fixture
async def clients(services: Services) -> AsyncIterator[Clients]:
    async with serving(own_app(services), services) as opened:
        yield opened


async def test_no_viewer_of_a_stream_needs_the_app_not_even_the_first(clients: Clients) -> None:
    await clients.follow()
    for _ in range(2):
        await (await clients.connect(get("run"))).until(LIVE)
    assert clients.direct.joined == [True, True]
    assert not clients.server._arrivals._heads, "a viewer's head is not due"


async def test_viewers_that_come_before_their_stream_is_found_share_its_look_up(
    clients: Clients, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_ups = HeldLookUps(services, monkeypatch)
    crowd = [await clients.connect(get("run")) for _ in range(5)]
    await clients.direct.until_joining(len(crowd))
    crowd.pop().writer.transport.abort()
    await clients.direct.until_joining(len(crowd))
    look_ups.go_on()
    for each in crowd:
        await each.until(LIVE)
    assert clients.direct.joined == [True] * len(crowd)
    assert look_ups.ids == ["run"]
    assert services.hub.admission._taken == len(crowd)


async def test_a_turn_that_seemed_free_is_waited_for(
    clients: Clients, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clients.follow()
    gate = services.hub._flusher.turns.arrivals
    monkeypatch.setattr(Noting, "admits_at_once", lambda self, request: True)
    for _ in range(ARRIVALS_A_TURN):
        await gate.enter()
    await (await clients.connect(get("run"))).until(LIVE)
    crowd = [await clients.connect() for _ in range(2 * ARRIVALS_A_TURN)]
    for each in crowd:
        each.writer.write(get("run"))
    for each in crowd:
        await each.until(LIVE)
    assert set(clients.direct.joined) == {True}
    await until_watched(services, "run", len(crowd) + 2)
    assert services.hub.admission._taken == len(crowd) + 2


async def test_a_stream_whose_end_has_not_come_here_yet_is_read_before_each_viewer(
    clients: Clients, services: Services, world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its meta says that it is over: whether the log still holds it must be read."""
    world.streams["run"].meta = replace(world.streams["run"].meta, status="finished")
    read, tails = list[Any](), services.streams.tails

    async def noted(ids: Any) -> Any:
        read.append(ids)
        return await tails(ids)

    monkeypatch.setattr(services.streams, "tails", noted)
    await clients.follow()
    await (await clients.connect(get("run"))).until(LIVE)
    assert clients.direct.joined == [True]
    assert read == [["run"], ["run"]]


@pytest.mark.parametrize("cut", [1, 20, -1])
async def test_a_request_in_two_pieces_is_answered_by_the_app(clients: Clients, cut: int) -> None:
    await clients.follow()
    connection = await clients.connect(get("run")[:cut])
    async with asyncio.timeout(DEADLINE_S):
        while not any(isinstance(each, FrontEndProtocol) for each in clients.server.server_state.connections):
            await asyncio.sleep(0.001)
    connection.writer.write(get("run")[cut:])
    await connection.until(LIVE)
    assert clients.direct.joined == []


@pytest.mark.parametrize("cut", [0, 3, 10, len(HEALTH)])
async def test_what_comes_in_one_piece_with_a_request_is_answered_too(
    clients: Clients, world: MemoryWorld, cut: int
) -> None:
    await clients.follow()
    connection = await clients.connect(get("run") + HEALTH[:cut])
    await connection.until(LIVE)
    world.append("run", Finish())
    await connection.until(ENDED)
    connection.writer.write(HEALTH[cut:])
    await connection.until(b'"ok"}')
    assert clients.direct.joined == ([] if cut else [True])


async def test_the_connection_of_a_viewer_that_is_over_serves_further_requests(
    clients: Clients, world: MemoryWorld
) -> None:
    await clients.follow()
    connection = await clients.connect(get("run"))
    await connection.until(LIVE)
    world.append("run", Finish())
    await connection.until(ENDED)
    for _ in range(2):
        connection.writer.write(HEALTH)
        await connection.until(b'"ok"}')
    assert clients.direct.joined == [True]


async def test_the_connection_ends_behind_a_viewer_whose_request_wants_that(
    clients: Clients, world: MemoryWorld
) -> None:
    await clients.follow()
    connection = await clients.connect(get("run", b"Connection: close"))
    head = await connection.until(LIVE)
    assert b"\r\nconnection: close\r\n" in head
    world.append("run", Finish())
    assert (await connection.to_the_end()).endswith(ENDED)
    assert clients.direct.joined == [True]


@pytest.mark.parametrize("admits", [True, False])
async def test_a_request_that_came_while_its_viewer_waited_is_answered_afterwards(
    clients: Clients, world: MemoryWorld, admits: bool
) -> None:
    await clients.follow()
    clients.direct.may_join.clear()
    clients.direct.admits = admits
    connection = await clients.connect(get("run"))
    await clients.direct.until_joining()
    (waiting,) = (each for each in clients.server.server_state.connections if isinstance(each, FirstRequestProtocol))
    for sent, received in ((HEALTH[:10], HEALTH[:10]), (HEALTH[10:], HEALTH)):
        connection.writer.write(sent)
        async with asyncio.timeout(DEADLINE_S):
            while waiting._received != received:
                await asyncio.sleep(0.001)
    clients.direct.may_join.set()
    await connection.until(LIVE)
    world.append("run", Finish())
    await connection.until(ENDED)
    await connection.until(b'"ok"}')
    assert clients.direct.joined == [admits]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("run", version=b"1.0"), 200),
        (get("run", b"Expect: 100-continue"), 200),
        (get("run", b"Content-Length: 0"), 200),
        (get("run", b"Upgrade: websocket", b"Sec-WebSocket-Key: x"), 426),
        (get("run", b"X-Large: " + b"x" * 9000), 200),
        (get("run", b"Origin: http://localhost:9"), 200),
        (get("run", b"Host: localhost"), 403),
        (get("run").replace(b"localhost", b"evil.example"), 403),
        (get("run", b"Sec-Fetch-Site: cross-site"), 403),
        (get("run", b"broken"), 400),
        (get("run").replace(b"GET", b"HEAD"), 405),
        (get("run").replace(b"events HTTP", b"events?dialect=native#x HTTP"), 200),
        (get("run").replace(b"/events", b"/events/"), 404),
        (get("run").replace(b"/v1", b"http://localhost/v1"), 200),
    ],
)
async def test_a_request_that_is_not_plain_is_answered_by_the_app(
    clients: Clients, request_: bytes, status: int
) -> None:
    await clients.follow()
    head = await (await clients.connect(request_)).until(b"\r\n")
    assert int(head.split()[1]) == status
    assert clients.direct.joined == []


async def test_a_crowd_larger_than_one_turn_admits_is_admitted_whole(clients: Clients, services: Services) -> None:
    await clients.follow()
    crowd = [await clients.connect() for _ in range(4 * ARRIVALS_A_TURN)]
    for each in crowd:
        each.writer.write(get("run"))
    for each in crowd:
        await each.until(LIVE)
    await until_watched(services, "run", len(crowd) + 1)
    assert set(clients.direct.joined) == {True}


async def test_a_client_that_leaves_while_it_waits_leaves_no_viewer_and_no_place(
    clients: Clients, services: Services
) -> None:
    await clients.follow()
    clients.direct.may_join.clear()
    connection = await clients.connect(get("run"))
    await clients.direct.until_joining()
    connection.writer.transport.abort()
    await clients.direct.until_joining(0)
    assert clients.direct.joined == []
    assert services.hub.admission._taken == 1


async def test_a_client_that_left_as_its_viewer_was_made_leaves_no_viewer(
    clients: Clients, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clients.follow()
    connection = await clients.connect()
    join = clients.direct.join

    async def late(request: PlainRequest) -> Admitted | None:
        await asyncio.sleep(0)
        admitted = await join(request)
        (protocol,) = (each for each in clients.server.server_state.connections if hasattr(each, "give_up"))
        protocol.transport.abort()
        return admitted

    monkeypatch.setattr(clients.direct, "join", late)
    connection.writer.write(get("run"))
    assert await connection.to_the_end() == b""
    await until_watched(services, "run", 1)
    assert services.hub.admission._taken == 1


async def test_a_viewer_that_waits_at_the_servers_end_is_cut_so_that_it_comes_back(services: Services) -> None:
    async with serving(own_app(services), services) as clients:
        await clients.follow()
        clients.direct.may_join.clear()
        waiting, silent = await clients.connect(get("run")), await clients.connect()
        await clients.direct.until_joining()
        clients.server.request_stop()
        assert await waiting.to_the_end() == b""
        assert await silent.to_the_end() == b""


async def test_a_connection_too_many_is_refused_before_its_request(services: Services) -> None:
    async with serving(own_app(services), services, ConnectionLimits(max_connections=2)) as clients:
        for _ in range(2):
            await (await clients.connect(get("run"))).until(LIVE)
        answer = await (await clients.connect(get("run"))).to_the_end()
        assert b" 503 " in answer.partition(b"\r\n")[0]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "busy"


async def test_a_head_is_due_from_the_connections_beginning_whichever_protocol_reads_it(services: Services) -> None:
    """Its first byte, which comes late, brings no new time."""
    limits = ConnectionLimits(head_timeout_s=3, sweep_s=3600)
    async with serving(own_app(services), services, limits) as clients:
        silent, late = await clients.connect(), await clients.connect()
        arrivals = clients.server._arrivals
        async with asyncio.timeout(DEADLINE_S):
            while len(arrivals._heads) < 2:
                await asyncio.sleep(0.001)
        due = [due for due, _ in arrivals._heads.values()]
        arrivals.sweep(0)
        late.writer.write(b"GET /v1/stre")
        async with asyncio.timeout(DEADLINE_S):
            while len({type(each) for _, each in arrivals._heads.values()}) < 2:
                await asyncio.sleep(0.001)
        assert [due for due, _ in arrivals._heads.values()] == due
        arrivals.sweep(0)
        assert await silent.to_the_end() == b""
        assert b" 408 " in (await late.to_the_end()).partition(b"\r\n")[0]


async def test_a_defect_is_logged_and_is_the_apps_500(
    clients: Clients, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr("structlog.is_configured", lambda: True)
    await clients.follow()
    monkeypatch.setattr(services.hub, "reserve", fail)
    with capture_logs() as logged:
        answer = await (await clients.connect(get("run"))).until(b"\r\n")
    assert b" 500 " in answer
    assert [line["event"] for line in logged][:1] == ["direct_viewer_crashed"]


async def test_a_coroutine_that_waits_is_not_run_at_once() -> None:
    with pytest.raises(WouldWait):
        run_at_once(asyncio.sleep(0))
