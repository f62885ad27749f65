"""The histories of tests/hub/test_hub_machine.py with viewers on sockets among the others: live, slow, or both."""

from __future__ import annotations

import asyncio
from typing import Any

import hypothesis.strategies as st
import pytest
import uvloop
from hypothesis import settings
from hypothesis.stateful import precondition, rule

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import StallReason
from broadcaster.hub import flusher
from broadcaster.hub.live import group, writes
from broadcaster.hub.replay.resolve import Finished
from tests.hub.support import DEADLINE_S, turns
from tests.hub.test_hub_machine import Watching
from tests.support.socket_reader import SocketReader, open_socket_reader


class WatchingOnSockets(Watching):
    """Clients read when they like; what they hold at the end is judged as before."""

    new_loop = staticmethod(uvloop.new_event_loop)

    @rule(data=st.data())
    def join_on_a_socket(self, data):
        cursors = [None, None, *self.delivered, *sorted(self.void)]
        self.run(self.join_on_socket_after(data.draw(st.sampled_from(cursors))))

    async def join_on_socket_after(self, cursor: Cursor | None) -> None:
        viewer = await self.hub.join("g", cursor=cursor, timeout_s=1)
        assert not isinstance(viewer, Finished)
        self.readers.append(await open_socket_reader(viewer, cursor=cursor))
        await turns()

    @precondition(lambda self: any(isinstance(each, SocketReader) for each in self.readers))
    @rule(data=st.data(), max_bytes=st.sampled_from([1, 100, 5_000, 2**20]))
    def receive(self, data, max_bytes):
        on_sockets = [each for each in self.readers if isinstance(each, SocketReader)]
        self.run(self.receive_some(data.draw(st.sampled_from(on_sockets)), max_bytes))

    async def receive_some(self, reader: SocketReader, max_bytes: int) -> None:
        reader.receive(max_bytes)
        await turns()

    @rule(reason=st.sampled_from([None, StallReason.LOG_UNAVAILABLE, StallReason.WORKER_LOST]))
    def stall(self, reason):
        self.run(self.stall_now(reason))

    async def stall_now(self, reason: StallReason | None) -> None:
        self.tail.sinks["g"].stalled(reason)
        await turns()

    async def leave_now(self, reader) -> None:
        await super().leave_now(reader)
        if isinstance(reader, SocketReader):
            await self.close(reader)

    async def close(self, reader: SocketReader) -> None:
        reader.close()
        await turns(5)
        assert reader.is_forgotten

    async def read_to_end(self, reader) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.hub._flusher.is_due:
                await turns(1)
        await super().read_to_end(reader)

    async def finish(self) -> None:
        await self.stall_now(None)
        await super().finish()
        for reader in self.readers:
            if isinstance(reader, SocketReader):
                await self.close(reader)


class AllLive(WatchingOnSockets):
    """All viewers are on sockets: the fast path is open most of the time."""

    join = None  # type: ignore[assignment]
    pull = None  # type: ignore[assignment]


@pytest.mark.parametrize("viewers", [WatchingOnSockets, AllLive])
@pytest.mark.parametrize("write_batch", [writes.write_batch, writes.write_batch_in_python], ids=["chosen", "in-python"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_whatever_happens_viewers_on_sockets_hold_what_the_log_holds(
    new_loop, write_batch, viewers, monkeypatch
) -> None:
    monkeypatch.setattr(group, "write_batch", write_batch)

    Machine: Any = type("Machine", (viewers,), {"new_loop": staticmethod(new_loop)})
    Machine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
    Machine.TestCase("runTest").runTest()


def test_the_histories_hold_with_a_pause_after_every_flush(monkeypatch) -> None:
    monkeypatch.setattr(flusher, "BUSY_S", 0.0)

    class Machine(WatchingOnSockets):
        pass

    Machine.TestCase.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
    Machine.TestCase("runTest").runTest()
