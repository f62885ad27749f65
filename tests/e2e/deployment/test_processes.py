"""`broadcaster serve --processes N` as a user runs it: one port, several front-ends, one that keeps them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import pytest

from broadcaster.cli.processes.front_ends import FrontEndProcesses, Supervision
from broadcaster.cli.terminal.exit_codes import CommandFailed
from broadcaster.client import AsyncClient, Generation
from broadcaster.core.backoff import BackOff
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Conversation, ScriptedProvider
from broadcaster.web.server.listener import open_listener
from tests.support.log.log_world import World
from tests.support.servers.processes import Running, Stack, children, until_dead
from tests.support.watching import Seen, viewers_of, watch

DEADLINE_S = 30.0
VIEWERS = 1000
WINDOW_S = 8.0
SOON = BackOff(0.02, 0.05)


async def until_served(house: Running, times: int) -> None:
    """Until so many front-ends have begun to serve since its start."""
    async with asyncio.timeout(DEADLINE_S):
        while house.log.read_text("utf-8").count("front_end_serves") < times:
            await asyncio.sleep(0.02)


async def front_end_counts(connection: LogConnection, stream_id: str) -> dict[str, int]:
    """The viewers that each front-end reports."""
    members = cast(list[bytes], await connection.redis.zrange(connection.keys.viewers(stream_id), 0, -1))
    counted = (member.decode().rpartition(":") for member in members)
    return {name: int(count) for name, _, count in counted if name}


class Watched(NamedTuple):
    """An answer that has begun, at two front-end processes, and viewers of it that read on to its end."""

    conversation: Conversation
    house: Running
    client: AsyncClient
    generation: Generation
    viewers: list[asyncio.Task[Seen]]


@asynccontextmanager
async def watched(
    stack: Stack, scripted: ScriptedProvider, *, count: int = 100, **settings: object
) -> AsyncIterator[Watched]:
    conversation = scripted.conversation("claude-scripted")
    await stack.worker(drain_s=0)
    house = await stack.front_end(processes=2, **settings)
    async with AsyncClient(house.url) as client:
        generation = await client.start("hi")
        await conversation.send_text("first words")
        viewers = await viewers_of(house.url, generation.id, having="first words", count=count)
        yield Watched(conversation, house, client, generation, viewers)


async def test_a_thousand_viewers_spread_over_two_processes_that_count_as_two_front_ends(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    async with watched(stack, scripted, count=VIEWERS, presence_ttl_s=1.5) as begun:
        conversation, _, client, generation, viewers = begun
        async with asyncio.timeout(DEADLINE_S):
            while sum((counts := await front_end_counts(connection, generation.id)).values()) != VIEWERS:
                await asyncio.sleep(0.05)
        feeds = [each for each in await connection.redis.client_list() if int(each["ssub"])]
        assert (await client.get(generation.id)).viewers == VIEWERS
        await conversation.finish()
        seen = await asyncio.gather(*viewers)
    print(f"{VIEWERS} viewers: {sorted(counts.values())}")
    assert len(counts) == 2
    assert all(abs(count - VIEWERS / 2) <= 0.2 * VIEWERS / 2 for count in counts.values())
    assert len(feeds) - 1 == 2  # the worker's, for stops, and one of each front-end
    assert len({tuple(each.entries) for each in seen}) == 1
    assert all('"finish"' in each.entries[-1][1] for each in seen)


@pytest.mark.parametrize("signalled", ["the parent", "all processes, as systemd does by default"])
async def test_sigterm_drains_all_processes_within_the_window(
    stack: Stack, scripted: ScriptedProvider, signalled: str
) -> None:
    async with watched(stack, scripted, drain_window_s=WINDOW_S) as (_, house, _, _, viewers):
        family = children(house.pid)
        assert len(family) == 2
        began = time.monotonic()
        for pid in [house.pid] if signalled == "the parent" else [*family, house.pid]:
            os.kill(pid, signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            assert await house.process.wait() == 0
        took_s = time.monotonic() - began
        await until_dead(family, 20)
        seen = await asyncio.gather(*viewers)
    print(f"SIGTERM → ended: {took_s:.2f} s")
    assert took_s < 2 * WINDOW_S  # one after the other they would take two windows
    assert {each.notices[-1][0] for each in seen} == {"hub.bye"}
    assert "front_end_died" not in house.log.read_text("utf-8")


async def test_a_second_signal_ends_all_processes_at_once(stack: Stack, scripted: ScriptedProvider) -> None:
    async with watched(stack, scripted, drain_window_s=60) as (_, house, _, _, viewers):
        family = children(house.pid)
        house.signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):
            while await is_served(house):
                await asyncio.sleep(0.02)
        house.signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE_S):  # half of the window
            assert await house.process.wait() == 0
        await until_dead(family, 20)
        ends = await asyncio.gather(*viewers, return_exceptions=True)
    assert any(isinstance(each, asyncio.IncompleteReadError | OSError | ValueError) for each in ends)


async def is_served(house: Running) -> bool:
    """Whether one of its processes still accepts connections."""
    parts = urlsplit(house.url)
    try:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_a_parent_that_is_killed_leaves_no_process_that_serves(stack: Stack, scripted: ScriptedProvider) -> None:
    async with watched(stack, scripted) as (_, house, _, _, viewers):
        family = children(house.pid)
        # A third one that is only just beginning.
        os.kill(family[0], signal.SIGKILL)
        async with asyncio.timeout(DEADLINE_S):
            while len(family := [*{*family, *children(house.pid)}]) < 3:
                await asyncio.sleep(0.01)
        house.signal(signal.SIGKILL)
        try:
            await until_dead(family, 30)
        finally:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        ends = await asyncio.gather(*viewers, return_exceptions=True)
    ended_cleanly = [each for each in ends if not isinstance(each, BaseException)]
    assert {each.notices[-1][0] for each in ended_cleanly} == {"hub.bye"}  # of the one that lived
    parts = urlsplit(house.url)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(parts.hostname, parts.port)


async def test_a_start_is_broken_off_by_a_signal(stack: Stack) -> None:
    house = await stack.start("broadcaster", "serve", "--port", "0", "--processes", "2")
    async with asyncio.timeout(DEADLINE_S):
        while len(family := children(house.pid)) < 2:
            await asyncio.sleep(0.01)
        house.signal(signal.SIGTERM)
        assert await house.process.wait() == 0
    await until_dead(family, 20)
    assert "error" not in house.log.read_text("utf-8")


@pytest.mark.parametrize("has_served", [False, True])
async def test_when_none_can_be_started_the_parent_ends(stack: Stack, has_served: bool) -> None:
    """Each is killed before it can serve."""
    if has_served:
        house = await stack.front_end(processes=2)
    else:
        house = await stack.start("broadcaster", "serve", "--port", "0", "--processes", "2")
    killed: set[int] = set()
    async with asyncio.timeout(DEADLINE_S):
        while house.process.returncode is None:
            for pid in {*children(house.pid)} - killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            await asyncio.sleep(0.01)
    logged = house.log.read_text("utf-8")
    assert house.process.returncode == 1
    assert "error: a front-end process ended at its start, 3 times in a row (SIGKILL)" in logged
    assert ("listening" in logged) is has_served
    assert 5 <= len(killed) - 2 * has_served <= 6


async def test_a_port_that_is_taken_is_reported_once(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        house = await stack.start("broadcaster", "serve", "--port", str(port), "--processes", "2")
        async with asyncio.timeout(DEADLINE_S):
            assert await house.process.wait() == 2
    (line,) = house.log.read_text("utf-8").strip().split("\n")
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port} ")


async def test_front_ends_listen_on_the_address_of_the_option_and_not_on_that_of_the_environment(stack: Stack) -> None:
    house = await stack.start(
        *("broadcaster", "serve", "--host", "127.0.0.1", "--port", "0", "--processes", "2"),
        environment={"BROADCASTER_HOST": "127.0.0.2", "BROADCASTER_AUTH": "keys"},
    )
    port = urlsplit((await house.logged("listening on http")).partition("listening on ")[2]).port
    assert port is not None
    async with asyncio.timeout(DEADLINE_S):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.2", port)


@asynccontextmanager
async def kept(
    connection: LogConnection, listener: socket.socket, supervision: Supervision, *, spreads: bool
) -> AsyncIterator[FrontEndProcesses]:
    """Two front-ends below this process."""
    house = FrontEndProcesses(
        2,
        listener,
        environment={"BROADCASTER_REDIS_URL": connection.url},
        drain_s=1,
        supervision=supervision,
        spreads=spreads,
    )
    serving = asyncio.create_task(house.serve())
    try:
        yield house
    finally:
        house.request_stop()
        await asyncio.gather(serving, return_exceptions=True)


async def until_answering(house: FrontEndProcesses) -> None:
    """Until a stream can be watched, even if an unknown one."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                if (await watch(f"http://127.0.0.1:{house.port}", "gen_nobody", timeout_s=2)).status == 404:
                    return
            except (OSError, EOFError, TimeoutError):
                await asyncio.sleep(0.02)


def front_ends() -> set[int]:
    """Those below this process."""
    return {pid for pid in children(os.getpid()) if b"broadcaster.cli.processes.front_end" in cmdline(pid)}


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has ended meanwhile
        return b""


@pytest.mark.parametrize("spreads", [True, False], ids=["a socket each", "one socket for all"])
async def test_a_front_end_that_hangs_or_cannot_start_for_a_while_is_restarted_beside_the_other(
    connection: LogConnection, spreads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("broadcaster_port", "1")  # names of settings know no case, and the parent's value counts
    patience = Supervision(beat_s=0.2, max_missed_beats=15, max_start_beats=150, pauses=SOON, end_spare_s=0.5)
    with open_listener("127.0.0.1", 0) as listener:
        async with kept(connection, listener, patience, spreads=spreads) as house, asyncio.timeout(DEADLINE_S):
            await house.until_started()
            hanging, other = front_ends()
            os.kill(hanging, signal.SIGSTOP)
            await until_dead([hanging], 10)
            for _ in range(patience.tries + 1):
                while not (begun := front_ends() - {other, hanging}):
                    await asyncio.sleep(0.01)
                for pid in begun:
                    os.kill(pid, signal.SIGKILL)
                await until_dead([*begun], 5)
            while len(front_ends()) < 2:
                await asyncio.sleep(0.02)
            await until_answering(house)
            assert other in front_ends()
            os.kill(other, signal.SIGSTOP)  # it cannot end by itself either
        assert not front_ends()


async def test_a_front_end_that_hangs_before_it_serves_is_a_failed_start(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(60)")
    impatient = Supervision(beat_s=0.02, max_start_beats=5, tries=2, pauses=SOON)
    with open_listener("127.0.0.1", 0) as listener:
        environment = {"PYTHONPATH": str(tmp_path)}
        house = FrontEndProcesses(1, listener, environment=environment, drain_s=0.1, supervision=impatient)
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(CommandFailed, match=r"2 times in a row \(SIGKILL\)"):
                await house.serve()


async def test_front_ends_that_have_not_started_end_with_their_parent_at_once(
    connection: LogConnection, tmp_path: Path
) -> None:
    """Their imports take a minute; the parent waits ten times the deadline before it kills them."""
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(60)")
    environment = {"BROADCASTER_REDIS_URL": connection.url, "PYTHONPATH": str(tmp_path)}
    patience = Supervision(end_spare_s=10 * DEADLINE_S)
    with open_listener("127.0.0.1", 0) as listener:
        house = FrontEndProcesses(2, listener, environment=environment, drain_s=1, supervision=patience)
        serving = asyncio.create_task(house.serve())
        async with asyncio.timeout(DEADLINE_S):
            while len(front_ends()) < 2:
                await asyncio.sleep(0.01)
            house.request_stop()
            await serving
    assert not front_ends()


def viewing(port: int, stream_id: str) -> socket.socket:
    """A viewer at the stream's live end, without a turn of this process's event loop."""
    request = f"GET /v1/streams/{stream_id}/events HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            viewer = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
            viewer.sendall(request)
            received = b""
            while b"hub.live" not in received:
                received += (more := viewer.recv(2**16))
                assert more, received
            return viewer
        time.sleep(0.02)
    raise TimeoutError("the front-end does not serve")


async def test_a_front_end_that_has_served_for_a_moment_drains_when_its_supervisor_signals_it_and_its_parent(
    connection: LogConnection,
) -> None:
    """The parent has not read yet that it serves."""
    request = GenerationRequest(model="m", request={"messages": []})
    stream_id = (await World(connection).generations.create(request, tenant=LOCAL_TENANT)).id
    environment = {"BROADCASTER_REDIS_URL": connection.url, "BROADCASTER_DRAIN_WINDOW_S": "3"}
    with open_listener("127.0.0.1", 0) as listener:
        house = FrontEndProcesses(1, listener, environment=environment, drain_s=3)
        serving = asyncio.create_task(house.serve())
        async with asyncio.timeout(DEADLINE_S):
            while not (pids := front_ends()):
                await asyncio.sleep(0.01)
            viewers = [viewing(house.port, stream_id) for _ in range(3)]
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
            select.select(viewers, [], [], DEADLINE_S)  # the first of them is sent away: the drain has begun
            house.request_stop()
            await serving
    for viewer in viewers:
        assert b"hub.bye" in viewer.recv(2**16)
        viewer.close()


async def test_a_port_that_front_ends_cannot_listen_on_is_reported_by_the_parent(connection: LogConnection) -> None:
    """Another process begins to listen on the port before they do."""
    with open_listener("127.0.0.1", 0) as listener, open_listener(*listener.getsockname()) as robber:
        robber.listen()
        house = FrontEndProcesses(2, listener, environment={"BROADCASTER_REDIS_URL": connection.url}, drain_s=1)
        with pytest.raises(CommandFailed, match=r"cannot listen on 127\.0\.0\.1") as counted:
            await house.serve()
    assert counted.value.code == 2
    assert not front_ends()
