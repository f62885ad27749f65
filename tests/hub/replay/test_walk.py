"""A transcript that reads copied deltas late is the transcript that has read each at once."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects import Dialect
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect
from broadcaster.dialects.delta_template import LONGEST_FRAMES
from broadcaster.dialects.openai_responses.encode import ResponsesDialect
from broadcaster.hub.replay.checkpoints import Checkpoint
from broadcaster.hub.replay.walk import MOST_COPIED, MOST_TRIES, Walk
from tests.dialects.delta_streams import delta_streams
from tests.dialects.test_delta_template import BEGIN, every_dialect
from tests.support.memory.tally_dialect import TallyDialect


def walk_of(dialect: Dialect) -> Walk:
    return Walk(Mock(), Checkpoint(0, dialect.open("g")))


def send(walk: Walk, epoch: int, last_seq: int, events: list[bytes]) -> tuple[bytes, bool]:
    """The frames of live events, and whether they were copied."""
    copied = walk.copy(epoch, last_seq, events)
    return (walk.encode_live(epoch, last_seq, events), False) if copied is None else (copied, True)


@every_dialect
@settings(max_examples=40, deadline=None)
@given(entries=delta_streams(), data=st.data())
def test_live_frames_and_what_stays_of_them_do_not_depend_on_copying(
    dialect: Dialect, entries: list[Entry], data: st.DataObject
) -> None:
    walk, witness, at = walk_of(dialect), dialect.open("g"), 0
    while at < len(entries):
        pushed = entries[at : at + data.draw(st.sampled_from([1, 1, 1, 2, 4]))]
        pushed = [entry for entry in pushed if entry.epoch == pushed[0].epoch]
        at += len(pushed)
        frames, _ = send(walk, pushed[0].epoch, pushed[-1].seq, [entry.event for entry in pushed])
        assert frames == witness.encode(pushed)
        assert walk.seq == pushed[-1].seq
        if data.draw(st.integers(0, 5)) == 0:
            kept = walk.checkpoint()
            assert kept.transcript.snapshot() == witness.fork().snapshot()
            assert kept.transcript.last_number == witness.last_number
            assert kept.encoded_bytes == sum(len(entry.event) for entry in entries[:at])
    assert walk.transcript.snapshot() == witness.snapshot()
    assert walk.encoded_bytes == sum(len(entry.event) for entry in entries)


def test_deltas_of_one_part_are_copied_from_the_third_on_and_read_by_the_transcript_in_bounded_numbers() -> None:
    walk, encodes = walk_of(AiSdkDialect()), 0
    send(walk, 5, 3, [ev.encode_event(event) for event in BEGIN[:3]])
    for number in range(1, 2 + 2 * (MOST_COPIED + 1)):
        _, was_copied = send(walk, 5, 3 + number, [ev.encode_event(ev.TextDelta(id="0", delta=f"{number} "))])
        assert was_copied or number <= 2 or not walk._copied
        encodes += not was_copied
        assert len(walk._copied) <= MOST_COPIED
    assert encodes == 2 + 1


def copying() -> Walk:
    """One whose next deltas are copied, from seq 6 on."""
    walk = walk_of(AiSdkDialect())
    for seq, event in enumerate([*BEGIN, ev.TextDelta(id="0", delta="you")], 1):
        send(walk, 5, seq, [ev.encode_event(event)])
    return walk


def test_a_push_of_more_deltas_than_may_wait_is_encoded() -> None:
    walk = copying()
    pushed = [ev.encode_event(ev.TextDelta(id="0", delta=f"{number}")) for number in range(MOST_COPIED + 1)]
    assert not send(walk, 5, 5 + len(pushed), pushed)[1]
    assert not walk._copied
    assert send(walk, 5, 5 + len(pushed) + MOST_COPIED, pushed[1:])[1]


def test_reading_the_transcript_does_not_put_off_the_next_event_that_is_encoded() -> None:
    walk, encodes = copying(), 0
    for seq in range(6, 6 + 10 * (MOST_COPIED + 1)):
        encodes += not send(walk, 5, seq, [ev.encode_event(ev.TextDelta(id="0", delta=f"{seq} "))])[1]
        assert walk.transcript.last_number == -1
    assert encodes == 10


def test_nothing_is_learned_from_long_frames() -> None:
    """A Response that begins with a delta opens in the same frames, with all that its request has."""
    walk = walk_of(ResponsesDialect(echo='{"instructions":"%s"}' % ("x" * LONGEST_FRAMES)))
    send(walk, 5, 1, [ev.encode_event(ev.TextDelta(id="0", delta="Hello"))])
    assert walk._candidate is None
    send(walk, 5, 2, [ev.encode_event(ev.TextDelta(id="0", delta="you"))])
    assert walk._candidate is not None


@pytest.mark.parametrize("between", [ev.TextEnd(id="0"), ev.Usage(input_tokens=1), ev.ToolInputStart("c", "t")])
def test_another_event_ends_the_copying_until_deltas_follow_each_other_anew(between: ev.Event) -> None:
    walk = walk_of(AiSdkDialect())
    deltas: list[ev.Event] = [ev.TextDelta(id="0", delta=text) for text in "abc"]
    copied = [
        send(walk, 5, seq, [ev.encode_event(event)])[1]
        for seq, event in enumerate([*BEGIN, *deltas, between, *deltas], 1)
    ]
    # Behind its end the text opens anew: the frames of the next delta are not those of the ones behind it.
    assert copied == [*[False] * 5, True, True, False, False, False, not isinstance(between, ev.TextEnd)]


def test_a_dialect_without_a_template_is_tried_a_few_times_only() -> None:
    walk = walk_of(TallyDialect())
    for seq in range(1, 100):
        before = walk._candidate
        _, was_copied = send(walk, 5, seq, [ev.encode_event(ev.TextDelta(id="0", delta=f"{seq} "))])
        assert not was_copied
        assert (walk._candidate is not before) == (seq <= MOST_TRIES)
