"""Responses encode: the numbers of a history that took the place of another one, which Redis lost."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.openai_responses.encode import NUMBERS_PER_MS, RESPONSES, ResponsesDialect
from tests.dialects.openai_responses.responses_reading import CREATED_MS, STREAM, final, folded, raw_events
from tests.dialects.openai_responses.responses_wire import Json

ECHO: Final = ResponsesDialect(echo=f'{{"created_at":{CREATED_MS // 1000}}}')
MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Of JavaScript."""
A_DAY_MS: Final = 86_400_000
BEGIN: Final[list[ev.Event]] = [ev.Start(), ev.StartStep(), ev.TextStart(id="0")]
END: Final[list[ev.Event]] = [ev.TextEnd(id="0"), ev.FinishStep(finish_reason="stop"), ev.Finish(finish_reason="stop")]


def letters(text: str) -> list[ev.Event]:
    return [ev.TextDelta(id="0", delta=letter) for letter in text]


def log(*epochs: tuple[int, list[ev.Event]], kept: int = 0, of: list[Entry] | None = None) -> list[Entry]:
    """The first ``kept`` entries of another log, then events under their epochs (ms after its creation)."""
    entries = (of or [])[:kept]
    for after_ms, events in epochs:
        for event in events:
            entries.append(Entry(CREATED_MS + after_ms, len(entries) + 1, ev.encode_event(event)))
    return entries


def events_of(entries: list[Entry], dialect: ResponsesDialect = ECHO) -> list[Json]:
    return raw_events(dialect.open(STREAM).encode(entries))


def numbers_of(entries: list[Entry]) -> list[int]:
    return [event["sequence_number"] for event in events_of(entries)]


def text_of(events: list[Json]) -> str:
    return "".join(folded(events)["texts"])


def test_the_first_attempt_is_numbered_densely_from_0_whenever_it_begins():
    for after_ms in (0, 1, 999, A_DAY_MS):
        entries = log((after_ms, [*BEGIN, *letters("Hello"), *END]))
        assert numbers_of(entries) == list(range(len(events_of(entries))))


def test_a_newer_epoch_begins_by_the_milliseconds_since_the_creation():
    entries = log((3, [*BEGIN, *letters("Hel")]), (2_003, [ev.Attempt(attempt=2), *BEGIN, *letters("Again"), *END]))
    numbers = numbers_of(entries)
    assert numbers[:7] == [*range(7)]
    assert numbers[7] == 2_003 * NUMBERS_PER_MS
    assert numbers[7:] == [*range(numbers[7], numbers[7] + len(numbers) - 7)]


@pytest.mark.parametrize("kept", range(10))
@pytest.mark.parametrize("lost_attempts", [1, 2])
def test_a_client_of_the_lost_history_ends_with_the_whole_text_of_the_newer_one(kept: int, lost_attempts: int):
    """It is cut off after any event, and resumes by that number: at the rebased log, at any front-end."""
    second = (40, [ev.Attempt(attempt=2), *BEGIN, *letters("and lost")])
    lost = log((2, [*BEGIN, *letters("so far")]), *[second][: lost_attempts - 1])
    anew = log((90, [ev.Attempt(attempt=3), *BEGIN, *letters("a new one"), *END]), kept=kept, of=lost)
    newer = events_of(anew)
    for at, event in enumerate(sent := events_of(lost)):
        rest = [each for each in newer if each["sequence_number"] > event["sequence_number"]]
        assert text_of(sent[: at + 1] + rest) == "a new one", event


def test_a_log_that_was_lost_from_its_first_entry_on_is_numbered_above_it_too():
    lost = log((2, [*BEGIN, *letters("first")]), (40, [ev.Attempt(attempt=2), *BEGIN, *letters("second")]))
    anew = log((90, [ev.Attempt(attempt=2), *BEGIN, *letters("third"), *END]))
    assert min(numbers_of(anew)) > max(numbers_of(lost))
    assert [event["type"] for event in events_of(anew)][:2] == ["response.created", "response.in_progress"]


def test_an_end_that_no_worker_wrote_lies_above_what_was_lost():
    lost = log((2, [*BEGIN, *letters("a long answer")]))
    ended = log((60, [ev.Usage(output_tokens=1), ev.Error(code="worker_lost", error_text="lost")]), kept=4, of=lost)
    newest = events_of(ended)[-1]
    assert newest["type"] == "response.failed"
    assert newest["sequence_number"] > max(numbers_of(lost))


def test_more_events_than_a_step_of_the_epochs_has_numbers_still_rise():
    """The clock stood still or stepped back, so that the next epoch is only one millisecond newer."""
    many = "x" * (3 * NUMBERS_PER_MS)
    numbers = numbers_of(log((0, [*BEGIN, *letters(many)]), (1, [ev.Attempt(attempt=2), *BEGIN, *letters("y"), *END])))
    assert numbers == sorted(set(numbers))


def test_numbers_are_safe_integers_of_javascript_for_centuries_and_of_32_bits_for_two_hours():
    def newest(after_ms: int) -> int:
        return numbers_of(log((0, BEGIN), (after_ms, [ev.Attempt(attempt=2), *BEGIN, *letters("y"), *END])))[-1]

    assert newest(365 * 200 * A_DAY_MS) <= MAX_SAFE_INTEGER
    assert newest(2 * 3_600_000) < 2**31


def test_the_helper_of_the_sdk_reads_numbers_with_holes():
    entries = log((0, [*BEGIN, *letters("Hel")]), (5_000, [ev.Attempt(attempt=2), *BEGIN, *letters("Again"), *END]))
    assert final(ECHO.open(STREAM).encode(entries))["output"][0]["content"][0]["text"] == "Again"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_numbers_rise_over_all_histories_of_one_response(data: st.DataObject):
    """Each history keeps a part of the one before; every epoch has fewer events than its time has numbers."""
    at_ms, sent = 0, -1
    entries: list[Entry] = []
    for attempt in range(1, data.draw(st.integers(2, 5)) + 1):
        kept = data.draw(st.integers(0, len(entries)))
        begin: list[ev.Event] = [] if attempt == 1 else [ev.Attempt(attempt=attempt)]
        written = [*BEGIN, *letters("x" * data.draw(st.integers(0, 50)))]
        entries = log((at_ms, begin + written), kept=kept, of=entries)
        events, old = events_of(entries), events_of(entries[:kept])
        numbers = [event["sequence_number"] for event in events]
        new = numbers[len(old) :]
        assert min(new) > sent
        assert numbers == sorted(set(numbers))
        assert old == events[: len(old)]
        sent = max(sent, *new)
        at_ms += data.draw(st.integers(1, 5_000))


def test_a_stream_without_facts_of_its_request_is_numbered_from_the_second_of_its_first_entry():
    entries = log((0, [*BEGIN, *letters("Hel")]), (2_000, [ev.Attempt(attempt=2), *BEGIN, *END]))
    assert events_of(entries, RESPONSES)[7]["sequence_number"] == 2_000 * NUMBERS_PER_MS
