"""Chat completions requests there and back: nothing that a provider can use is lost."""

from __future__ import annotations

import json
import re
from typing import Any

import anthropic.types
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from broadcaster.dialects.call_ids import CHAT_IDS, CLAUDE_IDS, RESPONSES_IDS, with_fitted_ids
from broadcaster.dialects.openai.own_fields import messages_options, plain_messages, plain_tools
from broadcaster.dialects.openai_chat.provider_request import chat_messages
from broadcaster.dialects.openai_responses.provider_request import responses_input
from broadcaster.errors import ProviderFailed
from tests.dialects.openai_chat.chat_streams import Json
from tests.dialects.openai_chat.test_openai_chat_laws import chars, json_values
from tests.dialects.openai_chat.test_openai_chat_request import OBJECT, back, call, function, stored

texts = chars.filter(bool)
images = st.builds(
    lambda url, detail: {"type": "image_url", "image_url": {"url": url, **detail}},
    st.sampled_from(["https://a.example/b.png", "data:image/png;base64,eA=="]),
    st.sampled_from([{}, {"detail": "low"}]),
)
files = st.sampled_from(
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,eA=="}},
        {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
    ]
)
text_parts = st.builds(lambda text: {"type": "text", "text": text}, texts)
names = st.sampled_from([{}, {"name": "ada"}])
users = st.builds(
    lambda content, name: {"role": "user", "content": content, **name},
    texts
    | st.builds(lambda head, rest: [head, *rest], images | files, st.lists(text_parts | images | files, max_size=2)),
    names,
)
objects = st.dictionaries(chars, json_values, max_size=2).map(lambda value: json.dumps(value, separators=(",", ":")))
calls = st.builds(call, chars, st.one_of(objects, st.just('{"half'), st.just("[1]")), extra=st.sampled_from([{"v": 1}]))
custom_calls = st.builds(
    lambda id, text: {"id": id, "type": "custom", "custom": {"name": "run", "input": text}}, chars, chars
)
assistants = st.one_of(
    st.builds(lambda text, name: {"role": "assistant", "content": text, **name}, texts, names),
    st.builds(
        lambda text, calls: {"role": "assistant", "content": text, "tool_calls": calls},
        st.none() | texts,
        st.lists(calls | custom_calls, min_size=1, max_size=2),
    ),
    st.builds(
        lambda text, refusal: {"role": "assistant", "content": [text, {"type": "refusal", "refusal": refusal}]},
        text_parts,
        texts,
    ),
)
results = st.builds(lambda id, text: {"role": "tool", "tool_call_id": id, "content": text}, chars, texts)
later = st.builds(lambda text: {"role": "system", "content": text}, texts)
conversations = st.tuples(
    st.lists(later, max_size=1), users, st.lists(users | assistants | results | later, max_size=5)
).map(lambda drawn: [*drawn[0], drawn[1], *drawn[2]])
options = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "stop": st.lists(texts, min_size=1, max_size=4),
        "seed": st.integers(0, 9),
        "logprobs": st.just(True),
        "top_logprobs": st.integers(0, 20),
        "response_format": st.just({"type": "json_object"}),
        "reasoning_effort": st.just("low"),
        "logit_bias": st.just({"1": -100}),
        "user": chars.filter(bool),
    },
)
tooled = st.fixed_dictionaries(
    {
        "tools": st.just(
            [
                function("f", description="Does.", parameters=OBJECT, strict=True),
                {"type": "custom", "custom": {"name": "run"}},
            ]
        )
    },
    optional={
        "tool_choice": st.sampled_from(
            [
                "auto",
                "none",
                "required",
                function("f"),
                {"type": "custom", "custom": {"name": "run"}},
                {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("f")]}},
            ]
        ),
    },
)


def plain(messages: list[Json]) -> list[Json]:
    """The messages with the arguments of their calls parsed: their spacing does not matter."""
    encoded = json.loads(json.dumps(messages))
    for message in encoded:
        for each in message.get("tool_calls") or ():
            if "function" in each:
                each["function"]["arguments"] = _parsed(each["function"]["arguments"])
    return list(encoded)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@given(conversations, options, st.just({}) | tooled)
def test_a_request_comes_back_as_it_was_sent(messages: list[Json], chosen: Json, tools: Json) -> None:
    sent = {**chosen, **tools}
    encoded = back(stored(*messages, **sent))

    assert plain(encoded.pop("messages")) == plain(messages)
    assert encoded == sent


@pytest.mark.parametrize(("parallel", "encoded"), [(False, {"parallel_tool_calls": False}), (True, {}), (None, {})])
def test_parallel_calls_come_back(parallel: bool | None, encoded: Json) -> None:
    request = back(stored(tools=[function("f", parameters=OBJECT)], tool_choice="auto", parallel_tool_calls=parallel))

    assert {name: request[name] for name in ("parallel_tool_calls",) if name in request} == encoded
    assert request["tool_choice"] == "auto"


@given(conversations, options, st.just({}) | tooled)
def test_anthropic_is_sent_what_its_api_knows_and_nothing_else(messages: list[Json], chosen: Json, tools: Json) -> None:
    chosen = {name: value for name, value in chosen.items() if name not in ("logprobs", "response_format")}
    request = stored(*messages, **chosen, **tools)
    sent = {
        **messages_options({name: value for name, value in request.items() if name not in ("messages", "tools")}),
        "messages": plain_messages(request["messages"]),
        "tools": plain_tools(request.get("tools", ())),
    }

    known = {"messages", "system", "max_tokens", "temperature", "top_p", "stop_sequences", "tools", "tool_choice"}
    assert sent.keys() <= known
    assert '"openai"' not in json.dumps(sent)
    for message in sent["messages"]:
        assert message.keys() == {"role", "content"}
    for tool in sent["tools"]:
        assert tool.keys() <= {"name", "description", "input_schema", "strict"}


def ids_on(wire: str, messages: list[Any]) -> tuple[list[str], list[str]]:
    """The ids of the calls and those of the results, as the wire is sent them; the user's message is the first."""
    if wire == "messages":
        parts = [part for message in plain_messages(messages)[1:] for part in message["content"]]
        called = [part["id"] for part in parts if part["type"] == "tool_use"]
        return called, [part["tool_use_id"] for part in parts if part["type"] == "tool_result"]
    if wire == "chat":
        _, answer, *results = chat_messages(messages, system=None)
        return [each["id"] for each in answer["tool_calls"]], [each["tool_call_id"] for each in results]
    items = responses_input(messages)[1:]
    called = [item["call_id"] for item in items if item["type"] == "function_call"]
    return called, [item["call_id"] for item in items if item["type"] == "function_call_output"]


ids_of_calls = st.lists(
    st.text(max_size=80) | st.from_regex(CLAUDE_IDS, fullmatch=True), min_size=1, max_size=4, unique=True
)


@pytest.mark.parametrize(
    ("wire", "fits", "pattern"),
    [
        ("messages", CLAUDE_IDS, r"[a-zA-Z0-9_-]+"),
        ("chat", CHAT_IDS, r"(?s).{1,40}"),
        ("responses", RESPONSES_IDS, r"(?s).{1,64}"),
    ],
    ids=["messages", "chat", "responses"],
)
@given(ids=ids_of_calls)
@example(ids=["functions.f:0", "\ud800", 41 * "a", 65 * "a"])
def test_the_id_of_every_call_fits_its_wire_and_is_that_of_its_result(
    wire: str, fits: re.Pattern[str], pattern: str, ids: list[str]
) -> None:
    calling = {"role": "assistant", "content": None, "tool_calls": [call(id, "{}") for id in ids]}
    returned = [{"role": "tool", "tool_call_id": id, "content": "x"} for id in ids]
    messages = stored({"role": "user", "content": "Hi"}, calling, *returned)["messages"]
    called, answered = ids_on(wire, with_fitted_ids(messages, fits))

    assert called == answered
    assert len(set(called)) == len(ids)
    for id, sent in zip(ids, called, strict=True):
        assert re.fullmatch(pattern, sent)
        assert sent == id or not re.fullmatch(pattern, id)


def test_the_anthropic_sdk_finds_nothing_wrong_with_it() -> None:
    request = stored(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hi"},
                {"type": "image_url", "image_url": {"url": "https://a.example", "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [call("a", "[1]"), call("b", "{}")]},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
    )

    for message in plain_messages(request["messages"]):
        TypeAdapter(anthropic.types.MessageParam).validate_python(message)


def test_a_calls_input_and_a_schema_stay_whole() -> None:
    request = stored(
        {"role": "assistant", "content": None, "tool_calls": [call("a", '{"openai":1}')]},
        tools=[function("f", parameters={"type": "object", "properties": {"openai": {}}})],
    )

    assert plain_messages(request["messages"])[0]["content"][0]["input"] == {"openai": 1}
    assert plain_tools(request["tools"])[0]["input_schema"]["properties"] == {"openai": {}}


def test_a_json_schema_is_turned_for_anthropic_and_what_it_has_not_is_refused() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": OBJECT, "strict": True}}

    assert messages_options({"openai": {"response_format": schema}}) == {
        "output_config": {"format": {"type": "json_schema", "schema": OBJECT}}
    }
    refused: list[Json] = [{"logprobs": True}, {"web_search_options": {}}, {"response_format": {"type": "grammar"}}]
    for own in refused:
        with pytest.raises(ProviderFailed) as caught:
            messages_options({"openai": own})
        assert caught.value.reason == "provider_bad_request"
