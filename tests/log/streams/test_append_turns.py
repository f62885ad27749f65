"""When appends leave: with the others of their turn, with those that waited for a reply, and never long after."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAway

from broadcaster.core.backoff import BackOff
from broadcaster.core.events import Finish, TextDelta
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import ScriptCall, run_all
from broadcaster.log.streams import appender as appending
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.writer import StreamWriter
from tests.support.log.log_world import World, delta, until

pytestmark = pytest.mark.alone

DEADLINE_S = 20.0
NEVER_S = 600.0


class Wire:
    """Stands before the server: notes every write, and lets none through while it is shut for its stream."""

    def __init__(self, keys: Any) -> None:
        self.keys = keys
        self.writes: list[list[str]] = []  # the logs that each carried events to
        self.shut: dict[str, asyncio.Event] = {}
        self.is_away = False

    def shut_for(self, writer: StreamWriter) -> asyncio.Event:
        """Writes that carry something of this one wait for the event, which reopens the wire."""
        return self.shut.setdefault(self.log_of(writer), asyncio.Event())

    def log_of(self, writer: StreamWriter) -> str:
        return str(self.keys.log(writer.stream_id))

    def logs_of(self, *writers: StreamWriter) -> list[str]:
        return [self.log_of(writer) for writer in writers]

    async def run_all(self, redis: Any, calls: Sequence[ScriptCall]) -> list[Any]:
        logs = [str(call.keys[0]) for call in calls]
        self.writes.append(logs)
        for log in logs:
            if log in self.shut:
                await self.shut[log].wait()
        if self.is_away:
            raise RedisAway("away")
        return await run_all(redis, calls)


@pytest.fixture
def wire(world: World, monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire(world.keys)
    monkeypatch.setattr(appending, "run_all", wire.run_all)
    return wire


@pytest.fixture
def _endless_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits leaves with a reply, or not at all."""
    monkeypatch.setattr(appending, "HOLD_S", NEVER_S)


@pytest.fixture
async def appender(world: World, wire: Wire) -> AsyncIterator[Appender]:
    async with world.appender() as opened:
        yield opened


async def writers_of(world: World, appender: Appender, count: int) -> list[StreamWriter]:
    keeper = world.keeper(appender)
    return [await world.writer(*await world.granted(), appender, keeper) for _ in range(count)]


def write_text(writer: StreamWriter, text: str = "a") -> None:
    writer.write([TextDelta(id="0", delta=text)])


async def acked(seq: int, *writers: StreamWriter) -> None:
    """Until the log has confirmed as much of each."""
    await until(lambda: all(writer.acked_seq == seq for writer in writers))


async def turns(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def past(delay_s: float) -> None:
    """Until every timer that was set for at most ``delay_s`` from now has fired, and what it began is under way."""
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(2 * delay_s, fired.set)
    await fired.wait()
    await turns(3)


@pytest.mark.usefixtures("_endless_hold")
async def test_the_first_events_on_an_idle_appender_leave_with_their_turn(
    world: World, wire: Wire, appender: Appender
) -> None:
    first, second = await writers_of(world, appender, 2)
    for round_ in (1, 2, 3):  # idle after each
        write_text(first)
        write_text(second)
        await turns(2)  # the end of this one, and the first step of the write
        assert wire.writes == [wire.logs_of(first, second)] * round_
        await acked(round_, first, second)


@pytest.mark.usefixtures("_endless_hold")
async def test_everything_written_while_a_write_is_under_way_is_one_write(
    world: World, wire: Wire, appender: Appender
) -> None:
    first, *others = await writers_of(world, appender, 11)
    answer = wire.shut_for(first)
    write_text(first)
    await turns(2)
    for text in "ab":
        for writer in (*others, first):
            write_text(writer, text)
            await turns(2)
    assert wire.writes == [wire.logs_of(first)]
    answer.set()
    await acked(3, first)
    await acked(2, *others)
    assert [sorted(logs) for logs in wire.writes] == [wire.logs_of(first), sorted(wire.logs_of(first, *others))]
    assert await world.texts(others[0].stream_id) == [delta("a"), delta("b")]


async def test_no_writer_waits_beyond_the_hold_for_a_reply_that_does_not_come(
    world: World, wire: Wire, appender: Appender
) -> None:
    first, second, third = await writers_of(world, appender, 3)
    wire.shut_for(first)
    write_text(first)
    await turns(2)
    for writer in (second, third):  # one hold after the other
        write_text(writer)
        await acked(1, writer)
    assert wire.writes == [[log] for log in wire.logs_of(first, second, third)]
    assert first.acked_seq == 0


async def test_later_writers_do_not_extend_the_hold(
    world: World, wire: Wire, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "HOLD_S", 0.02)
    first, second, third = await writers_of(world, appender, 3)
    wire.shut_for(first)
    write_text(first)
    await turns(2)
    write_text(second)
    write_text(third)
    async with asyncio.timeout(DEADLINE_S):
        while len(wire.writes) == 1:
            appender.attend(third)
            await turns()
    assert wire.writes[1] == wire.logs_of(second, third)


@pytest.mark.usefixtures("_endless_hold")
async def test_a_server_that_does_not_answer_holds_up_its_own_streams_alone(
    world: World, wire: Wire, appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, waits, one, other = await writers_of(world, appender, 4)
    silent = set(wire.logs_of(stuck, waits))
    monkeypatch.setattr(LogConnection, "server_of", lambda self, key: "silent" if key in silent else "well")
    answer = wire.shut_for(stuck)
    write_text(stuck)
    write_text(one)
    await turns(2)
    assert wire.writes == [wire.logs_of(stuck), wire.logs_of(one)]  # no write carries events for two servers
    write_text(waits)
    for seq in range(1, 4):
        await acked(seq, one)
        await turns(2)  # its queue is empty now
        write_text(one)
        write_text(other)
    await acked(4, one)
    await acked(3, other)
    assert (stuck.acked_seq, waits.acked_seq) == (0, 0)
    answer.set()
    await acked(1, stuck, waits)


async def test_leaving_releases_no_writer_that_waited(
    world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "HOLD_S", 0.1)
    before = asyncio.all_tasks()
    async with world.appender() as appender:
        first, second = await writers_of(world, appender, 2)
        wire.shut_for(first)
        write_text(first)
        await turns(2)
        write_text(second)
        await turns(2)
    assert asyncio.all_tasks() == before
    await past(appending.HOLD_S)
    assert wire.writes == [wire.logs_of(first)]
    assert asyncio.all_tasks() == before


@pytest.mark.usefixtures("_endless_hold")
async def test_leaving_in_the_turn_of_a_reply_releases_no_writer_that_waited_for_it(world: World, wire: Wire) -> None:
    before = asyncio.all_tasks()
    async with world.appender() as appender:
        first, second = await writers_of(world, appender, 2)
        answer = wire.shut_for(first)

        async def speak_and_answer() -> None:
            await turns(2)
            assert wire.writes == [wire.logs_of(first)]
            write_text(second)
            await turns(2)
            answer.set()

        speaking = asyncio.create_task(speak_and_answer())
        await first.end([Finish()], deadline_s=DEADLINE_S)
    await speaking
    await turns(3)
    assert wire.writes == [wire.logs_of(first)]
    assert asyncio.all_tasks() == before


async def test_leaving_while_redis_is_away_retries_nothing(
    world: World, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "_BACK_OFF", BackOff(0.01, 0.01))
    before = asyncio.all_tasks()
    async with world.appender() as appender:
        (writer,) = await writers_of(world, appender, 1)
        wire.is_away = True
        write_text(writer)
        await until(lambda: len(wire.writes) > 0)
        await turns(2)
    count = len(wire.writes)
    await past(0.01)
    assert len(wire.writes) == count
    assert asyncio.all_tasks() == before


async def test_an_event_written_after_the_writer_left_is_dropped(world: World, wire: Wire) -> None:
    async with world.appender() as appender:
        (writer,) = await writers_of(world, appender, 1)
    write_text(writer)
    await turns(3)
    assert wire.writes == []


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_the_turns_each_log_holds_all_of_it_in_order_and_numbered_densely(
    world: World, wire: Wire, appender: Appender, seed: int
) -> None:
    chance = random.Random(seed)
    writers = await writers_of(world, appender, 50)
    written = dict.fromkeys(writers, 0)
    while left := [writer for writer in writers if written[writer] < 20]:
        for writer in chance.sample(left, chance.randint(1, len(left))):
            for _ in range(chance.randint(1, min(3, 20 - written[writer]))):
                write_text(writer, str(written[writer]))
                written[writer] += 1
        await turns(chance.randint(0, 3))
    await acked(20, *writers)
    for writer in writers:
        assert await world.seqs(writer.stream_id) == list(range(1, 21))
        assert await world.texts(writer.stream_id) == [delta(str(at)) for at in range(20)]
    assert sum(map(len, wire.writes)) > 2 * len(wire.writes)  # they travelled together


@pytest.fixture
def _endless_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back-off that only a success ends."""
    monkeypatch.setattr(appending, "_BACK_OFF", BackOff(NEVER_S, NEVER_S))


@pytest.mark.usefixtures("_endless_back_off")
async def test_what_a_provider_sends_meanwhile_does_not_shorten_the_back_off(
    world: World, wire: Wire, appender: Appender
) -> None:
    (writer,) = await writers_of(world, appender, 1)
    wire.is_away = True
    for _ in range(50):
        write_text(writer)
        await turns(5)
    assert wire.writes == [wire.logs_of(writer)]


@pytest.mark.usefixtures("_endless_back_off")
async def test_a_success_on_a_server_ends_the_back_off_of_all_its_streams(
    world: World, wire: Wire, appender: Appender
) -> None:
    first, second, third = await writers_of(world, appender, 3)
    wire.is_away = True
    write_text(first)
    write_text(second)
    await until(lambda: len(wire.writes) == 1)
    await turns(5)
    wire.is_away = False
    write_text(third)
    await acked(1, first, second, third)
