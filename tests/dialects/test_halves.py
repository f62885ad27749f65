"""A character that comes in two halves is one, on every wire and in every kind of part."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.halves import is_torn, with_pairs
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.dialects.reading import ProviderDecoder
from broadcaster.testing import chat_wire, wires
from tests.dialects.decoding import Outcome, read_all, the
from tests.dialects.test_decoding_laws import CASES
from tests.dialects.test_decoding_laws import Create as CreateDecoder

HIGH, LOW, EMOJI = "\ud83d", "\ude00", "\U0001f600"
UNTOUCHED = ("type", "object", "role", "status", "finish_reason", "stop_reason")


@dataclass(frozen=True)
class Wire:
    """A wire, and what decodes it."""

    scripted: wires.Wire
    create: Callable[[], ProviderDecoder]

    def frames(self, *pieces: str, kind: str, whole: bool = True) -> list[bytes]:
        """An answer of one part in these pieces, an event each; not ``whole``: it breaks off after the last piece."""
        composer = self.scripted.compose("m")
        if kind == "text":
            events = [event for piece in pieces for event in composer.text(piece)]
        elif kind == "reasoning":
            events = composer.part(self.scripted.reasoning(*pieces))
        else:
            events = composer.part(self.scripted.tool_call("f", *pieces, id="call_1"))
        return [frame(event) for event in (events + composer.finish() if whole else events)]

    def read(self, *pieces: str, kind: str = "text", whole: bool = True) -> Outcome:
        return read_all(self.create(), *self.frames(*pieces, kind=kind, whole=whole))


ON = {
    "anthropic": Wire(wires.MESSAGES, AnthropicDecoder),
    "chat": Wire(wires.CHAT, OpenAIChatDecoder),
    "responses": Wire(wires.RESPONSES, OpenAIResponsesDecoder),
}
on_every_wire = pytest.mark.parametrize("on", ON.values(), ids=ON)
of_every_kind = pytest.mark.parametrize("kind", ["text", "reasoning", "tool"])


def frame(event: Any) -> bytes:
    """The event as a server sends it that writes all but ASCII as escapes."""
    data = "[DONE]" if event == chat_wire.DONE else json.dumps(event)
    return f"data: {data}\n\n".encode()


def deltas(outcome: Outcome) -> list[str]:
    kinds = (ev.TextDelta, ev.ReasoningDelta)
    written = [event.delta for event in outcome.events if isinstance(event, kinds) and event.delta]
    return written + [event.input_text_delta for event in outcome.events if isinstance(event, ev.ToolInputDelta)]


def cut_at(text: str, places: Sequence[int]) -> list[str]:
    """The text, cut between its UTF-16 units at these places."""
    raw = text.encode("utf-16-le")
    at = sorted({place % (len(raw) // 2 + 1) for place in places} | {0, len(raw) // 2})
    pieces = [raw[2 * start : 2 * end] for start, end in pairwise(at)]
    return [piece.decode("utf-16-le", "surrogatepass") for piece in pieces]


@on_every_wire
@of_every_kind
@given(
    text=st.text(st.sampled_from(["a", "?", "é", "漢", EMOJI, "\U0001f468", "\u200d"]), min_size=1, max_size=12),
    places=st.lists(st.integers(0, 100), max_size=12),
)
def test_a_text_is_the_same_wherever_it_is_cut(on: Wire, kind: str, text: str, places: list[int]):
    written = json.dumps({"q": text}, ensure_ascii=False) if kind == "tool" else text
    outcome = on.read(*cut_at(written, places), kind=kind)
    assert outcome.reason is None
    assert "".join(deltas(outcome)) == written
    assert "" not in deltas(outcome)
    assert not any(isinstance(event, ev.DataEvent) for event in outcome.events)
    for event in outcome.events:
        assert ev.read_event(ev.encode_event(event)) == event
    inputs = [event.input for event in outcome.events if isinstance(event, ev.ToolInputAvailable)]
    assert inputs == ([{"q": text}] if kind == "tool" else [])


@on_every_wire
@of_every_kind
def test_a_half_that_other_text_follows_is_a_question_mark(on: Wire, kind: str):
    assert deltas(on.read("a" + HIGH, "b" + LOW, LOW + "c" + HIGH, HIGH, LOW, kind=kind)) == [
        *("a", "?b?", "?c", "?", EMOJI)
    ]


@on_every_wire
@of_every_kind
def test_a_half_that_nothing_follows_is_a_question_mark_before_its_parts_end(on: Wire, kind: str):
    outcome = on.read("a", HIGH, kind=kind)
    assert deltas(outcome) == ["a", "?"]
    ends = (ev.TextEnd, ev.ReasoningEnd, ev.ToolInputAvailable, ev.ToolInputError)
    places = [at for at, event in enumerate(outcome.events) if isinstance(event, ends)]
    last = [at for at, event in enumerate(outcome.events) if "?" in deltas(outcome._replace(events=[event]))]
    assert last == [places[0] - 1]
    texts = [event.input for event in outcome.events if isinstance(event, ev.ToolInputError)]
    assert texts == (["a?"] if kind == "tool" else [])


@on_every_wire
def test_a_half_that_waits_is_a_question_mark_where_the_stream_breaks_off_or_fails(on: Wire):
    assert deltas(on.read("a" + HIGH, whole=False)) == ["a", "?"]
    composer = on.scripted.compose("m")
    events = [*composer.text("a" + HIGH), *composer.fail(on.scripted.overloaded, "Overloaded")]
    outcome = read_all(on.create(), b"".join(map(frame, events)))
    assert (deltas(outcome), outcome.reason) == (["a", "?"], "provider_overloaded")


def test_a_half_waits_while_another_part_grows():
    composer = wires.CHAT.compose("m")
    first, second = ({"index": at, "id": f"call_{at}", "function": {"name": "f", "arguments": ""}} for at in (0, 1))

    def chunk(call: Any, arguments: str) -> Any:
        return chat_wire.chunk({"tool_calls": [{**call, "function": {**call["function"], "arguments": arguments}}]})

    events = [
        *composer.start(),
        *(chunk(first, '"' + HIGH), chunk(second, '"x' + HIGH), chunk(first, LOW + '"'), chunk(second, '"')),
        *composer.finish("tool_calls"),
    ]
    outcome = read_all(OpenAIChatDecoder(), *map(frame, events))
    inputs = {event.tool_call_id: event.input for event in outcome.events if isinstance(event, ev.ToolInputAvailable)}
    assert inputs == {"call_0": EMOJI, "call_1": "x?"}


def test_the_input_of_a_custom_tool_is_text_and_keeps_its_characters():
    call = {"index": 0, "id": "call_0", "type": "custom"}
    chunks = [
        chat_wire.chunk({"tool_calls": [{**call, "custom": {"name": "f", "input": piece}}]})
        for piece in ("a" + HIGH, LOW + "b")
    ]
    composer = wires.CHAT.compose("m")
    events = [*composer.start(), *chunks, *composer.finish("tool_calls")]
    outcome = read_all(OpenAIChatDecoder(), *map(frame, events))
    assert the(ev.ToolInputAvailable, outcome.events).input == "".join(deltas(outcome)) == f"a{EMOJI}b"


@pytest.mark.parametrize(
    "pieces",
    [
        [{"function_call": {"name": "f", "arguments": '"' + HIGH}}, {"function_call": {"arguments": LOW + '"'}}],
        [{"content": [{"type": "text", "text": '"' + HIGH}]}, {"content": [{"type": "text", "text": LOW + '"'}]}],
        [
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": each}]}]}
            for each in ('"' + HIGH, LOW + '"')
        ],
        [{"refusal": '"' + HIGH}, {"refusal": LOW + '"'}],
        [{"reasoning": '"' + HIGH, "reasoning_content": '"' + HIGH}, {"reasoning": LOW + '"'}],
    ],
    ids=["one call of the older wire", "a list of texts", "a list of thoughts", "a refusal", "both names of reasoning"],
)
def test_every_place_of_a_chat_delta_keeps_its_characters(pieces: list[Any]):
    composer = wires.CHAT.compose("m")
    events = [*composer.start(), *map(chat_wire.chunk, pieces), *composer.finish()]
    assert "".join(deltas(read_all(OpenAIChatDecoder(), *map(frame, events)))) == f'"{EMOJI}"'


def test_two_reasonings_that_differ_are_no_text_that_goes_on():
    composer = wires.CHAT.compose("m")
    torn = chat_wire.chunk({"reasoning_content": "a" + HIGH, "reasoning": "b" + HIGH})
    outcome = read_all(OpenAIChatDecoder(), *map(frame, [*composer.start(), torn, *composer.finish()]))
    assert deltas(outcome) == ["a?"]
    assert b'"reasoning":"b?"' in ev.encode_event(the(ev.ReasoningDelta, outcome.events))


@pytest.mark.parametrize(("create", "raw"), CASES)
def test_halves_anywhere_else_leave_events_that_can_be_stored(create: CreateDecoder, raw: bytes):
    for event in read_all(create(), _with_halves_everywhere(raw)).events:
        assert ev.read_event(ev.encode_event(event)) == event


def _with_halves_everywhere(raw: bytes) -> bytes:
    lines = []
    for line in raw.decode("utf-8", "replace").split("\n"):
        name, mark, data = line.partition("data: ")
        try:
            lines.append(name + mark + json.dumps(_torn(json.loads(data))) if mark else line)
        except ValueError:
            lines.append(line)
    return "\n".join(lines).encode()


def _torn(value: Any) -> Any:
    match value:
        case dict():
            return {name: each if name in UNTOUCHED else _torn(each) for name, each in value.items()}
        case list():
            return [_torn(each) for each in value]
        case str():
            return LOW + value + HIGH
        case _:
            return value


@pytest.mark.parametrize(
    ("text", "mended"), [("", ""), ("é", "é"), (HIGH + LOW, EMOJI), (LOW + HIGH, "??"), ("a" + HIGH, "a?")]
)
def test_halves_are_joined_where_they_meet(text: str, mended: str):
    assert with_pairs(text) == mended


def test_only_an_escape_can_be_half_of_a_character():
    assert [is_torn(text) for text in ('"\\ud83d"', '"\\uDE00"', '"\\u00e9"', f'"{EMOJI}"')] == [
        True,
        True,
        False,
        False,
    ]
