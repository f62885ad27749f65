"""A client resumes in a room that lost entries in the middle of its life: a tail lost pushes, and the log was trimmed.

The room has entries from before the gap, which the client may hold, too: it must not receive them once more.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

import hypothesis.strategies as st
import pytest
from hypothesis import given

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import DIALECTS
from broadcaster.hub.hub import Hub
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.hub.conftest import LIMITS
from tests.hub.replay.test_replay import room_of
from tests.hub.replay.test_void_cursors import CLIENTS, Client, deltas_of
from tests.hub.support import finish, turns
from tests.support.memory.fake_tail import FakeTail


def pieces(first_seq: int, last_seq: int) -> list[str]:
    """A text for each entry."""
    return [f"({seq})" for seq in range(first_seq, last_seq + 1)]


async def connected(hub: Hub, name: str, *, after: int = 0) -> Client:
    """A client that holds the text of each entry up to this one, perhaps from another front-end."""
    client = Client(hub, name, after=f"5-{after}" if after else "", text="".join(pieces(1, after)))
    await client.connect()
    await client.read()
    return client


def forget(hub: Hub, *, keeps_ring: bool) -> None:
    """The hub is short of memory."""
    room = room_of(hub)
    for replay in room.replays._all():
        replay._stretches.keep_through(0)
    room.shed()
    while not keeps_ring and room.drop_oldest():
        pass


def lose(tail: FakeTail, last_seq: int, *, epoch: int = 5) -> None:
    """The log is trimmed up to this entry, and the tail has not received those that the room misses up to it."""
    first_seq = room_last_seq(tail) + 1
    tail.log["g"] = [entry for entry in tail.log["g"] if entry.seq > last_seq]
    tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(epoch, last_seq), first_seq, last_seq))


def room_last_seq(tail: FakeTail) -> int:
    return getattr(tail.sinks["g"], "last_seq", 0)


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("after", [1, 2])
async def test_a_client_from_before_a_gap_continues_without_the_snapshot(
    hub: Hub, tail: FakeTail, name: str, after: int
) -> None:
    tail.append("g", *deltas_of(5, 1, *pieces(1, 2)))
    ahead = await connected(hub, name)
    lose(tail, 7)
    tail.append("g", *deltas_of(5, 8, *pieces(8, 9)))
    await ahead.read()

    client = await connected(hub, name, after=after)
    assert (client.drops, client.text) == (0, "(1)(2)(8)(9)")
    assert '"to":7' in "".join(message.data for message in client.messages)
    await client.connect()
    tail.append("g", *deltas_of(5, 10, "(10)"), finish(5, 11))
    await client.read()

    assert client.text == "(1)(2)(8)(9)(10)"


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_that_holds_a_part_of_the_gap_shows_no_text_twice(hub: Hub, tail: FakeTail, name: str) -> None:
    tail.append("g", *deltas_of(5, 1, *pieces(1, 2)))
    ahead = await connected(hub, name)
    lose(tail, 7)
    tail.append("g", *deltas_of(5, 8, *pieces(8, 9)))
    await ahead.read()

    client = await connected(hub, name, after=5)

    kept = name in ("delta", "named", "parts")  # elsewhere the parts have other ids than the client has
    assert client.text == "".join(pieces(1, 5) + pieces(8, 9) if kept else pieces(1, 2) + pieces(8, 9))


@pytest.mark.parametrize("name", sorted(CLIENTS.keys() - {"ag-ui"}))
async def test_a_client_from_before_all_that_a_room_has_keeps_its_text(hub: Hub, tail: FakeTail, name: str) -> None:
    tail.log["g"].extend(deltas_of(5, 4, *pieces(4, 5)))
    await connected(hub, name)
    client = await connected(hub, name, after=2)
    assert (client.drops, client.text) == (0, "(1)(2)(4)(5)")


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("is_over", [True, False], ids=["over", "open"])
async def test_a_client_of_an_attempt_that_was_lost_before_a_gap_drops_its_text(
    hub: Hub, tail: FakeTail, name: str, is_over: bool
) -> None:
    tail.append("g", *deltas_of(5, 1, *pieces(1, 3)))
    await connected(hub, name)
    tail.sinks["g"].rewound(Cursor(5, 2))
    del tail.log["g"][2:]
    tail.append("g", Entry(6, 3, b'{"type":"attempt","attempt":2,"reason":"worker_lost"}'), *deltas_of(6, 4, "(1)"))
    lose(tail, 7, epoch=6)
    tail.append("g", *deltas_of(6, 8, "(8)"), *([finish(6, 9)] if is_over else []))

    client = await connected(hub, name, after=3)

    assert (client.drops, client.text) == (1, "(1)(8)")


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    ("first_seq", "is_forgotten"),
    [(1, False), (4, False), (4, True)],
    ids=["a gap within", "a gap first", "encoded anew"],
)
async def test_a_viewer_of_every_event_receives_each_that_is_left_behind_a_gap(
    hub: Hub, tail: FakeTail, name: str, first_seq: int, is_forgotten: bool
) -> None:
    kept = pieces(first_seq, 2)
    tail.append("g", *deltas_of(5, first_seq, *kept))
    await connected(hub, name)
    lose(tail, 7)
    tail.append("g", *deltas_of(5, 8, *pieces(8, 9)))
    await connected(hub, name)
    if is_forgotten:
        forget(hub, keeps_ring=True)

    client = Client(hub, name)
    viewer = await hub.join("g", cursor=None, timeout_s=5, dialect=DIALECTS[name], with_snapshot=False)
    client.viewer = viewer if isinstance(viewer, Viewer) else None
    await client.read()

    texts = [CLIENTS[name](message, json.loads(message.data))[1] for message in client.messages]
    assert [text for text in texts if text] == [*kept, *pieces(8, 9)]
    assert '"to":7' in "".join(message.data for message in client.messages)


# How many entries come, and how many are then lost.
LIVES: Final = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), min_size=1, max_size=4)


async def resumed(name: str, life: list[tuple[int, int]], *, data: st.DataObject) -> tuple[str, str]:
    """What a client shows that resumes with any id of this life of a room; the text after the last gap."""
    tail = FakeTail()
    hub = Hub(tail, tail, limits=LIMITS)
    try:
        await hub.join("g", cursor=None, timeout_s=5)
        ahead = await connected(hub, name) if data.draw(st.booleans()) else None
        seq, rest = 0, ""
        for count, missing in life:
            texts = pieces(seq + 1, seq + count)
            tail.append("g", *deltas_of(5, seq + 1, *texts))
            await turns(1) if ahead is None else await ahead.read()
            seq, rest = seq + count, rest + "".join(texts)
            if missing:
                seq, rest = seq + missing, ""
                lose(tail, seq)
        after = data.draw(st.integers(1, seq))
        if data.draw(st.booleans()):
            forget(hub, keeps_ring=data.draw(st.booleans()))
        client = await connected(hub, name, after=after)
        tail.append("g", *deltas_of(5, seq + 1, *pieces(seq + 1, seq + 1)))
        await client.read()
        if client.viewer is not None and client.viewer.stop_reason is StopReason.GAP:  # met on the way
            await client.connect()
            await client.read()
        return client.text, rest + f"({seq + 1})"
    finally:
        await hub.aclose()


@pytest.mark.parametrize("name", CLIENTS)
@given(life=LIVES, data=st.data())
def test_a_client_that_resumes_anywhere_in_a_room_with_gaps_shows_each_text_once(
    name: str, life: list[tuple[int, int]], data: st.DataObject
) -> None:
    text, rest = asyncio.run(resumed(name, life, data=data))
    shown = [int(piece) for piece in text.strip("()").split(")(")]
    assert shown == sorted({*shown})
    assert text.endswith(rest)
