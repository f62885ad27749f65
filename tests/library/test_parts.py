"""Pieces of text and reasoning become parts that viewers' clients accept, whatever else the feed holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from broadcaster import Broadcaster
from broadcaster.core.events import Finish, TextDelta, TextStart, Usage
from broadcaster.core.fold import Fold, FoldState
from broadcaster.errors import EventTooLarge, InvalidEvent, LogUnavailable, StreamFull
from broadcaster.library.parts import Parts
from broadcaster.log.redis.connect import LogConnection
from tests.library.support import raw_events, renumbered


def folded(events: Sequence[bytes]) -> FoldState:
    fold = Fold()
    for event in events:
        fold.apply(event)
    return fold.state


def shapes(events: Sequence[bytes]) -> list[str]:
    """``text-delta 0 abc`` of each event, without the fields that it does not have."""
    read = [json.loads(event) for event in renumbered(events)]
    return [" ".join(str(each[name]) for name in ("type", "id", "delta") if name in each) for each in read]


async def test_text_and_reasoning_open_and_close_their_parts_themselves(
    broadcaster: Broadcaster, connection: LogConnection
):
    async with broadcaster.feed("job") as feed:
        await feed.reasoning("Let me ")
        await feed.reasoning("see.")
        await feed.text("")
        await feed.text("It is ")
        await feed.text("blue.")
        assert (await feed.data("cost", 3)).seq == 9
        await feed.text("Done.")
    events = await raw_events(connection, "job")
    assert shapes(events) == [
        *("reasoning-start 0", "reasoning-delta 0 Let me ", "reasoning-delta 0 see.", "reasoning-end 0"),
        *("text-start 1", "text-delta 1 It is ", "text-delta 1 blue."),
        *("text-end 1", "data-cost"),
        *("text-start 2", "text-delta 2 Done.", "text-end 2", "finish"),
    ]
    state = folded(events)
    assert (state.reasoning, state.text) == ("Let me see.", "It is blue.Done.")
    assert {part.get("state", "done") for part in state.parts} == {"done"}


async def test_parts_made_by_hand_keep_their_ids_beside_those_made_by_the_feed(
    broadcaster: Broadcaster, connection: LogConnection
):
    async with broadcaster.feed("job") as feed:
        await feed.text("mine ")
        cursors = await feed.append(TextStart(id="0"), TextDelta(id="0", delta="by hand "))
        assert [cursor.seq for cursor in cursors] == [4, 5]
        await feed.text("mine again ")
        feed.append_nowait({"type": "text-end", "id": "0"})
        await feed.put("and put")
    events = [json.loads(event) for event in await raw_events(connection, "job")]
    starts = [event["id"] for event in events if event["type"] == "text-start"]
    ends = [event["id"] for event in events if event["type"] == "text-end"]
    assert len(set(starts)) == 4
    assert sorted(starts) == sorted(ends)
    assert folded(await raw_events(connection, "job")).text == "mine by hand mine again and put"


async def test_writers_of_one_feed_never_share_a_part(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job") as first, broadcaster.feed("job", close=False) as second:
        await first.text("a")
        await second.text("b")
        await first.text("c")
        await second.text("d")
    parts = folded(await raw_events(connection, "job")).parts
    assert [(part["text"], part["state"]) for part in parts] == [("ac", "done"), ("bd", "done")]


async def test_a_block_that_fails_leaves_its_text_incomplete(broadcaster: Broadcaster, connection: LogConnection):
    with pytest.raises(ValueError, match="mine"):
        async with broadcaster.feed("job") as feed:
            await feed.text("half an")
            raise ValueError("mine")
    (part,) = folded(await raw_events(connection, "job")).parts
    assert (part["text"], part["state"]) == ("half an", "streaming")


async def test_an_end_given_by_hand_closes_the_open_part(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job") as feed:
        await feed.text("whole")
        await feed.close(Finish(finish_reason="length"))
    assert shapes(await raw_events(connection, "job"))[-2:] == ["text-end 0", "finish"]


async def test_a_refused_piece_leaves_the_open_part_as_it_was(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job") as feed:
        with pytest.raises(EventTooLarge):
            await feed.text("x" * 2_000_000)
        await feed.text("a")
        with pytest.raises(EventTooLarge):
            await feed.text("x" * 2_000_000)
        with pytest.raises(InvalidEvent):
            await feed.data("not a name", 1)
        with pytest.raises(EventTooLarge):
            await feed.data("large", "x" * 2_000_000)
        await feed.text("b")
    assert shapes(await raw_events(connection, "job")) == [
        *("text-start 1", "text-delta 1 a", "text-delta 1 b", "text-end 1", "finish")
    ]


async def test_a_full_append_has_room_for_the_end_of_a_part(broadcaster: Broadcaster, connection: LogConnection):
    notes = [{"type": "data-n", "data": number} for number in range(1000)]
    async with broadcaster.feed("job") as feed:
        await feed.text("a")
        assert len(await feed.append(*notes)) == 1000
        await feed.text("b")
        feed.append_nowait(*notes)
    events = await raw_events(connection, "job")
    assert [part["text"] for part in folded(events).parts if part["type"] == "text"] == ["a", "b"]
    assert len(events) == 2 * (3 + 1000) + 1


async def test_tasks_that_share_a_feed_share_its_open_part(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job") as feed:
        await asyncio.gather(*(feed.text(f"{number} ") for number in range(50)))
    (part,) = folded(await raw_events(connection, "job")).parts
    assert (part["text"], part["state"]) == ("".join(f"{number} " for number in range(50)), "done")


async def test_counts_between_two_pieces_leave_the_part_open(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job") as feed:
        await feed.text("a")
        await feed.append(Usage(output_tokens=1))
        feed.append_nowait({"type": "usage", "outputTokens": 2})
        await feed.text("b")
    assert shapes(await raw_events(connection, "job")) == [
        *("text-start 0", "text-delta 0 a", "usage", "usage", "text-delta 0 b", "text-end 0", "finish")
    ]


async def test_only_str_is_text(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job") as feed:
        with pytest.raises(TypeError, match=r"text is a str, not bytes: decode it first, with \.decode\(\)"):
            await feed.text(b"token")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="reasoning is a str, not int"):
            await feed.reasoning(3)  # type: ignore[arg-type]
    assert shapes(await raw_events(connection, "job")) == ["finish"]


async def test_a_text_that_does_not_fit_ends_the_feed_as_full(broadcaster: Broadcaster, connection: LogConnection):
    with pytest.raises(StreamFull):
        async with broadcaster.feed("job", max_events=3) as feed:
            await feed.text("a")
            await feed.text("b")
    assert b'"code":"stream_full"' in (await raw_events(connection, "job"))[-1]


def test_a_part_whose_start_may_be_missing_is_not_continued():
    parts = Parts()
    with pytest.raises(LogUnavailable), parts.piece("text", "a", lost=0):
        raise LogUnavailable("no reply")
    with parts.piece("text", "b", lost=0) as given:
        assert [type(event).__name__ for event in given] == ["TextStart", "TextDelta"]
    with pytest.raises(LogUnavailable), parts.piece("text", "c", lost=0):
        raise LogUnavailable("no reply")
    with parts.piece("text", "d", lost=0) as given:
        assert [type(event).__name__ for event in given] == ["TextDelta"]
    with parts.piece("text", "e", lost=1) as given:
        assert [type(event).__name__ for event in given] == ["TextStart", "TextDelta"]


async def test_the_former_name_of_data_is_refused_with_the_new_one(broadcaster: Broadcaster):
    async with broadcaster.feed("job") as feed:
        with pytest.raises(TypeError, match=r"feed\.data\(name, value\)"):
            await feed.send("progress", {"done": 1})
