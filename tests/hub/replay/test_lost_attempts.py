"""A new attempt where text cannot be taken back: each viewer that has text of the old one ends, and no other does."""

from __future__ import annotations

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.dialects import Dialect
from broadcaster.dialects.openai_chat.encode import ChatDialect
from broadcaster.hub.hub import Hub
from broadcaster.hub.ring import SLICE_BYTES
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.hub.support import finish, text, turns
from tests.support.memory.fake_tail import FakeTail
from tests.support.socket_reader import SocketReader, open_socket_reader

CHAT = ChatDialect()


class Received:
    """A witness that keeps every byte."""

    def __init__(self) -> None:
        self.body = b""

    def feed(self, chunk: bytes) -> None:
        self.body += chunk


async def read_on_socket(hub: Hub, dialect: Dialect = CHAT, *, cursor: Cursor | None = None) -> SocketReader:
    viewer = await hub.join("g", cursor=cursor, timeout_s=5, dialect=dialect)
    assert isinstance(viewer, Viewer)
    reader = await open_socket_reader(viewer, cursor=None)
    reader.witness = Received()  # type: ignore[assignment]
    return reader


async def body_of(reader: SocketReader) -> bytes:
    """All that comes, until nothing more does."""
    silent = 0
    while silent < 20:
        silent = 0 if reader.pull_all() else silent + 1
        await turns(1)
    assert isinstance(reader.witness, Received)
    return reader.witness.body


def attempt(epoch: int, seq: int) -> Entry:
    return Entry(epoch, seq, b'{"type":"attempt","attempt":2}')


async def two_live_viewers(hub: Hub, tail: FakeTail) -> list[SocketReader]:
    """They have text of the first attempt."""
    tail.append("g", text(5, 1))
    live = [await read_on_socket(hub) for _ in range(2)]
    for reader in live:
        assert b"5-1" in await body_of(reader)
    return live


@pytest.mark.usefixtures("unpaced")
async def test_live_viewers_are_sent_the_error_and_no_more_and_a_late_one_is_sent_the_new_attempt(hub, tail):
    live = await two_live_viewers(hub, tail)
    assert live[0].viewer._group is live[1].viewer._group is not None
    tail.append("g", attempt(6, 2), text(6, 3))
    late = await read_on_socket(hub)
    tail.append("g", text(6, 4), finish(6, 5))
    for reader in live:
        body = await body_of(reader)
        assert body.count(b'"code":"new_attempt"') == 1
        assert b"6-3" not in body
        assert body.endswith(b"\n\n")
        assert reader.viewer.stop_reason is StopReason.NEW_ATTEMPT
        assert reader.body.has_ended
    body = await body_of(late)
    assert (b"5-1" in body, b"6-3" in body, b"[DONE]" in body, b"error" in body) == (False, True, True, False)
    for reader in (*live, late):
        reader.close()


@pytest.mark.usefixtures("unpaced")
async def test_live_viewers_alone_are_sent_the_error_of_their_attempt_and_nothing_of_the_next(hub, tail):
    live = await two_live_viewers(hub, tail)
    tail.append("g", attempt(6, 2))
    await turns()
    tail.append("g", text(6, 3), finish(6, 4))
    for reader in live:
        body = await body_of(reader)
        assert (body.count(b'"code":"new_attempt"'), b"6-3" in body) == (1, False)
        assert reader.viewer.stop_reason is StopReason.NEW_ATTEMPT
        reader.close()


async def test_a_large_snapshot_of_a_lost_attempt_serves_no_viewer_of_the_next(hub, tail):
    tail.append("g", text(5, 1, size=2 * SLICE_BYTES))
    first = await read_on_socket(hub)
    assert b"5-1" in await body_of(first)
    tail.append("g", attempt(6, 2), text(6, 3))
    late = await read_on_socket(hub)
    body = await body_of(late)
    assert (b"5-1" in body, b"6-3" in body, b"new_attempt" in body) == (False, True, False)
    assert late.viewer.stop_reason is None
    for reader in (first, late):
        reader.close()
