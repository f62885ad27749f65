"""A front-end that lags: a cursor that it cannot know waits, the log is reread, and only then is it judged."""

from __future__ import annotations

from broadcaster.core.cursor import Cursor
from broadcaster.hub.hub import Hub
from broadcaster.hub.viewer import Viewer
from tests.hub.support import join, seen_by_client, text, texts, turns
from tests.support.memory.fake_tail import FakeTail
from tests.support.memory.tally_dialect import TallyDialect, TallyWitness


async def test_a_cursor_of_an_entry_whose_push_was_lost_is_followed_without_a_gap(hub: Hub, tail: FakeTail) -> None:
    await join(hub)
    tail.append("g", *texts(5, 1, 3))
    lost = [text(6, 4), text(7, 5)]
    tail.log["g"].extend(lost[:1])

    reader = await join(hub, after="6-4")
    await turns()
    reader.pull_all()
    assert tail.rereads == 1
    tail.append("g", *lost[1:])
    await reader.until_seq(5)

    assert reader.contents() == seen_by_client(lost[1:])
    assert reader.witness.gaps == []


async def test_a_cursor_that_the_log_does_not_hold_is_void_once_the_log_was_read(hub: Hub, tail: FakeTail) -> None:
    await join(hub)
    entries = texts(5, 1, 3)
    tail.append("g", *entries)

    reader = await join(hub, after="6-4")
    reader.pull_all()
    assert reader.contents() == []
    await reader.until(lambda: bool(reader.contents()))

    assert reader.witness.gaps == [("rewound", 1, 4)]
    assert reader.contents() == seen_by_client(entries)


async def test_while_the_log_does_not_respond_a_cursor_waits(hub: Hub, tail: FakeTail) -> None:
    await join(hub)
    tail.append("g", *texts(5, 1, 3))
    tail.is_readable.clear()

    reader = await join(hub, after="6-4")
    for _ in range(5):
        await turns()
        reader.pull_all()
    assert (reader.contents(), reader.witness.gaps, tail.rereads) == ([], [], 1)
    tail.is_readable.set()
    later = [text(6, 4), text(7, 5)]
    tail.append("g", *later)
    await reader.until_seq(5)

    assert reader.contents() == seen_by_client(later[1:])


async def test_a_read_that_ended_before_the_viewer_came_judges_no_cursor(hub: Hub, tail: FakeTail) -> None:
    await join(hub)
    tail.append("g", *texts(5, 1, 3))
    tail.sinks["g"].live()

    reader = await join(hub, after="6-4")
    reader.pull_all()

    assert (reader.contents(), reader.witness.gaps) == ([], [])


async def test_in_another_dialect_too_a_viewer_from_ahead_is_sent_nothing_twice(hub: Hub, tail: FakeTail) -> None:
    await join(hub)
    tail.append("g", *texts(5, 1, 3))
    tail.log["g"].append(text(6, 4))
    viewer = await hub.join("g", cursor=Cursor(6, 4), timeout_s=5, dialect=TallyDialect())
    assert isinstance(viewer, Viewer)
    witness = TallyWitness(last_seq=4)
    await turns()
    tail.append("g", text(7, 5))

    for _ in range(20):
        witness.feed(viewer.pull(2**16))
        await turns(1)

    assert (witness.snapshots, list(witness.sums)) == (0, [5])
