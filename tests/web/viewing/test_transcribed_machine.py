"""The histories of test_socket_machine.py, with viewers in a dialect that must know what came before."""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
import pytest
import uvloop
from hypothesis import settings
from hypothesis.stateful import rule

from broadcaster.core.cursor import Cursor
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import StopReason
from tests.hub.support import Reader, turns
from tests.support.memory.tally_dialect import TallyDialect, TallyWitness, seq_in, sums_of
from tests.support.socket_reader import open_socket_reader
from tests.web.server.test_socket_machine import WatchingOnSockets

DIALECTS = [
    TallyDialect(),
    TallyDialect(sends_every=7),
    TallyDialect(bears_gaps=True),
    TallyDialect(bears_gaps=True, copies=True),
]


class Transcribing(WatchingOnSockets):
    """A viewer that received what became void is ended; all others hold the checksums of the log at the end."""

    @rule(data=st.data(), dialect=st.sampled_from(DIALECTS), is_on_socket=st.booleans(), with_snapshot=st.booleans())
    def join_in_a_dialect(self, data, dialect, is_on_socket, with_snapshot):
        cursor = data.draw(st.sampled_from([None, None, *self.delivered, *sorted(self.void)]))
        self.run(self.join_in(dialect, cursor, is_on_socket=is_on_socket, with_snapshot=with_snapshot))

    async def join_in(
        self, dialect: TallyDialect, cursor: Cursor | None, *, is_on_socket: bool, with_snapshot: bool
    ) -> None:
        viewer = await self.hub.join("g", cursor=cursor, timeout_s=1, dialect=dialect, with_snapshot=with_snapshot)
        assert not isinstance(viewer, Finished)
        reader = await open_socket_reader(viewer, cursor=None) if is_on_socket else Reader(viewer, cursor=None)
        reader.witness = Lenient(sends_every=dialect.sends_every)  # type: ignore[assignment]
        self.readers.append(reader)
        await turns()

    async def read_to_end(self, reader) -> None:
        """Pages for which a dialect sends nothing are turns in which nothing comes."""
        await super().read_to_end(reader)
        silent_turns = 0
        while silent_turns < 100:
            silent_turns = 0 if reader.pull_all() else silent_turns + 1
            await turns(1)

    def check_end(self, reader) -> None:
        if not isinstance(reader.witness, TallyWitness):
            super().check_end(reader)
            return
        witness = reader.witness
        if reader.viewer.stop_reason is not None:
            assert reader.viewer.stop_reason in (StopReason.GAP, StopReason.LOG_GONE)
            assert witness.bye == reader.viewer.stop_reason.code
            return
        assert witness.bye is None
        if self.log and self.log[0].seq == 1 and not witness.gaps:  # else the checksums cannot be known
            expected = sums_of(self.log)
            assert {seq: expected[seq] for seq in witness.sums if seq in expected} == witness.sums
        if not witness.sums and not witness.gaps:
            return  # it waits: its cursor is ahead of the log
        behind = self.last_seq() - witness.last_seq
        assert 0 <= behind < witness.sends_every


class Lenient(TallyWitness):
    """It may have come with a cursor: the first thing it receives may be any."""

    def _take(self, fields) -> None:
        if not self.sums and isinstance(fields[0], int):
            self.last_seq = fields[0] - 1
        super()._take(fields)

    def _count(self, text: str) -> None:
        if not self.last_seq:
            self.last_seq = seq_in(text) - 1
        super()._count(text)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_whatever_happens_transcripts_equal_the_log(new_loop) -> None:
    class Machine(Transcribing):
        pass

    Machine.new_loop = staticmethod(new_loop)
    Machine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
    Machine.TestCase("runTest").runTest()
