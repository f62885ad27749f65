"""A copied frame is the frame that encoding would give, byte for byte, in every dialect."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects import DIALECTS, Dialect, Transcript
from broadcaster.dialects.ag_ui.encode import AgUiDialect
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect
from broadcaster.dialects.delta_template import LONGEST_EVENT, CopyableDelta, DeltaTemplate
from broadcaster.dialects.openai_chat.encode import ChatDialect
from broadcaster.dialects.openai_responses.encode import ResponsesDialect
from broadcaster.dialects.writing import block
from tests.dialects.delta_streams import delta_streams
from tests.dialects.test_forks import TRANSCRIBED
from tests.support.memory.tally_dialect import TallyDialect, TallyTranscript

ALL: list[Dialect] = [
    *TRANSCRIBED,
    AiSdkDialect(),
    ChatDialect(include_usage=True),
    ResponsesDialect(restarts=False),
    AgUiDialect(ids=True, has_places=True),
]
every_dialect = pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: f"{type(dialect).__name__}-{dialect.name}")

BEGIN: list[ev.Event] = [
    ev.Start(message_id="m"),
    ev.StartStep(),
    ev.TextStart(id="0"),
    ev.TextDelta(id="0", delta="Hello"),
]


def learned(dialect: Dialect, events: list[ev.Event], *, stream_id: str = "g") -> tuple[Transcript, DeltaTemplate]:
    """What is learned from the last of these, and the transcript after it."""
    transcript, raw = dialect.open(stream_id), [ev.encode_event(event) for event in events]
    *before, last = [Entry(5, seq, event) for seq, event in enumerate(raw, 1)]
    transcript.encode(before)
    delta, frames = CopyableDelta.read(last.event), transcript.encode([last])
    assert delta is not None
    return transcript, DeltaTemplate(last, delta, frames, number=transcript.last_number)


def proves(template: DeltaTemplate, transcript: Transcript, event: ev.Event, *, seq: int) -> bool:
    entry = Entry(5, seq, ev.encode_event(event))
    delta = CopyableDelta.read(entry.event)
    assert delta is not None
    return template.is_proved(entry, delta, transcript.encode([entry]))


@every_dialect
@settings(max_examples=40, deadline=None)
@given(entries=delta_streams())
def test_what_is_copied_after_any_entry_is_what_the_transcript_encodes(dialect: Dialect, entries: list[Entry]) -> None:
    transcript = dialect.open("g")
    template: DeltaTemplate | None = None
    candidate: DeltaTemplate | None = None
    for entry in entries:
        copied = None if template is None else template.frames(entry.epoch, entry.seq, [entry.event])
        frames = transcript.encode([entry])
        assert copied is None or copied == frames
        delta = CopyableDelta.read(entry.event)
        if delta is None:
            template = candidate = None
        elif copied is None:
            is_proved = candidate is not None and candidate.is_proved(entry, delta, frames)
            template = candidate if is_proved else None
            candidate = DeltaTemplate(entry, delta, frames, number=transcript.last_number)


@every_dialect
def test_every_dialect_has_a_template_for_an_open_text(dialect: Dialect) -> None:
    transcript, template = learned(dialect, [*BEGIN, ev.TextDelta(id="0", delta="you, 100 %d")], stream_id="100%d")
    assert proves(template, transcript, ev.TextDelta(id="0", delta=" world"), seq=6)


@every_dialect
def test_several_events_are_copied_as_they_are_encoded_together(dialect: Dialect) -> None:
    transcript, template = learned(dialect, [*BEGIN, ev.TextDelta(id="0", delta="you")])
    raw = [ev.encode_event(ev.TextDelta(id="0", delta=text)) for text in "abc"]
    frames = transcript.encode([Entry(5, seq, event) for seq, event in enumerate(raw, 6)])
    assert template.frames(5, 8, raw) == frames
    assert template.frames(6, 8, raw) is None, "another epoch's"
    for other in (ev.TextEnd(id="0"), ev.TextDelta(id="1", delta="b"), ev.ReasoningDelta(id="0", delta="b")):
        assert template.frames(5, 8, [raw[0], ev.encode_event(other), raw[2]]) is None


@pytest.mark.parametrize("text", ["delta", "0", "text-delta"])
def test_a_text_that_its_frame_has_elsewhere_too_is_learned_from_in_vain(text: str) -> None:
    dialect = DIALECTS["native"] if text == "0" else AiSdkDialect()
    transcript, template = learned(dialect, [*BEGIN, ev.TextDelta(id="0", delta=text)])
    assert not proves(template, transcript, ev.TextDelta(id="0", delta="other"), seq=6)


def test_a_delta_of_the_same_text_proves_nothing() -> None:
    transcript, template = learned(AiSdkDialect(), [*BEGIN, ev.TextDelta(id="0", delta="ha")])
    assert not proves(template, transcript, ev.TextDelta(id="0", delta="ha"), seq=6)
    assert proves(template, transcript, ev.TextDelta(id="0", delta="hm"), seq=7)


class PlacedDialect(TallyDialect):
    """Each frame has its text, and the place of its entry in the stream."""

    def open(self, stream_id: str) -> PlacedTranscript:
        return PlacedTranscript(self)


class PlacedTranscript(TallyTranscript):
    def encode(self, entries: Sequence[Entry]) -> bytes:
        super().encode(entries)
        return b"".join(block([ev.decode_event(entry.event), entry.seq]) for entry in entries)

    def fork(self) -> PlacedTranscript:
        return PlacedTranscript(self.dialect, self.seq)


@pytest.mark.parametrize("dialect", [TallyDialect(), PlacedDialect()])
def test_a_dialect_whose_frames_differ_in_more_than_the_text_has_no_template(dialect: Dialect) -> None:
    transcript, template = learned(dialect, BEGIN)
    assert not proves(template, transcript, ev.TextDelta(id="0", delta="other"), seq=5)


def test_an_event_that_is_too_long_to_gain_by_copying_is_left_to_the_transcript() -> None:
    _, template = learned(AiSdkDialect(), [*BEGIN, ev.TextDelta(id="0", delta="you")])
    head = template.learned_from.head
    longest = b'%b"%b"}' % (head, (LONGEST_EVENT - len(head) - 3) * b"a")
    assert template.frames(5, 6, [longest]) is not None
    assert template.frames(5, 6, [longest[:-2] + b'a"}']) is None
    assert CopyableDelta.read(longest) is not None
    assert CopyableDelta.read(longest[:-2] + b'a"}') is None
