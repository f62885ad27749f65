"""The arguments of calls are JSON in a text, which counts as one value of a body: their own values have a bound."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.ag_ui.request import request_of
from broadcaster.dialects.anthropic.answer import message_of
from broadcaster.dialects.anthropic.block_sequence import EncodedBlock
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_chat.messages import stored_messages
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.dialects.openai_responses.input import answer_of, messages_of
from broadcaster.dialects.reading import ProviderDecoder
from broadcaster.settings import Settings
from broadcaster.testing import chat_wire, responses_wire, wire
from tests.dialects.anthropic.anthropic_reading import entries_of

Json: TypeAlias = dict[str, Any]

MOST = Settings.model_fields["max_body_values"].default
OBJECT_KEY_LIST = 3


def arguments(values: int) -> str:
    """An object of so many values."""
    return '{"a":[' + ",".join(["[]"] * (values - OBJECT_KEY_LIST)) + "]}"


def nested(levels: int) -> str:
    """An object with lists inside, so many levels deep."""
    return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


# --------------------------------------------------------------------------------------------------------- the requests


def in_a_chat_completion(*texts: str) -> list[Any]:
    calls = [{"id": f"{at}", "function": {"name": "f", "arguments": text}} for at, text in enumerate(texts)]
    messages, _ = stored_messages([{"role": "assistant", "tool_calls": calls}])
    return [own_text_or_input(part) for part in messages[0]["content"]]


def items(texts: tuple[str, ...]) -> list[Json]:
    called = {"type": "function_call", "name": "f"}
    return [{**called, "call_id": f"{at}", "arguments": text} for at, text in enumerate(texts)]


def in_the_input_of_a_response(*texts: str) -> list[Any]:
    messages, _ = messages_of(items(texts))
    return [own_text_or_input(part) for part in messages[0]["content"]]


def in_an_earlier_response(*texts: str) -> list[Any]:
    return [own_text_or_input(part) for part in answer_of(items(texts))[0]["content"]]


def own_text_or_input(part: Json) -> Any:
    """The text of a call that stands as if it were no object; its input otherwise."""
    own = part.get("openai")
    if own is None:
        return part["input"]
    assert part["input"] == {}
    return own["arguments"]


def in_a_run_of_ag_ui(*texts: str) -> list[Any]:
    calls = [{"id": f"{at}", "function": {"name": "f", "arguments": text}} for at, text in enumerate(texts)]
    results = [{"role": "tool", "toolCallId": call["id"], "content": ""} for call in calls]
    request = request_of({"messages": [{"role": "assistant", "toolCalls": calls}, *results]})
    inputs = [part["input"] for part in request["messages"][0]["content"]]
    return [input["arguments"] if list(input) == ["arguments"] else input for input in inputs]


in_every_request = pytest.mark.parametrize(
    "stored", [in_a_chat_completion, in_the_input_of_a_response, in_an_earlier_response, in_a_run_of_ag_ui]
)
Stored: TypeAlias = Callable[..., list[Any]]


@in_every_request
def test_arguments_of_more_values_than_a_body_may_have_stay_a_text(stored: Stored) -> None:
    fitting, larger = arguments(MOST), arguments(MOST + 1)
    assert stored(fitting) == [json.loads(fitting)]
    assert stored(larger) == [larger]


@in_every_request
def test_all_calls_of_a_request_share_one_bound(stored: Stored) -> None:
    text, small = arguments(MOST // 4), '{"b":1}'
    assert stored(*[text] * 4, text, small) == [json.loads(text)] * 4 + [text, small]
    assert stored(arguments(MOST + 1), text) == [arguments(MOST + 1), json.loads(text)]


@in_every_request
def test_code_that_a_call_holds_is_one_value(stored: Stored) -> None:
    text = json.dumps({"code": "f([{a: 1}, {b: 2}]), " * 2000})
    assert stored(*[text] * 40) == [json.loads(text)] * 40


@in_every_request
def test_arguments_that_are_nested_deeper_than_a_body_may_be_stay_a_text(stored: Stored) -> None:
    assert stored(nested(128), nested(129)) == [json.loads(nested(128)), nested(129)]


# ---------------------------------------------------------------------------------------------------------- the answers


def of_messages(*texts: str) -> bytes:
    calls = [wire.tool_use("f", text, id=f"{at}") for at, text in enumerate(texts)]
    return b"".join(map(wire.frame, wire.message(*calls, stop_reason="tool_use")))


def of_chat_completions(*texts: str) -> bytes:
    calls = [chat_wire.tool_call("f", text, id=f"{at}") for at, text in enumerate(texts)]
    return b"".join(map(chat_wire.frame, chat_wire.answer(*calls)))


def of_responses(*texts: str) -> bytes:
    calls = [responses_wire.tool_call("f", text, id=f"{at}") for at, text in enumerate(texts)]
    return b"".join(map(responses_wire.frame, responses_wire.answer(*calls)))


on_every_wire = pytest.mark.parametrize(
    ("create", "body_of"),
    [
        (AnthropicDecoder, of_messages),
        (OpenAIChatDecoder, of_chat_completions),
        (OpenAIResponsesDecoder, of_responses),
    ],
)


@on_every_wire
def test_the_arguments_of_one_answer_share_the_same_bound(
    create: Callable[[], ProviderDecoder], body_of: Callable[..., bytes]
) -> None:
    text = arguments(MOST // 4)
    decoder = create()
    events = decoder.decode(body_of(*[text] * 4, text)) + decoder.flush()
    parsed = [event.input for event in events if isinstance(event, ev.ToolInputAvailable)]
    (refused,) = [event for event in events if isinstance(event, ev.ToolInputError)]
    assert parsed == [json.loads(text)] * 4
    assert refused.input == text
    assert refused.error_text == f"the tool's arguments hold more than {MOST} values"


def test_arguments_of_too_many_values_are_none_in_a_whole_message():
    call: Any = {"tool_call_id": "a", "tool_name": "f"}
    text = arguments(MOST + 1)
    events = [
        ev.ToolInputStart(**call),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta=text),
        ev.ToolInputError(**call, input=text, error_text="too many"),
        ev.Finish(finish_reason="tool-calls"),
    ]
    assert message_of(entries_of(events), stream_id="gen_1")["content"][0]["input"] == {}


def test_a_call_is_known_to_be_whole_without_its_values_being_built():
    call = EncodedBlock(("tool", "a"), {"type": "tool_use"})
    call.take({"type": "input_json_delta", "partial_json": arguments(MOST)})
    tracemalloc.start()
    try:
        assert call.is_whole_call
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 10 * MOST  # the text has 3 bytes for a value, a list of Python at least 56
