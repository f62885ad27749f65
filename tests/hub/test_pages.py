"""What is no longer in memory: rings are bounded, and viewers that need the past read it in shared pages."""

import asyncio
import dataclasses

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason
from broadcaster.errors import LogUnavailable
from broadcaster.hub import pages
from broadcaster.hub.hub import Hub
from broadcaster.hub.ring import SEGMENT_BYTES
from broadcaster.hub.stop_reasons import StopReason
from tests.hub.conftest import LIMITS
from tests.hub.support import Reader, answer, join, seen_by_client, text, texts, turns

ROOM_BYTES = 2**18
SLACK_BYTES = 3 * SEGMENT_BYTES  # the newest segment and its chunks are always held


@pytest.fixture
def hub(open_hub):
    return open_hub(dataclasses.replace(LIMITS, room_bytes=ROOM_BYTES))


async def test_a_room_keeps_its_bound_however_large_the_events_are_and_no_viewer_misses_any(hub, tail):
    live, late = await join(hub), await join(hub)
    for number in range(10):
        tail.append("g", *texts(5, 20 * number + 1, 20 * number + 20, size=10_000))
        assert hub.statistics().bytes <= ROOM_BYTES + SLACK_BYTES
        live.pull_all()
        assert hub.statistics().bytes <= ROOM_BYTES + SLACK_BYTES
    assert tail.pages == []
    await late.until_seq(200)
    assert live.contents() == late.contents() == seen_by_client(tail.log["g"])
    assert late.witness.gaps == []
    assert tail.pages != []
    assert hub.statistics().bytes <= ROOM_BYTES + SLACK_BYTES


async def test_an_event_larger_than_the_room_is_still_delivered(hub, tail):
    reader = await join(hub)
    tail.append("g", text(5, 1, size=2 * ROOM_BYTES))
    tail.append("g", text(5, 2))
    await reader.until_seq(2)
    assert reader.contents() == seen_by_client(tail.log["g"])


async def test_200_late_joiners_cost_one_history_read_and_one_read_per_page(hub, tail):
    tail.log["g"] = texts(5, 1, 300, size=1_000)  # the ring holds the newest 200 or so
    tail.is_readable.clear()
    joining = [asyncio.create_task(join(hub)) for _ in range(200)]
    await turns()
    tail.is_readable.set()
    readers = await asyncio.gather(*joining)
    assert tail.histories == ["g"]
    async with asyncio.timeout(20):
        await asyncio.gather(*(reader.until_seq(300) for reader in readers))
    for reader in readers:
        assert reader.contents() == seen_by_client(tail.log["g"])
    assert tail.pages[0] == (Cursor(5, 0), 32)
    assert len(set(tail.pages)) == len(tail.pages)


async def test_viewers_that_come_to_a_page_a_little_later_find_it_warm(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, room_bytes=2**20))
    tail.log["g"] = texts(5, 1, 600, size=5_000)
    first = await join(hub)
    await first.until_seq(1)
    second = await join(hub)
    second.pull_all()
    assert second.contents() == first.contents() == seen_by_client(tail.log["g"][:8])
    assert len(tail.pages) == 1


async def first_read(reader: Reader) -> None:
    """Until the reader has requested a page."""
    reader.pull_all()
    await turns()


async def trimmed_reader(hub, tail) -> Reader:
    """A reader that needs a page of a log that was trimmed since the room was filled."""
    tail.log["g"] = texts(5, 1, 100, size=5_000)
    reader = await join(hub)
    tail.log["g"] = tail.log["g"][30:]
    return reader


async def test_a_page_that_was_trimmed_meanwhile_is_sent_as_a_gap(hub, tail):
    reader = await trimmed_reader(hub, tail)
    await reader.until_seq(100)
    assert reader.witness.gaps == [("trimmed", 1, 30)]
    assert reader.contents() == seen_by_client(tail.log["g"])


async def test_a_log_that_vanished_stops_its_viewers_resumably(hub, tail):
    reader = await trimmed_reader(hub, tail)
    tail.log["g"].clear()
    await reader.until_over()
    assert reader.viewer.stop_reason is StopReason.LOG_GONE
    assert reader.witness.notices[-1] == ("hub.bye", {"reason": "log_gone", "reconnect": True})
    assert reader.contents() == []


async def test_a_log_that_was_replaced_is_not_believed(hub, tail):
    reader = await trimmed_reader(hub, tail)
    tail.log["g"] = texts(9, 1, 100)
    await reader.until_over()
    assert reader.viewer.stop_reason is StopReason.LOG_GONE
    assert reader.contents() == []


async def test_a_page_is_believed_up_to_where_it_contradicts_the_feed(hub, tail):
    tail.log["g"] = texts(5, 1, 100, size=5_000)
    reader = await join(hub)
    tail.log["g"] = [*tail.log["g"][:20], *texts(9, 21, 100)]
    await reader.until_over()
    assert reader.contents() == seen_by_client(tail.log["g"][:20])
    assert reader.viewer.stop_reason is StopReason.LOG_GONE


@pytest.mark.parametrize(("size", "entries"), [(1, pages.PAGE_ENTRIES), (30_000, 2), (300_000, 1)])
async def test_small_events_are_read_many_at_once_and_large_ones_few(hub, tail, size, entries):
    tail.log["g"] = texts(5, 1, 10 + 2**19 // (size + 160), size=size)
    reader = await join(hub)
    await reader.until_seq(1)
    assert tail.pages[0] == (Cursor(5, 0), entries)


async def test_while_the_log_does_not_respond_stragglers_wait(hub, tail, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_RETRY_S", 0.001)
    tail.log["g"] = texts(5, 1, 100, size=5_000)
    reader = await join(hub)
    tail.fault = LogUnavailable("away")
    await reader.until(lambda: len(tail.pages) > 2)
    assert reader.witness.entries == {}
    tail.fault = None
    await reader.until_seq(100)
    assert reader.contents() == seen_by_client(tail.log["g"])


async def test_a_fault_of_the_reader_stops_its_viewers_resumably_and_is_logged(hub, tail, caplog):
    tail.log["g"] = texts(5, 1, 100, size=5_000)
    reader = await join(hub)
    tail.fault = ValueError("a broken entry")
    await reader.until_over()
    assert reader.viewer.stop_reason is StopReason.LOG_GONE
    assert "a broken entry" in caplog.text


async def test_a_rewind_during_a_page_read_voids_the_page(hub, tail):
    tail.log["g"] = texts(5, 1, 100, size=5_000)
    reader = await join(hub)
    tail.is_readable.clear()
    await first_read(reader)
    tail.log["g"] = [*texts(5, 1, 10, size=5_000), *texts(7, 11, 20)]
    tail.sinks["g"].rewound(Cursor(5, 10))
    tail.sinks["g"].deliver(texts(7, 11, 20))
    tail.is_readable.set()
    await reader.until_seq(20)
    assert reader.contents() == seen_by_client(tail.log["g"])
    assert reader.witness.gaps == []


async def test_a_rewind_voids_pages_that_are_kept_and_pages_that_are_not_pulled_yet(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, room_bytes=2**20))
    tail.log["g"] = texts(5, 1, 600, size=5_000)
    first = await join(hub)
    await first.until_seq(8)  # the page 1 to 8 is kept
    late, waiting = await join(hub), await join(hub, after="5-8")
    waiting.pull_all()
    async with asyncio.timeout(20):
        await waiting.viewer.wait(5)  # has the page 9 to 16, and has not pulled it
    tail.log["g"] = [*texts(5, 1, 4, size=5_000), *texts(7, 5, 20)]
    tail.sinks["g"].rewound(Cursor(5, 4))
    tail.sinks["g"].deliver(texts(7, 5, 20))
    for reader in (first, late):
        await reader.until_seq(20)
        assert reader.contents() == seen_by_client(tail.log["g"])
    await waiting.until_seq(20)
    assert waiting.contents() == seen_by_client(texts(7, 5, 20))
    assert waiting.witness.gaps == [("rewound", 5, 8)]


async def test_a_gap_during_a_page_read_reaches_the_viewers_that_wait_for_it(hub, tail):
    tail.log["g"] = texts(5, 1, 100, size=5_000)
    reader = await join(hub)
    tail.is_readable.clear()
    await first_read(reader)
    tail.log["g"].clear()
    tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(5, 120), 101, 120))
    tail.is_readable.set()
    await reader.until_seq(120)
    await turns(10)
    reader.pull_all()
    assert reader.witness.gaps == [("trimmed", 1, 120)]
    assert not reader.viewer.is_over


async def test_a_reader_that_left_while_it_waited_is_not_served(hub, tail):
    tail.log["g"] = answer(100, size=5_000)
    reader = await join(hub)
    tail.is_readable.clear()
    await first_read(reader)
    reader.viewer.leave()
    tail.is_readable.set()
    await turns(10)
    assert reader.pull_all() == []
    assert hub.statistics().stopped == {StopReason.CLIENT_GONE: 1}


async def test_page_reads_are_bounded_over_all_rooms(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, room_bytes=ROOM_BYTES, page_reads=2))
    for name in "abcd":
        tail.log[name] = texts(5, 1, 100, size=5_000)
    readers = [await join(hub, name) for name in "abcd"]
    tail.is_readable.clear()
    for reader in readers:
        await first_read(reader)
    assert len(tail.pages) == 2
    tail.is_readable.set()
    for reader in readers:
        await reader.until_seq(100)


@pytest.mark.usefixtures("unpaced")
async def test_all_rooms_together_keep_the_hubs_bound(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, room_bytes=ROOM_BYTES, hub_bytes=2 * ROOM_BYTES))
    readers = [await join(hub, name) for name in "abcdef"]
    for first in range(1, 200, 10):
        for name in "abcdef":
            tail.append(name, *texts(5, first, first + 9, size=5_000))
        await turns()
        assert hub.statistics().bytes <= 2 * ROOM_BYTES
    for name, reader in zip("abcdef", readers, strict=True):
        await reader.until_seq(200)
        assert reader.contents() == seen_by_client(tail.log[name])


@pytest.mark.usefixtures("unpaced")
async def test_unwatched_rooms_make_place_first(open_hub, tail):
    hub = open_hub(dataclasses.replace(LIMITS, room_bytes=ROOM_BYTES, hub_bytes=2 * ROOM_BYTES))
    tail.log["left"] = texts(5, 1, 40, size=5_000)
    (await join(hub, "left")).viewer.leave()
    for name in "ab":
        tail.log[name] = texts(5, 1, 40, size=5_000)
        await join(hub, name)
    await turns()
    assert sorted(tail.sinks) == ["a", "b"]


async def test_a_viewer_that_joins_the_read_of_a_page_receives_what_came_after_the_read_began(open_hub, tail):
    hub = open_hub()
    tail.append("g", *texts(5, 1, 290))
    first, second = await join(hub, after="5-270"), await join(hub, after="5-290")
    second.pull_all()
    shed_all(hub)
    tail.is_readable.clear()
    first.pull_all()  # requests the page from 257 on, of which 290 is the last entry now
    await turns()
    assert len(tail.pages) == 1
    tail.append("g", *texts(5, 291, 300))
    shed_all(hub)
    second.pull_all()
    await turns()
    tail.is_readable.set()
    await second.until_seq(300)
    assert second.viewer.stop_reason is None


def shed_all(hub: Hub) -> None:
    """What a hub beyond its bytes does to a room."""
    while hub._tenancies["g"].room.drop_oldest():
        pass
