"""Responses decode: items are recognised however their server names, numbers and repeats them."""

from collections.abc import Callable

import pytest

from broadcaster.core import events as ev
from tests.dialects.decoding import the
from tests.dialects.openai_responses import responses_wire as wire
from tests.dialects.openai_responses.responses_streams import HELLO, STREAMS
from tests.dialects.openai_responses.responses_wire import Json, answer, call, created, message, stream, text
from tests.dialects.openai_responses.test_openai_responses_decode import content, decode, failure_of

THINKING = wire.reasoning(["a ", "b"])
CALL = call("f", '{"x":', "1}")
WHOLE = answer(THINKING, HELLO, CALL)


def changed(events: list[Json], change: Callable[[Json], Json]) -> list[Json]:
    return [change(event) for event in events]


def without(*names: str) -> Callable[[Json], Json]:
    return lambda event: {name: value for name, value in event.items() if name not in names}


def content_of(events: list[ev.Event]) -> list[tuple[str, object]]:
    """The content of an answer, without how it was cut and named."""
    texts: dict[tuple[str, str], list[str]] = {}
    for event in events:
        match event:
            case ev.TextDelta(id=id, delta=delta) | ev.ReasoningDelta(id=id, delta=delta):
                texts.setdefault((type(event).__name__, id), []).append(delta)
    inputs = [("input", event.input) for event in events if isinstance(event, ev.ToolInputAvailable)]
    return [(kind, "".join(pieces)) for (kind, _), pieces in texts.items()] + inputs


EXPECTED = [("ReasoningDelta", "a b"), ("TextDelta", "Hello world"), ("input", {"x": 1})]


def _with_a_new_id(event: Json) -> Json:
    """GitHub Copilot's: every event names its item anew."""
    return {**event, "item_id": f"opaque_{id(event)}"} if "item_id" in event else event


def _without_item_ids(event: Json) -> Json:
    return {**event, "item": without("id")(event["item"])} if "item" in event else event


def _at_index_0(event: Json) -> Json:
    """LiteLLM's: a message and a call share an index."""
    return {**event, "output_index": 0} if "output_index" in event else event


@pytest.mark.parametrize(
    "change",
    [
        without(),
        without("output_index", "content_index", "summary_index"),
        without("item_id"),
        without("item_id", "output_index"),
        _with_a_new_id,
        _without_item_ids,
        _at_index_0,
    ],
)
def test_an_answer_is_the_same_however_its_items_are_named(change: Callable[[Json], Json]):
    assert content_of(content(stream(*changed(WHOLE, change)))) == EXPECTED


@pytest.mark.parametrize(
    "kinds",
    [
        (".delta",),
        ("_text.delta", ".text.done"),
        ("content_part.added", "summary_part.added"),
        ("content_part.done", "summary_part.done"),
        ("output_text.done", "summary_text.done", "arguments.done"),
        ("part.added", "part.done", "text.done", "arguments.done"),
        ("output_item.done",),
        ("output_item.done", "part.done"),
        (".delta", "part.added", "part.done", "text.done", "arguments.done"),
        (".delta", "text.done", "arguments.done", "part.done", "output_item.done"),
    ],
)
def test_an_answer_is_the_same_whatever_its_server_leaves_out(kinds: tuple[str, ...]):
    raw = stream(*[event for event in WHOLE if not event["type"].endswith(kinds)])
    assert content_of(content(raw)) == EXPECTED


@pytest.mark.parametrize("name", ["no deltas", "only the end", "only finished items", "no numbers, no indexes"])
def test_a_server_that_sends_little_is_understood(name: str):
    assert ("TextDelta", "Hello world") in content_of(content(STREAMS[name]))


def test_a_call_of_llama_cpp_is_named_by_its_call_id_alone():
    item: Json = {"type": "function_call", "call_id": "fc_x", "name": "f", "arguments": "", "status": "in_progress"}
    delta = {"type": "response.function_call_arguments.delta", "item_id": "fc_x"}
    whole: Json = {**item, "arguments": '{"x":1}', "status": "completed"}
    raw = wire.bare(
        created(),
        *answer(HELLO)[2:6],
        {"type": "response.output_item.added", "item": item},
        {**delta, "delta": '{"x":'},
        {**delta, "delta": "1}"},
        *answer(HELLO)[6:-1],
        {"type": "response.output_item.done", "item": whole},
        wire.completed(HELLO.item, whole),
    )
    assert content_of(content(raw)) == [("TextDelta", "Hello world"), ("input", {"x": 1})]


def test_content_that_is_counted_over_all_items_is_matched_by_its_order():
    events = [{**event, "content_index": 1} if "content_index" in event else event for event in answer(HELLO)]
    assert content(stream(*events)) == content(stream(*answer(HELLO)))


def test_an_item_that_is_finished_twice_yields_nothing_new():
    events = answer(HELLO)
    assert content(stream(*events[:-1], events[-2], events[-1])) == content(stream(*events))


def test_a_call_that_is_announced_twice_is_one_call():
    opening, *rest = CALL.events(0)
    events = content(stream(created(), opening, opening, *rest, wire.completed(CALL.item)))
    assert the(ev.ToolInputStart, events).tool_call_id == "call_1"


def test_an_index_used_twice_still_gives_two_messages():
    nameless = [without("item_id")(_without_item_ids(event)) for event in message(text("a")).events(0)]
    others = [without("item_id")(_without_item_ids(event)) for event in message(text("b")).events(0)]
    raw = stream(created(), *nameless[:3], *others, wire.completed())
    assert content_of(content(raw)) == [("TextDelta", "a"), ("TextDelta", "b")]


def test_a_message_that_the_end_names_anew_is_not_sent_twice():
    renamed = {**HELLO.item, "id": "msg_other"}
    assert content_of(content(stream(created(), *HELLO.events(0)[:-1], wire.completed(renamed)))) == [
        ("TextDelta", "Hello world")
    ]


def test_an_item_that_only_the_end_has_is_not_taken_for_another():
    silent = message(id="msg_0").item
    assert content_of(content(stream(created(), *HELLO.events(1)[1:-1], wire.completed(silent, HELLO.item)))) == [
        ("TextDelta", "Hello world")
    ]


def test_the_end_never_finishes_a_call_with_the_arguments_of_another():
    raw = stream(created(), *CALL.events(0)[:3], wire.completed(call("f", '{"y":2}', call_id="call_2", id="fc_2").item))
    assert content_of(content(raw)) == [("input", {"x": 1})]


# --------------------------------------------------------------------------------------------------------- the numbers


def test_a_double_is_dropped():
    frames = [wire.frame(event) for event in wire.numbered(answer(HELLO))]
    raw = b"".join([*frames[:6], *frames[3:6], *frames[6:]])
    assert decode(raw) == decode(b"".join(frames))


def test_a_hole_is_bad_data():
    events = wire.numbered(answer(HELLO))
    assert failure_of(b"".join(wire.frame(event) for event in events[:4] + events[5:])).reason == "provider_bad_data"


def test_numbers_may_start_anywhere():
    events = [{**event, "sequence_number": number} for number, event in enumerate(answer(HELLO), 7)]
    assert content(b"".join(wire.frame(event) for event in events)) == content(stream(*answer(HELLO)))


@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_server_that_writes_one_number_on_every_event_does_not_number(number: int):
    raw = b"".join(wire.frame({**event, "sequence_number": number}) for event in answer(HELLO))
    assert content(raw) == content(stream(*answer(HELLO)))


def test_a_server_that_numbers_some_events_wrongly_does_not_number():
    """LiteLLM's: 1 on every finished item."""
    events = wire.numbered(WHOLE)
    for event in events:
        if event["type"] == "response.output_item.done":
            event["sequence_number"] = 1
    assert content_of(content(b"".join(wire.frame(event) for event in events))) == EXPECTED


def test_a_hole_beside_an_event_without_a_number_is_none():
    events = wire.numbered(answer(HELLO))
    del events[4]["sequence_number"]
    assert content(b"".join(wire.frame(event) for event in events)) == content(stream(*answer(HELLO)))
