"""A client resumes before an attempt that voids what it holds, at a front-end that has not encoded the lost attempt.

The log begins behind what the client holds: a feed was replaced, a feed trims, or a worker has sent its attempt again
after Redis lost the ones before.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import DIALECTS
from broadcaster.hub.hub import Hub
from broadcaster.hub.stop_reasons import StopReason
from tests.hub.conftest import LIMITS
from tests.hub.replay.test_replay import room_of
from tests.hub.replay.test_void_cursors import CLIENTS, Client, deltas_of
from tests.hub.support import finish, turns
from tests.support.memory.fake_tail import FakeTail

USAGE: Final = Entry(5, 4, b'{"type":"usage","inputTokens":1}')
PROGRESS: Final = Entry(5, 4, b'{"type":"data-progress","data":1}')
SMALL: Final = ["delta", "named", "parts"]


def attempt(seq: int) -> Entry:
    return Entry(9, seq, b'{"type":"attempt","attempt":2,"reason":"replaced"}')


def holding(hub: Hub, name: str, count: int) -> Client:
    """A client that received the first entries of the lost attempt from another front-end."""
    texts = ("Once ", "upon ", "a time")[:count]
    return Client(hub, name, after=f"5-{count}", text="".join(texts))


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("count", [1, 3], ids=["trimmed", "at the edge"])
@pytest.mark.parametrize("known", [1, 2, 3], ids=["the attempt", "its text", "its end"])
async def test_a_client_drops_what_a_replaced_feed_has_sent(
    hub: Hub, tail: FakeTail, name: str, count: int, known: int
) -> None:
    log = [attempt(4), *deltas_of(9, 5, "New"), finish(9, 6)]
    tail.log["g"].extend(log[:known])
    client = holding(hub, name, count)

    await client.connect()
    await client.read()
    for entry in log[known:]:
        tail.append("g", entry)
        await client.read()

    assert (client.drops, client.text) == (1, "New")
    await client.connect()
    await client.read()
    assert (client.drops, client.text) == (1, "New")


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("count", [1, 3, 4], ids=["trimmed", "at the edge", "in the log"])
@pytest.mark.parametrize("left", [USAGE, PROGRESS], ids=["usage", "progress"])
@pytest.mark.parametrize("is_known", [True, False], ids=["an attempt that was made", "an attempt to come"])
async def test_a_client_drops_what_a_log_has_trimmed_of_a_lost_attempt(
    hub: Hub, tail: FakeTail, name: str, count: int, left: Entry, is_known: bool
) -> None:
    log = [left, attempt(5), *deltas_of(9, 6, "New")]
    tail.log["g"].extend(log if is_known else log[:1])
    client = holding(hub, name, count)

    await client.connect()
    await client.read()
    if not is_known:
        tail.append("g", attempt(5))
        await client.read()
        tail.append("g", *deltas_of(9, 6, "New"))
        await client.read()

    assert client.text == "New"
    assert client.drops >= 1


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("seq", [0, 4, 5], ids=["nothing", "the attempt", "its first text"])
async def test_a_client_of_the_new_attempt_alone_keeps_its_text(hub: Hub, tail: FakeTail, name: str, seq: int) -> None:
    tail.log["g"].extend([attempt(4), *deltas_of(9, 5, "New ")])
    client = Client(hub, name, after=f"9-{seq}" if seq else "", text="New " if seq == 5 else "")
    await client.connect()
    await client.read()
    tail.append("g", *deltas_of(9, 6, "text"), finish(9, 7))
    await client.read()
    assert client.text == "New text"
    assert client.drops == 0 or name in ("ai-sdk", "ai-sdk-7", "ag-ui")


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_that_waits_and_holds_nothing_is_sent_no_error(hub: Hub, tail: FakeTail, name: str) -> None:
    client = Client(hub, name)
    await client.connect()
    await client.read()
    tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(9, 3), 1, 3))
    tail.append("g", attempt(4))
    await client.read()
    tail.append("g", *deltas_of(9, 5, "New"))
    await client.read()
    assert (client.drops, client.text) == (0, "New")


@pytest.mark.parametrize("name", SMALL)
async def test_a_viewer_that_falls_behind_a_replaced_feed_ends_and_then_drops_its_text(name: str) -> None:
    tail = FakeTail()
    hub = Hub(tail, tail, limits=dataclasses.replace(LIMITS, room_bytes=2**17))
    tail.append("g", *deltas_of(5, 1, *["x" * 99] * 6_000))
    ahead = Client(hub, name)
    await ahead.connect()
    await ahead.read()
    client = Client(hub, name, after="5-1", text="x" * 99)
    await client.connect()
    assert client.viewer is not None
    while client.viewer.seq < 2_000:
        client.take(client.viewer.pull(2**16))
        await turns(1)
    tail.append("g", attempt(6_001), *deltas_of(9, 6_002, "New"))
    await ahead.read()
    replay = room_of(hub).replays.of(DIALECTS[name]).replay
    assert replay is not None
    replay._stretches.keep_through(0)
    replay._checkpoints.clear()
    replay._sweep = None
    room_of(hub)._pages.keep_through(0)
    del tail.log["g"][:6_000]

    await client.read()
    assert client.viewer.stop_reason is StopReason.GAP
    await client.connect()
    await client.read()

    assert client.text == "New"
    assert client.drops >= 1
    await hub.aclose()
