"""Any history of appends, trims, forks, joins, pulls and leaves: every viewer's stream keeps the promises.

The world: a log that grows, is trimmed and forks; a tail that delivers it late, in batches; viewers that join anywhere,
pull when they like and in pieces of any size. Each viewer is watched by a Witness, which checks every message; at the
end all pull to the end, and what each holds must be what the log holds, but for what a gap named.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.hub.hub import Hub
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.ring import REMEMBERED_CHUNKS, SEGMENT_BYTES
from broadcaster.hub.stop_reasons import StopReason
from tests.hub.conftest import LIMITS
from tests.hub.support import Reader, text, turns
from tests.support.memory.fake_tail import FakeTail

ROOM_BYTES = 2**17
SLACK_BYTES = (1 + REMEMBERED_CHUNKS) * SEGMENT_BYTES  # the newest segment and its chunks are always held


class Watching(RuleBasedStateMachine):
    new_loop = staticmethod(asyncio.new_event_loop)

    def __init__(self) -> None:
        super().__init__()
        self.loop = self.new_loop()
        self.run(self.begin())

    async def begin(self) -> None:
        self.tail = FakeTail()
        self.tail.redeliver = lambda: self.deliver_now(10**6)
        self.hub = Hub(self.tail, self.tail, limits=dataclasses.replace(LIMITS, room_bytes=ROOM_BYTES))
        self.delivered: list[Cursor] = []  # what the tail has delivered and not voided
        self.epoch = 5
        self.readers: list[Any] = []
        self.void: set[Cursor] = set()
        keeper = await self.hub.join("g", cursor=None, timeout_s=1)  # the room lingers
        assert not isinstance(keeper, Finished)
        keeper.leave()

    @property
    def log(self) -> list[Entry]:
        return self.tail.log["g"]

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(coroutine)

    def last_seq(self) -> int:
        return self.log[-1].seq if self.log else 0

    # -- the log

    @rule(count=st.integers(1, 150), size=st.sampled_from([1, 1, 300, 20_000]), is_new_attempt=st.booleans())
    def append(self, count, size, is_new_attempt):
        if size > 1000:
            count = min(count, 8)
        self.epoch += is_new_attempt
        first = self.last_seq() + 1
        self.log.extend(text(self.epoch, seq, size=size) for seq in range(first, first + count))

    @precondition(lambda self: len(self.log) > 1)
    @rule(data=st.data())
    def trim(self, data):
        del self.log[: data.draw(st.integers(1, len(self.log) - 1))]

    @precondition(lambda self: len(self.log) > 1)
    @rule(data=st.data())
    def fork(self, data):
        """The tail is lost; another attempt goes on from what is left."""
        left = data.draw(st.integers(1, len(self.log) - 1))
        self.void.update(entry.cursor for entry in self.log[left:])
        del self.log[left:]
        self.epoch += 1
        self.log.append(text(self.epoch, self.last_seq() + 1))

    # -- the tail

    @rule(count=st.integers(1, 200))
    def tell(self, count):
        self.run(self.report_some(count))

    async def report_some(self, count: int) -> None:
        self.deliver_now(count)
        await turns()

    @rule(count=st.integers(1, 80), pauses=st.sampled_from([0, 1, 3]))
    def deliver_one_by_one(self, count, pauses):
        self.run(self.report_one_by_one(count, pauses))

    async def report_one_by_one(self, count: int, pauses: int) -> None:
        """By the fast path, where it is open."""
        for _ in range(count):
            self.deliver_now(1)
            await turns(pauses)
        await turns()

    def deliver_now(self, count: int) -> None:
        sink = self.tail.sinks["g"]
        held = {entry.cursor for entry in self.log}
        void = [cursor for cursor in self.delivered if cursor in self.void]
        if void:
            standing = [cursor for cursor in self.delivered if cursor < void[0]]
            # As a tail does: what the trimmed log cannot prove any more is void too.
            keep = max((cursor for cursor in standing if cursor in held), default=START)
            self.delivered = [cursor for cursor in self.delivered if cursor <= keep]
            self.tail.fast_paths["g"].close()
            sink.rewound(keep)
        last = self.delivered[-1] if self.delivered else START
        fresh = [entry for entry in self.log if entry.cursor > last][:count]
        if fresh and fresh[0].seq > last.seq + 1:
            before = Cursor(fresh[0].epoch, fresh[0].seq - 1)
            self.tail.fast_paths["g"].close()
            sink.gap(Gap(GapReason.TRIMMED, before, last.seq + 1, before.seq))
            self.delivered = []
        if fresh:
            self.delivered += [entry.cursor for entry in fresh]
            self.tail.deliver("g", fresh)

    # -- the viewers

    @rule(data=st.data())
    def join(self, data):
        """Also with the id of an entry that only another front-end has received yet."""
        untold = [entry.cursor for entry in self.log if entry.cursor not in self.delivered]
        cursors = [None, *self.delivered, *sorted(self.void), *untold]
        cursor = data.draw(st.sampled_from(cursors))
        self.run(self.join_after(cursor))

    async def join_after(self, cursor: Cursor | None) -> None:
        viewer = await self.hub.join("g", cursor=cursor, timeout_s=1)
        assert not isinstance(viewer, Finished)
        self.readers.append(Reader(viewer, cursor=cursor))

    @precondition(lambda self: any(isinstance(each, Reader) for each in self.readers))
    @rule(data=st.data(), max_bytes=st.sampled_from([100, 5_000, 2**16]), pulls=st.integers(1, 5))
    def pull(self, data, max_bytes, pulls):
        by_hand = [each for each in self.readers if isinstance(each, Reader)]
        self.run(self.pull_some(data.draw(st.sampled_from(by_hand)), max_bytes, pulls))

    async def pull_some(self, reader: Reader, max_bytes: int, pulls: int) -> None:
        for _ in range(pulls):
            chunk = reader.viewer.pull(max_bytes)
            assert len(chunk) <= max_bytes
            reader.witness.feed(chunk)

    @rule()
    def read_pages(self):
        self.run(turns(8))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def leave(self, data):
        reader = data.draw(st.sampled_from(self.readers))
        self.readers.remove(reader)
        self.run(self.leave_now(reader))

    async def leave_now(self, reader: Reader) -> None:
        reader.viewer.leave()
        assert reader.viewer.pull(2**16) == b""

    # -- what must hold

    @invariant()
    def the_room_keeps_its_bound(self):
        """But for kept pages, whose size is a guess: large events may follow many small ones."""
        rooms = [tenancy.room for tenancy in self.hub._tenancies.values()]
        pages = [page for room in rooms for page in room._pages._kept.values()]
        in_pages = sum(page._entry_bytes + page._chunk_bytes for page in pages)
        held = sum(room.ledger.bytes for room in rooms) - in_pages
        assert held <= ROOM_BYTES + SLACK_BYTES

    def teardown(self):
        try:
            self.run(self.finish())
        finally:
            self.loop.close()

    async def finish(self) -> None:
        await self.report_some(10**6)
        for reader in self.readers:
            await self.read_to_end(reader)
            self.check_end(reader)
        await self.hub.aclose()

    async def read_to_end(self, reader: Reader) -> None:
        silent_turns = 0
        while silent_turns < 10:
            silent_turns = 0 if reader.pull_all() else silent_turns + 1
            await turns(1)

    def check_end(self, reader: Reader) -> None:
        viewer, witness = reader.viewer, reader.witness
        if viewer.stop_reason is not None:
            # Only a read of a log that had changed before its tail reported it ends a viewer here.
            assert viewer.stop_reason is StopReason.LOG_GONE
            assert witness.names[-1] == "hub.bye"
            return
        expected = {entry.seq: (str(entry.cursor), entry.event.decode()) for entry in self.log}
        if witness.last_seq != self.last_seq():
            # A cursor ahead of the log in the epoch that writes it is held.
            assert witness.names == ["hub.hello"]
            assert witness.after in self.void
            return
        for seq, entry in witness.entries.items():
            assert expected.get(seq, entry) == entry
        for first, second in zip([0, *witness.entries], witness.entries, strict=False):
            is_reported = any(gap[1] <= second - 1 <= gap[2] for gap in witness.gaps)
            is_start = first == 0
            assert second == first + 1 or is_reported or is_start


Watching.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestWatching = Watching.TestCase
