"""Front-ends killed, replaced, frozen and cut off under load, behind a balancer that sees connections and no HTTP."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from broadcaster.client import AsyncClient, EntryReceived
from broadcaster.core.events import TextDelta
from tests.faults.figures import Figures
from tests.faults.front_ends.crowd import DEADLINE_S, Crowd, open_crowd
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.history import OK, Closed, History, Opened
from tests.faults.world import FaultWorld, open_world
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.haproxy import Balancer, open_haproxy
from tests.support.servers.processes import Running
from tests.support.servers.redis_relay import open_redis_relay

STREAMS: Final = 4
VIEWERS: Final = 120
READERS: Final = 4
HEARTBEAT_S: Final = 1.0
# A balancer checks every half second, waits a second for the response, and believes the fourth failure.
FROZEN_S: Final = 10.0
BACK_S: Final = 10.0  # starting a front-end takes seconds where other tests run beside
NOTICE_S: Final = 10.0


@asynccontextmanager
async def open_house(folder: Path, server: ValkeyServer) -> AsyncIterator[House]:
    """A worker, two front-ends and the balancer before them, at which all viewers come."""
    async with open_world(folder, redis=server, heartbeat_s=HEARTBEAT_S) as world:
        await world.worker()
        front_ends = [await world.front_end(), await world.front_end()]
        async with open_haproxy(folder / "haproxy", world.urls) as balancer:
            world.urls[:] = [balancer.url]
            yield House(world, front_ends, balancer)


@dataclass
class House:
    """See ``open_house``."""

    world: FaultWorld
    front_ends: list[Running]
    balancer: Balancer

    async def restart(self, number: int) -> None:
        """Another front-end in the place of one that is gone; the balancer sends viewers to it."""
        gone = self.front_ends[number]
        self.front_ends[number] = await self.world.stack.front_end(port=urlsplit(gone.url).port)
        await self.balancer.until_all_are_up()


def statuses(history: History) -> set[int]:
    """Every status that a viewer was answered with."""
    traces = history.viewers.values()
    return {each.status for trace in traces for each in trace.happenings if isinstance(each, Opened)}


async def test_viewers_have_the_whole_answer_though_front_ends_are_killed_in_turn_and_at_last_together(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    async with open_house(tmp_path, server) as house:
        async with open_crowd(house.world, streams=STREAMS, viewers=VIEWERS) as crowd:
            for turn in range(rounds):
                aftermath = await crowd.cause(house.front_ends[turn % 2].kill())
                assert set(aftermath.closings) == {"torn"}
                for back_s in aftermath.back_s:
                    figures.add("front-end killed → next entry", back_s, "s")
                assert max(aftermath.back_s) < BACK_S
                await house.restart(turn % 2)
            await kill_both(house, crowd)
        history = await house.world.check()
    assert statuses(history) == {OK}
    assert all(len(trace.happenings) for trace in history.viewers.values())
    print(f"{VIEWERS} viewers, {sum(viewer.connections for viewer in crowd.viewers)} connections, {crowd.sent} words")


async def kill_both(house: House, crowd: Crowd) -> None:
    """For a while the balancer has no front-end to send a viewer to."""

    async def fault() -> None:
        await asyncio.gather(*(each.kill() for each in house.front_ends))
        refused = [viewer.refused for viewer in crowd.viewers]
        async with asyncio.timeout(DEADLINE_S):
            while not all(now.refused > was for now, was in zip(crowd.viewers, refused, strict=True)):
                await asyncio.sleep(0.01)
        await asyncio.gather(*(house.restart(number) for number in range(2)))

    aftermath = await crowd.cause(fault())
    assert len(aftermath.back_s) == len(crowd.viewers)


async def test_front_ends_are_replaced_one_after_the_other_and_no_viewer_s_answer_is_torn(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    async with open_house(tmp_path, server) as house:
        async with open_crowd(house.world, streams=STREAMS, viewers=VIEWERS) as crowd:
            for turn in range(rounds):
                aftermath = await crowd.cause(ended(house.front_ends[turn % 2]))
                assert set(aftermath.closings) == {"clean"}
                for back_s in aftermath.back_s:
                    figures.add("front-end ended → next entry", back_s, "s")
                assert max(aftermath.back_s) < BACK_S
                await house.restart(turn % 2)
        history = await house.world.check()
    assert statuses(history) == {OK}
    assert Closed("torn") not in [each for trace in history.viewers.values() for each in trace.happenings]


async def ended(front_end: Running) -> None:
    """SIGTERM, and it leaves well."""
    front_end.signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        assert await front_end.process.wait() == 0


async def test_viewers_of_a_front_end_that_hangs_are_cut_off_by_the_balancer_and_go_on_at_the_other(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    cut_off = 0
    async with open_house(tmp_path, server) as house:
        async with open_crowd(house.world, streams=STREAMS, viewers=VIEWERS) as crowd:
            for turn in range(rounds):
                frozen = house.front_ends[turn % 2]
                aftermath = await crowd.cause(signalled(frozen, signal.SIGSTOP))
                cut_off += bool(aftermath.back_s)  # on a busy machine its viewers may have been taken away before
                for back_s in aftermath.back_s:
                    figures.add("front-end frozen → next entry", back_s, "s")
                assert max(aftermath.back_s, default=0) < FROZEN_S
                await signalled(frozen, signal.SIGCONT)
                await until_ready(frozen)
                await house.balancer.until_all_are_up()
        history = await house.world.check()
    assert cut_off > 0
    assert statuses(history) == {OK}


async def signalled(front_end: Running, number: signal.Signals) -> None:
    front_end.signal(number)


async def until_ready(front_end: Running) -> None:
    """Until it answers that requests may be sent to it."""
    parts = urlsplit(front_end.url)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(f"GET /readyz HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
            status = (await reader.readuntil(b"\r\n")).split(b" ")[1]
            writer.transport.abort()
            if status == b"200":
                return


async def test_our_client_notices_by_itself_that_its_front_end_is_silent_and_goes_on_at_the_other(
    tmp_path: Path, server: ValkeyServer, figures: Figures
) -> None:
    """The balancer leaves open connections alone here: silence longer than a heartbeat must be enough."""
    async with open_world(tmp_path, redis=server, heartbeat_s=HEARTBEAT_S) as world:
        await world.worker()
        frozen, _ = await world.front_end(), await world.front_end()
        async with (
            open_haproxy(tmp_path / "haproxy", world.urls, cuts_off_hanging=False) as balancer,
            AsyncClient(balancer.url, idle_timeout_s=2 * HEARTBEAT_S) as client,
        ):
            stream, conversation = await world.converse()
            # The balancer spreads them over both.
            texts: list[list[str]] = [[] for _ in range(READERS)]
            async with asyncio.TaskGroup() as readers:
                for each in texts:
                    readers.create_task(read_into(each, client, stream))
                await conversation.send_text("before ")
                await until(lambda: all("before " in each for each in texts))
                frozen.signal(signal.SIGSTOP)
                began = time.monotonic()
                await conversation.send_text("meanwhile ")
                await until(lambda: any("meanwhile " in each for each in texts))
                assert not all("meanwhile " in each for each in texts)
                await until(lambda: all("meanwhile " in each for each in texts))
                figures.add("front-end silent → our client's next entry", time.monotonic() - began, "s")
                await conversation.finish()
        frozen.signal(signal.SIGCONT)
        await world.settle()
        await world.check()
    assert all("".join(each) == "before meanwhile " for each in texts)


async def read_into(texts: list[str], client: AsyncClient, stream: str) -> None:
    """Follow the stream to its end."""
    async for each in client.events(stream):
        match each:
            case EntryReceived(event=TextDelta(delta=delta)):
                texts.append(delta)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_front_end_cut_off_from_redis_loses_its_viewers_to_the_other_and_notifies_those_that_stay(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    async with (
        open_world(tmp_path, redis=server, heartbeat_s=HEARTBEAT_S) as world,
        open_redis_relay(server.url) as one,
        open_redis_relay(server.url) as other,
    ):
        await world.worker()
        wires = [one, other]
        front_ends = [await world.front_end(redis_url=wire.url) for wire in wires]
        async with open_haproxy(tmp_path / "haproxy", world.urls) as balancer:
            world.urls[:] = [balancer.url]
            async with open_crowd(world, streams=STREAMS, viewers=VIEWERS) as crowd:
                loyal = [[stay_at(each, world, stream) for stream in world.streams] for each in front_ends]
                await until(lambda: all("hub.live" in each.notices for at in loyal for each in at))
                for turn in range(rounds):
                    at = turn % 2
                    began, before = time.monotonic(), stalls(loyal[at])
                    aftermath = await crowd.cause(wires[at].refuse())
                    assert aftermath.back_s
                    for back_s in aftermath.back_s:
                        figures.add("front-end cut off from Redis → next entry", back_s, "s")
                    assert max(aftermath.back_s) < FROZEN_S
                    await until_stalled(loyal[at], before + 1)
                    assert time.monotonic() - began < NOTICE_S
                    await wires[at].switch(server.url)
                    mended, last = time.monotonic(), crowd.sent
                    await Crowd([], loyal[at]).until_number(last, BACK_S)
                    figures.add("front-end back at Redis → its viewers have all", time.monotonic() - mended, "s")
                    await until_ready(front_ends[at])
                    await balancer.until_all_are_up()
        history = await world.check()
    assert statuses(history) == {OK}


async def until_stalled(viewers: Sequence[RecordedViewer], times: int) -> None:
    await until(lambda: stalls(viewers) >= times)


def stalls(viewers: Sequence[RecordedViewer]) -> int:
    """How many stall notices each viewer received at least."""
    return min(viewer.notices.count("hub.stalled") for viewer in viewers)


def stay_at(front_end: Running, world: FaultWorld, stream: str) -> RecordedViewer:
    """A viewer that knows this front-end alone."""
    (viewer,) = world.view(stream)
    viewer.urls = [front_end.url]
    return viewer
