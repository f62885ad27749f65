"""Calls of custom tools on OpenAI's two wires, whichever wire the model that made them is on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_chat.encode import ChatDialect, whole_completion
from broadcaster.dialects.openai_responses.encode import RESPONSES, ResponsesDialect
from tests.dialects.openai_chat.chat_clients import chunks_of, data_of
from tests.dialects.openai_responses.responses_reading import STREAM, entries_of, final, folded, raw_events, response_of

# The SDK warns of what it has no model for.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

Json = dict[str, Any]

PATCH = "*** Begin Patch"
TOOLS: list[Any] = [{"type": "custom", "name": "apply_patch"}, {"type": "function", "name": "shell"}, "odd", {"a": 1}]
OFFERED = ResponsesDialect(echo=json.dumps({"tools": TOOLS}))
OFFERED_IN_CHAT = ChatDialect(custom_tools=frozenset({"apply_patch"}))
OF_CHAT = {"toolType": "custom"}
OF_RESPONSES = {"itemType": "custom_tool_call", "itemId": "ctc_1"}


def called(
    *fragments: str, input: Any, name: str = "apply_patch", own: Json | None = None, error: str | None = None
) -> list[ev.Event]:
    """An answer that is one call."""
    shared: Json = {"tool_call_id": "call_a", "tool_name": name}
    shared["provider_metadata"] = None if own is None else {"openai": own}
    deltas = [ev.ToolInputDelta(tool_call_id="call_a", input_text_delta=each) for each in fragments]
    end = ev.ToolInputAvailable(**shared, input=input)
    broken = ev.ToolInputError(**shared, input=input, error_text=error or "")
    return [
        *(ev.Start(), ev.StartStep(), ev.ToolInputStart(**shared), *deltas, end if error is None else broken),
        *(ev.FinishStep(finish_reason="tool-calls"), ev.Finish(finish_reason="tool-calls")),
    ]


def item(events: list[ev.Event], dialect: ResponsesDialect = OFFERED) -> Json:
    """The call as the SDK's helper has it."""
    (call,) = final(dialect.open(STREAM).encode(entries_of(events)))["output"]
    return {name: call[name] for name in call if name != "id"}


def chat_call(events: list[ev.Event], dialect: ChatDialect = OFFERED_IN_CHAT) -> Json:
    """The call as a completion has it, and as its chunks add up."""
    completion = whole_completion(STREAM, entries_of(events), dialect=dialect)
    assert completion is not None
    (call,) = completion["choices"][0]["message"]["tool_calls"]
    chunks = chunks_of(dialect.open(STREAM).encode(entries_of(events)))
    first, *rest = (each for chunk in chunks for each in chunk["choices"][0]["delta"].get("tool_calls", ()))
    field = "input" if call["type"] == "custom" else "arguments"
    text = "".join(each[call["type"]][field] for each in (first, *rest))
    assert call == {"id": first["id"], "type": first["type"], first["type"]: {**first[first["type"]], field: text}}
    return dict(call)


def custom_item(input: str) -> Json:
    names = {"type": "custom_tool_call", "call_id": "call_a", "name": "apply_patch"}
    return {**names, "input": input, "status": "completed"}


def custom_call(input: str) -> Json:
    return {"id": "call_a", "type": "custom", "custom": {"name": "apply_patch", "input": input}}


@pytest.mark.parametrize("own", [OF_CHAT, OF_RESPONSES])
@pytest.mark.parametrize("fragments", [(PATCH[:5], PATCH[5:]), ()])
def test_a_custom_call_of_either_wire_is_one_on_both_for_viewers_of_any_request(
    own: Json, fragments: tuple[str, ...]
) -> None:
    events = called(*fragments, input=PATCH, own=own)
    for responses in (OFFERED, RESPONSES):
        assert item(events, responses) == custom_item(PATCH)
    for chat in (OFFERED_IN_CHAT, ChatDialect()):
        assert chat_call(events, chat) == custom_call(PATCH)


def test_a_custom_call_streams_where_its_fragments_are_its_text() -> None:
    events = called(PATCH[:5], PATCH[5:], input=PATCH, own=OF_CHAT)
    sent = raw_events(OFFERED.open(STREAM).encode(entries_of(events)))
    name = "response.custom_tool_call_input"
    assert [each["delta"] for each in sent if each["type"] == f"{name}.delta"] == [PATCH[:5], PATCH[5:]]


WRAPPED = json.dumps({"input": PATCH})


@pytest.mark.parametrize(
    ("fragments", "input", "text"),
    [
        ((WRAPPED[:4], WRAPPED[4:]), {"input": PATCH}, PATCH),
        ((), {"input": PATCH}, PATCH),
        ((), {"input": '{"input": "x"}'}, '{"input": "x"}'),
        (('{"input": ""}',), {"input": ""}, ""),
        ((), {}, ""),
        (('{"patch": 1}',), {"patch": 1}, '{"patch":1}'),
        (("[1]",), [1], "[1]"),
    ],
)
def test_a_function_call_of_a_custom_tool_is_shown_with_the_text_in_its_object(
    fragments: tuple[str, ...], input: Any, text: str
) -> None:
    events = called(*fragments, input=input)
    assert item(events) == custom_item(text)
    assert chat_call(events) == custom_call(text)


def test_a_model_that_writes_the_text_in_place_of_an_object_calls_the_custom_tool_with_it() -> None:
    events = called(PATCH, input=PATCH, error="the tool's arguments are not valid JSON")
    assert item(events) == custom_item(PATCH)
    assert chat_call(events) == custom_call(PATCH)


def test_a_call_of_another_tool_stays_a_function_call() -> None:
    for own in (None, {"toolType": "function_call"}):
        events = called('{"input":"ls"}', input={"input": "ls"}, name="shell", own=own)
        shown = item(events)
        assert (shown["type"], shown["arguments"]) == ("function_call", '{"input":"ls"}')
        assert "toolType" not in shown
    assert chat_call(called('{"a":1}', input={"a": 1}, name="shell"))["function"]["arguments"] == '{"a":1}'


def test_a_tool_that_the_provider_ran_under_the_name_of_a_custom_one_is_no_call_for_the_client() -> None:
    shared: Json = {"tool_call_id": "a", "tool_name": "apply_patch", "provider_executed": True}
    events: list[ev.Event] = [ev.Start(), ev.ToolInputAvailable(**shared, input={"input": "x"}), ev.Finish()]
    assert response_of(entries_of(events), dialect=OFFERED)["output"][0]["type"] == "mcp_call"
    completion = whole_completion(STREAM, entries_of(events), dialect=OFFERED_IN_CHAT)
    assert completion is not None
    assert "tool_calls" not in completion["choices"][0]["message"]


def test_a_viewer_that_joins_in_the_midst_of_a_call_receives_its_text_once() -> None:
    entries = entries_of(called(WRAPPED[:4], WRAPPED[4:], input={"input": PATCH}))
    whole = raw_events(OFFERED.open(STREAM).encode(entries))
    for cut in range(len(entries)):
        transcript = OFFERED.open(STREAM)
        transcript.encode(entries[:cut])
        late = raw_events(transcript.snapshot() + transcript.fork().encode(entries[cut:]))
        assert folded(late) == folded(whole)
        chat = OFFERED_IN_CHAT.open(STREAM)
        chat.encode(entries[:cut])
        chunks = data_of(chat.snapshot() + chat.encode(entries[cut:]))
        calls = [each for chunk in chunks for each in chunk["choices"][0]["delta"].get("tool_calls", ())]
        assert "".join(each["custom"]["input"] for each in calls) == PATCH


def test_a_call_that_broke_off_shows_no_part_of_its_object() -> None:
    torn = called(WRAPPED[:12], input=None)[:-3]
    for end in (ev.Abort(), ev.Error(code="worker_lost", error_text="the worker was lost"), ev.Attempt(attempt=2)):
        sent = raw_events(OFFERED.open(STREAM).encode(entries_of([*torn, end])))
        done = next(each["item"] for each in sent if each["type"] == "response.output_item.done")
        assert (done["type"], done["input"], done["status"]) == ("custom_tool_call", "", "incomplete")
        assert not [each for each in sent if each["type"].startswith("response.custom_tool_call_input")]


def test_an_attempt_on_another_wire_calls_the_same_custom_tool() -> None:
    torn = called(WRAPPED[:12], input=None)[:-3]
    second = called(PATCH, input=PATCH, own=OF_CHAT)
    assert item([*torn, ev.Attempt(attempt=2), *second])["input"] == PATCH
    assert chat_call(second) == custom_call(PATCH)
    frames = OFFERED_IN_CHAT.open(STREAM)
    frames.encode(entries_of([*torn, ev.Attempt(attempt=2)]))
    assert b'"input":"*** Begin Patch"' in frames.encode(entries_of(second))


def test_a_call_whose_start_was_trimmed_is_shown_when_it_is_whole() -> None:
    events = called(WRAPPED[4:], input={"input": PATCH})
    assert item([*events[:2], *events[3:]]) == custom_item(PATCH)
