"""What a viewer gets: from any place, in any order of joining and delivering, the whole and nothing twice."""

import itertools
from itertools import starmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.dialects import NATIVE
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import StopReason
from tests.hub.support import answer, finish, join, seen_by_client, text, texts, turns


@pytest.mark.parametrize("seen", range(7))
async def test_prefix_and_resume_are_the_whole_for_every_cursor(hub, tail, seen):
    whole = answer(8)
    tail.log["g"] = whole
    reader = await join(hub, after=f"5-{seen}" if seen else None)
    await reader.until_over()
    assert seen_by_client(whole[:seen]) + reader.contents() == seen_by_client(whole)
    assert reader.viewer.stop_reason is StopReason.TERMINAL
    assert reader.witness.gaps == []


async def test_a_viewer_that_has_the_terminal_event_joins_nothing(hub, tail):
    tail.log["g"] = answer(3)
    assert await hub.join("g", cursor=Cursor(5, 3), timeout_s=1) == Finished(Cursor(5, 3))


@pytest.mark.parametrize("order", sorted(set(itertools.permutations("jjddd"))))
@pytest.mark.parametrize("pulls", ["always", "at the end"])
async def test_every_order_of_joining_and_delivering_gives_all_viewers_the_whole(hub, tail, order, pulls):
    whole = answer(6)
    batches = iter([whole[:1], whole[1:3], whole[3:]])
    await join(hub)  # keeps the room open from the first
    readers = []
    for step in order:
        if step == "j":
            readers.append(await join(hub))
        else:
            tail.append("g", *next(batches))
        if pulls == "always":
            await turns()
            for reader in readers:
                reader.pull_all()
    for reader in readers:
        await reader.until_over()
        assert reader.contents() == seen_by_client(whole)
        assert reader.witness.gaps == []


async def test_the_first_block_has_hello_the_retry_and_live(hub):
    reader = await join(hub)
    (chunk,) = reader.pull_all()
    assert chunk.startswith(b"event: hub.hello\nretry: ")
    assert reader.witness.notices == [("hub.hello", {"id": "g", "status": "queued"}), ("hub.live", {})]
    (retry_ms,) = reader.witness.retries_ms
    assert hub.limits.retry_ms <= retry_ms <= 2 * hub.limits.retry_ms


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (text(5, 2), "running"),
        (finish(5, 2), "finished"),
        (text(5, 2)._replace(event=b'{"type":"error","errorText":"x"}'), "failed"),
        (text(5, 2)._replace(event=b'{"type":"abort"}'), "aborted"),
    ],
)
async def test_hello_has_the_status_of_the_stream(hub, tail, last, status):
    tail.log["g"] = [text(5, 1), last]
    reader = await join(hub)
    reader.pull_all()
    assert reader.witness.notices[0] == ("hub.hello", {"id": "g", "status": status})


async def test_live_is_sent_once_after_the_replay(hub, tail):
    tail.log["g"] = texts(5, 1, 3)
    reader = await join(hub)
    chunks = reader.pull_all()
    assert [chunk.split(b"\n")[0] for chunk in chunks] == [b"event: hub.hello", b"id: 5-1", b"event: hub.live"]
    tail.append("g", text(5, 4))
    tail.sinks["g"].live()
    reader.pull_all()
    assert reader.witness.names == ["hub.hello", "hub.live"]


async def test_a_finished_stream_is_replayed_without_a_live_notice(hub, tail):
    tail.log["g"] = answer(3)
    reader = await join(hub)
    await reader.until_over()
    assert reader.witness.names == ["hub.hello"]
    assert reader.viewer.ends_cleanly


async def test_viewers_at_the_same_place_get_the_same_bytes_object(hub, tail):
    one, two = await join(hub), await join(hub)
    for reader in (one, two):
        reader.pull_all()
    tail.append("g", text(5, 1), text(5, 2))
    tail.append("g", text(5, 3))
    (first,), (second,) = one.pull_all(), two.pull_all()
    assert first is second
    assert first == b"".join(starmap(NATIVE.frame, texts(5, 1, 3)))


async def test_everything_delivered_in_one_turn_wakes_once_and_is_one_chunk(hub, tail):
    reader = await join(hub)
    reader.pull_all()
    for seq in range(1, 51):
        tail.append("g", text(5, seq))
    assert await reader.viewer.wait(1)
    assert len(reader.pull_all()) == 1


async def test_a_large_event_is_cut_into_pieces_that_fit(hub, tail):
    tail.log["g"] = [text(5, 1, size=200_000), text(5, 2)]
    reader = await join(hub)
    reader.pull_all(max_bytes=1000)
    assert reader.contents() == seen_by_client(tail.log["g"])


async def test_a_trimmed_past_is_sent_with_its_range(hub, tail):
    tail.log["g"] = texts(5, 4, 6)
    late, resuming, in_time = await join(hub), await join(hub, after="5-2"), await join(hub, after="5-3")
    for reader in (late, resuming, in_time):
        reader.pull_all()
        assert reader.contents() == seen_by_client(tail.log["g"])
    assert late.witness.gaps == [("trimmed", 1, 3)]
    assert late.witness.gap_ids == ["5-3"]
    assert resuming.witness.gaps == [("trimmed", 3, 3)]
    assert in_time.witness.gaps == []


async def test_a_gap_in_the_live_tail_serves_first_what_is_at_hand(hub, tail):
    reader = await join(hub)
    tail.append("g", *texts(5, 1, 3))
    tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(5, 9), 4, 9))
    reader.pull_all()
    assert reader.witness.gaps == [("trimmed", 4, 9)]  # sent though nothing follows yet
    tail.append("g", text(5, 10))
    reader.pull_all()
    assert list(reader.witness.entries) == [1, 2, 3, 10]


async def test_a_log_that_expired_under_its_viewers_ends_with_the_terminal_that_is_known(hub, tail):
    tail.log["g"] = texts(5, 1, 2)
    reader = await join(hub)
    reader.pull_all()
    tail.sinks["g"].gap(Gap(GapReason.EXPIRED, Cursor(5, 8), 3, 8))
    tail.sinks["g"].deliver([finish(5, 9)])
    await reader.until_over()
    assert reader.witness.gaps == [("expired", 3, 8)]
    assert reader.witness.has_ended


async def test_a_rewind_reaches_the_viewers_past_it_and_no_other(hub, tail):
    tail.log["g"] = texts(5, 1, 6)
    past, behind = await join(hub), await join(hub, after="5-2")
    past.pull_all()
    behind.viewer.pull(2**16)  # hello only
    tail.sinks["g"].rewound(Cursor(5, 4))
    tail.sinks["g"].deliver([text(7, 5), text(7, 6)])
    kept = [*texts(5, 1, 4), text(7, 5), text(7, 6)]
    past.pull_all()
    assert past.witness.gaps == [("rewound", 5, 6)]
    assert past.witness.gap_ids == ["5-4"]
    assert past.contents() == seen_by_client(kept)
    behind.witness.notices.append(("hub.hello", {}))  # was pulled above
    behind.pull_all()
    assert behind.witness.gaps == []
    assert behind.contents() == seen_by_client(kept[2:])


async def test_several_rewinds_between_two_pulls_are_one_gap(hub, tail):
    tail.log["g"] = texts(5, 1, 9)
    reader = await join(hub)
    reader.pull_all()
    sink = tail.sinks["g"]
    sink.rewound(Cursor(5, 6))
    sink.deliver(texts(6, 7, 8))
    sink.rewound(Cursor(5, 3))
    sink.deliver(texts(7, 4, 5))
    sink.rewound(Cursor(7, 4))
    sink.deliver(texts(8, 5, 6))
    reader.pull_all()
    assert reader.witness.gaps == [("rewound", 4, 9)]
    assert reader.contents() == seen_by_client([*texts(5, 1, 3), text(7, 4), *texts(8, 5, 6)])


async def test_an_unsent_gap_does_not_count_as_seen_when_all_is_rewound(hub, tail):
    tail.log["g"] = texts(5, 4, 6)
    fresh, resuming = await join(hub), await join(hub, after="5-2")
    tail.sinks["g"].rewound(Cursor(0, 0))
    tail.sinks["g"].deliver([text(9, 1)])
    for reader, gaps in ((fresh, []), (resuming, [("reset", 1, 2)])):
        reader.pull_all()
        assert reader.witness.gaps == gaps
        assert reader.contents() == seen_by_client([text(9, 1)])


async def test_a_stream_created_anew_is_sent_as_a_reset(hub, tail):
    tail.log["g"] = texts(5, 1, 3)
    reader = await join(hub)
    reader.pull_all()
    tail.sinks["g"].rewound(Cursor(0, 0))
    tail.sinks["g"].deliver([text(9, 1)])
    reader.pull_all()
    assert reader.witness.gaps == [("reset", 1, 3)]
    assert reader.witness.gap_ids == ["0-0"]
    assert reader.contents() == seen_by_client([text(9, 1)])


async def test_a_rewind_takes_back_the_terminal(hub, tail):
    tail.log["g"] = answer(4)
    reader = await join(hub, after="5-1")
    reader.pull_all(max_bytes=2**16)
    assert reader.viewer.is_over
    other = await join(hub, after="5-2")
    tail.sinks["g"].rewound(Cursor(5, 2))
    other.pull_all()
    assert not other.viewer.is_over
    tail.sinks["g"].deliver([text(6, 3), finish(6, 4)])
    await other.until_over()
    assert list(other.witness.entries) == [3, 4]


async def test_a_cursor_ahead_waits_until_the_log_passes_it(hub, tail):
    tail.log["g"] = texts(5, 1, 2)
    reader = await join(hub, after="5-4")
    reader.pull_all()
    assert reader.witness.names == ["hub.hello"]
    tail.append("g", text(5, 3))
    assert reader.pull_all() == []
    tail.append("g", text(5, 4), text(5, 5))
    reader.pull_all()
    assert reader.contents() == seen_by_client([text(5, 5)])
    assert reader.witness.names == ["hub.hello", "hub.live"]


async def test_a_cursor_ahead_receives_a_rewind_when_a_newer_epoch_shows(hub, tail):
    tail.log["g"] = texts(5, 1, 2)
    reader = await join(hub, after="5-4")
    reader.pull_all()
    tail.append("g", text(6, 3))
    reader.pull_all()
    assert reader.witness.gaps == [("rewound", 1, 4)]
    assert reader.witness.gap_ids == ["5-0"]
    assert reader.contents() == seen_by_client([*texts(5, 1, 2), text(6, 3)])


async def test_a_cursor_ahead_that_turns_out_to_be_the_terminal_is_over(hub, tail):
    tail.log["g"] = texts(5, 1, 2)
    reader = await join(hub, after="5-3")
    reader.pull_all()
    tail.append("g", finish(5, 3))
    await reader.until_over()
    assert reader.contents() == []
    assert reader.viewer.stop_reason is StopReason.TERMINAL


async def test_a_cursor_on_an_empty_log_is_judged_when_entries_come(hub, tail):
    resent, other = await join(hub, after="5-2"), await join(hub, after="3-2")
    for reader in (resent, other):
        reader.pull_all()
        assert reader.witness.notices == [("hub.hello", {"id": "g", "status": "queued"})]
    tail.append("g", *texts(5, 1, 3))
    for reader in (resent, other):
        reader.pull_all()
    assert resent.contents() == seen_by_client([text(5, 3)])
    assert other.witness.gaps == [("reset", 1, 2)]
    assert other.contents() == seen_by_client(texts(5, 1, 3))


async def test_a_stall_is_sent_once_and_its_end_too(hub, tail):
    reader, late = await join(hub), await join(hub)
    reader.pull_all()
    for _ in range(2):
        tail.sinks["g"].stalled(StallReason.WORKER_LOST)
        reader.pull_all()
    late.pull_all()
    tail.sinks["g"].stalled(None)
    for each in (reader, late):
        each.pull_all()
        stalls = [notice for notice in each.witness.notices if notice[0] == "hub.stalled"]
        assert stalls == [("hub.stalled", {"reason": "worker_lost"}), ("hub.stalled", {"reason": None})]


async def test_no_viewer_is_sent_live_while_the_log_does_not_respond(hub, tail):
    await join(hub)
    tail.sinks["g"].stalled(StallReason.LOG_UNAVAILABLE)
    reader = await join(hub)
    reader.pull_all()
    assert reader.witness.names == ["hub.hello", "hub.stalled"]
    tail.sinks["g"].stalled(None)
    reader.pull_all()
    assert reader.witness.names == ["hub.hello", "hub.stalled", "hub.stalled", "hub.live"]


@given(event=st.binary(max_size=40))
def test_a_frame_cannot_be_forged_by_what_an_event_holds(event):
    frame = NATIVE.frame(5, 1, event)
    assert frame.endswith(b"\n\n")
    lines = frame.removesuffix(b"\n\n").replace(b"\r", b"\n").split(b"\n")
    assert lines[0] == b"id: 5-1"
    assert all(line.startswith(b"data: ") for line in lines[1:])
