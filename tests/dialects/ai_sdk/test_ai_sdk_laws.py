"""The UI message stream: what holds for every stream, at every entry, for the clients of both versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect, Version
from tests.dialects.ai_sdk.ai_sdk_client import Client, Json
from tests.dialects.ai_sdk.ai_sdk_streams import ANSWERS, STREAM_ID, attempts, blocks_of, log_of, logs

both = pytest.mark.parametrize("version", [6, 7])
every_answer = pytest.mark.parametrize("name", ANSWERS)


def seen(version: Version, stream: bytes) -> tuple[Json, str | None, bool, bool, str | None]:
    """What the page shows and knows in the end."""
    client = Client(version).read(stream)
    return client.message, client.error, client.is_aborted, client.is_done, client.finish_reason


def visible_parts(client: Client) -> list[Json]:
    """The parts; a step that stands empty shows nothing."""
    return [] if all(part["type"] == "step-start" for part in client.parts) else client.parts


def check_every_boundary(log: list[Entry], version: Version) -> None:
    dialect = AiSdkDialect(version=version)
    whole = dialect.open(STREAM_ID).encode(log)
    expected = seen(version, whole)
    for k in range(len(log)):
        early = dialect.open(STREAM_ID)
        before = early.encode(log[:k])
        late = early.fork()
        snapshot = late.snapshot()
        rest = late.encode(log[k:])
        assert before + rest == whole  # associative, whatever was requested of the fork
        assert early.encode(log[k:]) == rest
        assert seen(version, snapshot + rest) == expected, f"joined after {k}"


@both
@every_answer
def test_a_late_joiner_at_any_entry_sees_what_all_viewers_see(name: str, version: Version) -> None:
    check_every_boundary(log_of(ANSWERS[name]), version)


@both
@given(log=logs)
def test_a_late_joiner_of_any_stream_sees_what_all_viewers_see(version: Version, log: list[Entry]) -> None:
    check_every_boundary(log, version)


@both
@given(first=attempts, second=logs, cut=st.integers(0, 14))
def test_a_new_attempt_shows_itself_alone(version: Version, first: list, second: list[Entry], cut: int) -> None:
    """Live viewers see it alone, or an error; a client that fetches the stream anew sees it alone."""
    visible = [ev.decode_event(entry.event) for entry in second]
    log = log_of([*first, ev.Attempt(attempt=2), *visible])
    at = len(first) + 1
    alone = AiSdkDialect(version=version).open(STREAM_ID).encode(second)
    live = Client(version).read(AiSdkDialect(version=version).open(STREAM_ID).encode(log))
    expected = Client(version).read(alone)
    if live.error is None or live.error == expected.error:
        assert visible_parts(live) == visible_parts(expected)
    else:
        assert "begins again" in live.error
    k = at + min(cut, len(second) - 1)
    late = AiSdkDialect(version=version).open(STREAM_ID)
    late.encode(log[:k])
    joined = Client(version).read(late.snapshot() + late.encode(log[k:]))
    assert visible_parts(joined) == visible_parts(expected)
    assert (joined.error, joined.is_aborted, joined.is_done) == (expected.error, expected.is_aborted, expected.is_done)
    assert joined.id == (expected.id or joined.id)


@both
@given(log=logs)
def test_ids_stand_on_the_last_block_of_an_entry_and_change_nothing_else(version: Version, log: list[Entry]) -> None:
    plain, numbered = (AiSdkDialect(version=version, ids=ids).open(STREAM_ID) for ids in (False, True))
    for entry in log:
        without, blocks = plain.encode([entry]), blocks_of(numbered.encode([entry]))
        assert b"id:" not in without
        assert [data for _, data in blocks] == [data for _, data in blocks_of(without)]
        assert [id for id, _ in blocks] == [""] * (len(blocks) - 1) + [str(entry.cursor)] * bool(blocks)


@both
def test_the_opening_of_ten_thousand_deltas_is_short(version: Version) -> None:
    deltas: list[ev.Event] = [ev.TextDelta(id="0", delta=f"word{n} ") for n in range(10_000)]
    transcript = AiSdkDialect(version=version).open(STREAM_ID)
    replay = transcript.encode(log_of([ev.Start(), ev.StartStep(), ev.TextStart(id="0"), *deltas]))
    text = sum(len(event.delta) for event in deltas if isinstance(event, ev.TextDelta))
    assert len(transcript.snapshot()) - text <= 0.03 * (len(replay) - text)
    assert len(blocks_of(transcript.snapshot())) == 4
