"""When rooms are flushed: in the next turn, but later after a flush that took long."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from broadcaster.hub import flusher
from broadcaster.hub.flusher import LONGEST_PAUSE_S, SOCKETS_A_TURN, Flusher, TurnGate
from broadcaster.hub.live.group import LiveWrites
from tests.hub.support import DEADLINE_S, turns


class CountingRoom:
    """``sockets``: of its live viewers; ``has_more``: not all leaves in the call that rooms share."""

    def __init__(self, *, sockets: int = 0, has_more: bool = False) -> None:
        self.flushes: list[float] = []  # on the loop's clock
        self.follows: list[float] = []
        self._sockets = sockets
        self._has_more = has_more

    def gather(self, writes: LiveWrites) -> bool:
        self.flushes.append(writes.now)
        self.writes = writes
        writes.sockets += self._sockets
        return self._has_more

    def flush(self, now: float) -> None:
        assert self.writes.sockets == 0, "what was gathered is not written yet"
        self.follows.append(now)

    def fail(self) -> None:
        raise AssertionError("it did not raise")


class BrokenRoom(CountingRoom):
    """It raises where ``breaks_at`` says, and notes that it is to fail."""

    def __init__(self, breaks_at: str) -> None:
        super().__init__(has_more=True)
        self._breaks_at = breaks_at
        self.failures = 0

    def gather(self, writes: LiveWrites) -> bool:
        if self._breaks_at == "gather":
            raise OSError("an encoder")
        return super().gather(writes)

    def flush(self, now: float) -> None:
        raise OSError("a viewer's end")

    def fail(self) -> None:
        self.failures += 1


async def until_flushed(flushing: Flusher) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while flushing.is_due:
            await asyncio.sleep(0)


async def test_rooms_that_are_due_are_flushed_once_in_the_next_turn() -> None:
    sent = []
    flushing = Flusher(lambda: sent.append("flushed"))
    first, second = CountingRoom(), CountingRoom()
    flushing.add(first)
    flushing.add(second)
    assert flushing.is_due
    assert not first.flushes
    await turns(1)
    assert len(first.flushes) == len(second.flushes) == len(sent) == 1
    assert not flushing.is_due


async def test_after_a_flush_that_took_long_what_comes_waits_and_shares_the_next_one(monkeypatch) -> None:
    # When the first room became due, before the flush and after it.
    readings = iter([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(flusher, "time", SimpleNamespace(perf_counter=readings.__next__))
    monkeypatch.setattr(flusher, "BUSY_S", 0.0)
    flushing = Flusher(lambda: None)
    slow, other = CountingRoom(), CountingRoom()
    flushing.add(slow)
    await turns(1)
    began = asyncio.get_running_loop().time()
    flushing.add(slow)
    await turns(1)
    flushing.add(other)
    assert not other.flushes
    await until_flushed(flushing)
    assert slow.flushes[1] == other.flushes[0] >= began + LONGEST_PAUSE_S
    flushing.add(slow)  # that flush took no time: no pause after it
    await turns(1)
    assert len(slow.flushes) == 3
    assert (flushing.lag.count, flushing.lag.sum) == (3, 1.0)


async def test_only_rooms_that_have_more_to_send_are_called_after_the_writes() -> None:
    flushing = Flusher(lambda: None)
    whole, more = CountingRoom(sockets=2), CountingRoom(sockets=2, has_more=True)
    flushing.add(whole)
    flushing.add(more)
    await turns(1)
    assert (len(whole.flushes), whole.follows) == (1, [])
    assert more.follows == more.flushes


@pytest.mark.usefixtures("unpaced")
async def test_a_flush_of_many_sockets_lets_the_loop_have_turns_and_keeps_the_order_of_its_rooms() -> None:
    sent = []
    flushing = Flusher(lambda: sent.append("flushed"))
    rooms = [CountingRoom(sockets=SOCKETS_A_TURN // 2) for _ in range(5)]
    for room in rooms:
        flushing.add(room)
    counts = []
    while flushing.is_due:
        await turns(1)
        counts.append(sum(len(room.flushes) for room in rooms))
        if len(counts) == 1:
            flushing.add(rooms[0])  # it has more already: that is for the next flush
    assert counts == [2, 4, 5, 6]
    assert len(rooms[0].flushes) == len(sent) == 2


async def test_a_room_without_sockets_counts_in_a_turn_if_its_viewers_must_be_woken() -> None:
    flushing = Flusher(lambda: None)
    rooms = [CountingRoom(has_more=True) for _ in range(SOCKETS_A_TURN + 1)]
    for room in rooms:
        flushing.add(room)
    await turns(1)
    assert sum(len(room.follows) for room in rooms) == SOCKETS_A_TURN
    await turns(1)
    assert len(rooms[-1].follows) == 1


async def test_a_closed_one_flushes_nothing_more() -> None:
    flushing = Flusher(lambda: None)
    room = CountingRoom()
    flushing.add(room)
    flushing.close()
    await turns()
    assert not room.flushes


async def test_a_gate_lets_no_more_pass_in_a_turn_also_when_the_others_came_later() -> None:
    gate, passed = TurnGate(2), list[int]()

    async def come(number: int) -> None:
        await gate.enter()
        passed.append(number)

    coming = [asyncio.create_task(come(number)) for number in range(6)]
    counts = list[int]()
    while len(passed) < 20:
        before = len(passed)
        await turns(1)
        counts.append(len(passed) - before)
        if len(coming) < 20:  # three more each turn
            coming += [asyncio.create_task(come(number)) for number in range(len(coming), min(20, len(coming) + 3))]
    assert max(counts) == 2
    assert passed == sorted(passed)


async def test_an_idle_gate_lets_a_caller_pass_at_once() -> None:
    gate = TurnGate(1)
    for _ in range(2):
        entering = gate.enter()
        with pytest.raises(StopIteration):  # it returns without a turn of the loop
            entering.send(None)
        await turns(3)


async def test_a_caller_that_waited_counts_in_the_turn_of_the_gate_in_which_it_passes() -> None:
    gate, passed = TurnGate(1), 0

    async def return_repeatedly() -> None:
        nonlocal passed
        for _ in range(5):
            await gate.enter()
            passed += 1

    coming = asyncio.create_task(return_repeatedly())
    while not coming.done():
        before = passed
        await turns(1)
        assert passed - before <= 1
    assert passed == 5


@pytest.mark.parametrize("breaks_at", ["gather", "flush"])
async def test_a_room_that_raises_fails_alone_and_the_others_are_flushed_now_and_later(breaks_at: str) -> None:
    flushing = Flusher(lambda: None)
    broken, well = BrokenRoom(breaks_at), CountingRoom(has_more=True)
    flushing.add(broken)
    flushing.add(well)
    await until_flushed(flushing)
    assert (broken.failures, len(well.flushes), len(well.follows)) == (1, 1, 1)
    flushing.add(well)
    await until_flushed(flushing)
    assert (len(well.flushes), len(well.follows)) == (2, 2)
