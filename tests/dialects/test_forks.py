"""A fork is exact, in every dialect and at every entry: the hub keeps forks and restarts from them."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.forking import Pieces
from broadcaster.dialects import DIALECTS, NATIVE_SNAPSHOT, Dialect, Transcript
from tests.dialects.ag_ui.ag_ui_streams import STREAM_ID, STREAMS, any_stream, entries_of

TRANSCRIBED: list[Dialect] = [
    NATIVE_SNAPSHOT,
    *(each for each in DIALECTS.values() if each.open("g").chunk_alone is None),
]
every_dialect = pytest.mark.parametrize(
    "dialect", TRANSCRIBED, ids=lambda dialect: type(dialect).__name__ + dialect.name
)


def check_every_fork(dialect: Dialect, entries: list, *, views: bool) -> None:
    """Forks kept at every entry, of a transcript that is forked repeatedly; each continues later, by itself."""
    transcript, frames, kept = dialect.open(STREAM_ID), [], list[Transcript]()
    never_forked = dialect.open(STREAM_ID)
    for entry in entries:
        kept.append(transcript.fork())
        if views and not entry.is_terminal:
            kept[-1].snapshot()
        frames.append(transcript.encode([entry]))
        assert never_forked.encode([entry]) == frames[-1]
        assert transcript.last_number == never_forked.last_number
    before_end = len(entries) - entries[-1].is_terminal
    late = dialect.open(STREAM_ID)
    late.encode(entries[:before_end])
    snapshot = late.snapshot()
    for at, fork in enumerate(kept):
        if at < before_end:
            seen = fork.fork()
            seen.encode(entries[at:before_end])
            assert seen.snapshot() == snapshot
        copy = fork.fork()
        assert [copy.encode([entry]) for entry in entries[at:]] == frames[at:]
        assert fork.encode(entries[at:]) == b"".join(frames[at:])
        assert fork.last_number == copy.last_number == transcript.last_number


@every_dialect
@pytest.mark.parametrize("name", STREAMS)
def test_a_fork_at_any_entry_goes_on_as_if_there_had_been_none(dialect: Dialect, name: str) -> None:
    check_every_fork(dialect, entries_of(STREAMS[name]), views=False)


@every_dialect
@settings(max_examples=25, deadline=None)
@given(events=any_stream(), views=st.booleans())
def test_a_fork_of_any_stream_goes_on_as_if_there_had_been_none(dialect: Dialect, events: list, views: bool) -> None:
    check_every_fork(dialect, entries_of(events), views=views)


@given(pieces=st.lists(st.text(max_size=3), max_size=12), views=st.sets(st.integers(0, 12)))
def test_a_text_is_the_same_however_often_it_is_forked_and_read(pieces: list[str], views: set[int]) -> None:
    text, kept = Pieces(), list[tuple[Pieces, str]]()
    for at, piece in enumerate(pieces):
        kept.append((text.fork(), "".join(pieces[:at])))
        if at in views:
            assert text.text == "".join(pieces[:at])
        text.append(piece)
    for fork, expected in kept:
        fork.append("!")
        assert fork.text == expected + "!"
    assert text.text == "".join(pieces)


@every_dialect
def test_a_fork_of_a_long_text_copies_none_of_it(dialect: Dialect) -> None:
    transcript = dialect.open(STREAM_ID)
    transcript.encode(
        entries_of([ev.TextStart(id="0"), *(ev.TextDelta(id="0", delta=100 * "a") for _ in range(10_000))])
    )
    transcript.fork()
    tracemalloc.start()
    try:
        fork = transcript.fork()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < 16_000
    assert fork.snapshot() == transcript.snapshot()
    assert len(fork.snapshot()) > 1_000_000


def thought_without_text() -> list[ev.Event]:
    """The item of reasoning is done when the message opens, and gets its text after that."""
    return [
        ev.ReasoningStart(id="r", provider_metadata={"openai": {"itemId": "rs_1"}}),
        ev.TextStart(id="0"),
        ev.TextDelta(id="0", delta="a"),
        ev.ReasoningDelta(id="r", delta="hm"),
        ev.ReasoningEnd(id="r", provider_metadata={"openai": {"encryptedContent": "x"}}),
        ev.Finish(finish_reason="stop"),
    ]


def torn_call() -> list[ev.Event]:
    """The call is done when its step ends, and more of its input comes after that."""
    return [
        ev.StartStep(),
        ev.ToolInputStart(tool_call_id="t", tool_name="f"),
        ev.ToolInputDelta(tool_call_id="t", input_text_delta="{"),
        ev.FinishStep(),
        ev.ToolInputDelta(tool_call_id="t", input_text_delta="}"),
        ev.Finish(finish_reason="stop"),
    ]


@every_dialect
@pytest.mark.parametrize("events", [thought_without_text(), torn_call()], ids=["thought", "call"])
def test_a_fork_does_not_share_an_item_that_is_done_and_still_changes(dialect: Dialect, events: list) -> None:
    check_every_fork(dialect, entries_of(events), views=True)
