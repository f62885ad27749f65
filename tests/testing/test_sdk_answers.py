"""What the builders script is what the real SDKs read, streamed and whole."""

import json
from typing import Any

import pytest
from anthropic.types import RawMessageStreamEvent
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from broadcaster.testing import Script, Send, chat_wire, responses_wire, wire
from tests.testing.sdks import MESSAGES, collect, scripted

ARGUMENTS = ('{"city": ', '"Paris"}')
CITATION = responses_wire.url_citation("https://example.org/a", title="A")

CLAUDE: dict[str, tuple[list[wire.Block], list[dict[str, Any]]]] = {
    "text": ([wire.text("Hello ", "wörld")], [{"type": "text", "text": "Hello wörld"}]),
    "refusal": ([wire.refusal("I ", "won't.")], [{"type": "text", "text": "I won't."}]),
    "cited text": (
        [wire.text("So.", citations=[wire.web_citation("https://example.org/a")])],
        [{"type": "text", "text": "So.", "citations": [wire.web_citation("https://example.org/a")]}],
    ),
    "thinking": (
        [wire.thinking("Let ", "me."), wire.redacted_thinking("b3Bh"), wire.text("Yes")],
        [
            {"type": "thinking", "thinking": "Let me.", "signature": "c2lnbmF0dXJl"},
            {"type": "redacted_thinking", "data": "b3Bh"},
            {"type": "text", "text": "Yes"},
        ],
    ),
    "tools": (
        [wire.tool_use("weather", "", *ARGUMENTS), wire.tool_use("now", id="toolu_02")],
        [
            {"type": "tool_use", "id": "toolu_01", "name": "weather", "input": {"city": "Paris"}},
            {"type": "tool_use", "id": "toolu_02", "name": "now", "input": {}},
        ],
    ),
    "server tool": (
        [wire.server_tool_use("web_search", '{"query": "a"}'), wire.tool_result("web_search_tool_result", [])],
        [
            {"type": "server_tool_use", "id": "srvtoolu_01", "name": "web_search", "input": {"query": "a"}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_01", "content": []},
        ],
    ),
    "nothing": ([], []),
}


@pytest.mark.parametrize("name", CLAUDE)
async def test_a_message_is_the_same_streamed_and_whole(name: str):
    blocks, content = CLAUDE[name]
    events = wire.message(*blocks, stop_reason="tool_use", output_tokens=7, cache_read_input_tokens=3)
    async with scripted() as sdks:
        sdks.server.script("m", Script(Send(*events)))
        async with sdks.claude.messages.stream(model="m", max_tokens=64, messages=MESSAGES) as stream:
            streamed = await stream.get_final_message()
        whole = await sdks.message()
    for message in (streamed, whole):
        assert message.stop_reason == "tool_use"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (25, 7)
        assert message.usage.cache_read_input_tokens == 3
        found = [block.model_dump(exclude_none=True) for block in message.content]
        assert found == content


CHAT: dict[str, tuple[list[chat_wire.Part], dict[str, Any], str]] = {
    "text": ([chat_wire.text("Hello ", "wörld")], {"content": "Hello wörld"}, "stop"),
    "refusal": ([chat_wire.refusal("I ", "won't.")], {"refusal": "I won't."}, "stop"),
    "reasoning": (
        [chat_wire.reasoning("Let ", "me."), chat_wire.text("Yes")],
        {"content": "Yes", "reasoning_content": "Let me."},
        "stop",
    ),
    "reasoning of another server": (
        [chat_wire.reasoning("Let ", "me.", field="reasoning"), chat_wire.text("Yes")],
        {"content": "Yes", "reasoning": "Let me."},
        "stop",
    ),
    "tools": (
        [chat_wire.tool_call("weather", *ARGUMENTS), chat_wire.tool_call("now", "{}", id="call_x")],
        {
            "tool_calls": [
                {"id": "call_01", "type": "function", "function": {"name": "weather", "arguments": "".join(ARGUMENTS)}},
                {"id": "call_x", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ]
        },
        "tool_calls",
    ),
    "nothing": ([], {}, "stop"),
}


@pytest.mark.parametrize("name", CHAT)
async def test_a_completion_is_the_same_streamed_and_whole(name: str):
    parts, content, finish_reason = CHAT[name]
    usage = chat_wire.counts(prompt_tokens=40, completion_tokens=7, cached_tokens=30, reasoning_tokens=2)
    async with scripted() as sdks:
        sdks.server.script("m", Script(Send(*chat_wire.answer(*parts, usage=usage))))
        including = {"model": "m", "messages": MESSAGES, "stream_options": {"include_usage": True}}
        async with sdks.openai.chat.completions.stream(**including) as stream:
            streamed = await stream.get_final_completion()
        whole = await sdks.completion()
    for completion in (streamed, whole):
        assert completion.id == "chatcmpl-scripted"
        assert completion.usage is not None
        assert completion.usage.model_dump(exclude_none=True) == usage
        (choice,) = completion.choices
        assert choice.finish_reason == finish_reason
        message = choice.message.model_dump(exclude_none=True, exclude={"role", "annotations"})
        for call in message.get("tool_calls", []):
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
        message = {key: value for key, value in message.items() if value != ""}
        assert message == content


async def test_the_counts_of_a_streamed_completion_go_to_requests_that_include_them():
    async with scripted() as sdks:
        chunks = await collect(await sdks.completion(stream=True))
        assert all("usage" not in chunk.model_fields_set and chunk.choices for chunk in chunks)
        *chunks, last = await collect(await sdks.completion(stream=True, stream_options={"include_usage": True}))
        assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)
        assert (last.choices, last.usage.completion_tokens) == ([], 3)


def responses_text(text: str, annotations: list[Any] | None = None) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": annotations or [], "logprobs": []}


def responses_message(*content: Any, status: str = "completed") -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "status": status, "content": list(content)}


def responses_call(name: str, arguments: str, *, id: str) -> dict[str, Any]:
    return {"type": "function_call", "status": "completed", "call_id": id, "name": name, "arguments": arguments}


RESPONSES: dict[str, tuple[list[responses_wire.Part], list[dict[str, Any]]]] = {
    "text": ([responses_wire.text("Hello ", "wörld")], [responses_message(responses_text("Hello wörld"))]),
    "annotated text": (
        [responses_wire.text("So.", annotations=[CITATION])],
        [responses_message(responses_text("So.", [CITATION]))],
    ),
    "refusal": (
        [responses_wire.text("Well, "), responses_wire.refusal("I ", "won't.")],
        [responses_message(responses_text("Well, "), {"type": "refusal", "refusal": "I won't."})],
    ),
    "reasoning": (
        [responses_wire.reasoning("Let ", "me.", encrypted_content="b3Bh"), responses_wire.text("Yes")],
        [
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "Let me."}],
                "encrypted_content": "b3Bh",
            },
            responses_message(responses_text("Yes")),
        ],
    ),
    "several summaries": (
        [responses_wire.reasoning_summaries(["a", "b"], ["c"])],
        [
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "ab"}, {"type": "summary_text", "text": "c"}],
            }
        ],
    ),
    "reasoning itself": (
        [responses_wire.reasoning_text("Let ", "me.")],
        [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Let me."}]}],
    ),
    "tools": (
        [responses_wire.tool_call("weather", *ARGUMENTS), responses_wire.tool_call("now", "{}", id="call_x")],
        [
            responses_call("weather", "".join(ARGUMENTS), id="call_01"),
            responses_call("now", "{}", id="call_x"),
        ],
    ),
    "custom tool": (
        [responses_wire.custom_tool_call("sql", "select ", "1")],
        [{"type": "custom_tool_call", "call_id": "call_01", "name": "sql", "input": "select 1"}],
    ),
    "provider's tool": (
        [responses_wire.provider_call("web_search_call", "searching", action={"type": "search", "query": "a"})],
        [{"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "a"}}],
    ),
    "nothing": ([], []),
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_response_is_the_same_streamed_and_whole(name: str):
    parts, output = RESPONSES[name]
    usage = responses_wire.counts(input_tokens=40, output_tokens=7, cached_tokens=30, reasoning_tokens=2)
    async with scripted() as sdks:
        sdks.server.script("m", Script(Send(*responses_wire.answer(*parts, usage=usage))))
        async with sdks.openai.responses.stream(model="m", input="Hi") as stream:
            streamed = await stream.get_final_response()
        whole = await sdks.response()
    for response in (streamed, whole):
        assert (response.id, response.status) == ("resp_scripted", "completed")
        assert response.usage is not None
        assert response.usage.model_dump(exclude_none=True) == usage
        found = [without_ids(item.model_dump(exclude_none=True, by_alias=True)) for item in response.output]
        assert found == output


def without_ids(item: dict[str, Any]) -> dict[str, Any]:
    assert item.pop("id")
    return item


async def test_an_answer_cut_by_its_length_has_the_reason_of_each_wire():
    async with scripted() as sdks:
        sdks.server.script("claude", Script(Send(*wire.message(wire.text("a"), stop_reason="max_tokens"))))
        sdks.server.script("chat", Script(Send(*chat_wire.answer(chat_wire.text("a"), finish_reason="length"))))
        cut = responses_wire.answer(responses_wire.text("a"), finish_reason="max_output_tokens")
        sdks.server.script("responses", Script(Send(*cut)))
        assert (await sdks.message(model="claude")).stop_reason == "max_tokens"
        assert (await sdks.completion(model="chat")).choices[0].finish_reason == "length"
        response = await sdks.response(model="responses")
        assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert response.output[0].status == "incomplete"
        assert (await collect(await sdks.response(model="responses", stream=True)))[-1].type == "response.incomplete"


def every_event_of(answers: Any, build: Any, *more: wire.WireEvent) -> list[Any]:
    return [*(event for parts, *_ in answers.values() for event in build(*parts)), *more]


EVENTS = [
    (RawMessageStreamEvent, every_event_of(CLAUDE, wire.message)),
    (
        ChatCompletionChunk,
        every_event_of(
            CHAT,
            chat_wire.answer,
            chat_wire.refusal_delta("no"),
            chat_wire.reasoning_delta("hm"),
            chat_wire.tool_start(0, "f"),
            chat_wire.tool_delta(0, "{}"),
        ),
    ),
    (
        ResponseStreamEvent,
        every_event_of(
            RESPONSES,
            responses_wire.answer,
            *responses_wire.failed_answer(responses_wire.text("a")),
            responses_wire.incomplete(),
            responses_wire.completed(),
            responses_wire.error(),
            responses_wire.text_delta(0, "a"),
        ),
    ),
]


@pytest.mark.parametrize(("type", "events"), EVENTS, ids=["messages", "chat", "responses"])
def test_every_event_is_one_that_the_sdk_declares_with_every_field_it_requires(type: Any, events: list[Any]):
    adapter = TypeAdapter(type)
    for event in events:
        if event != chat_wire.DONE:
            adapter.validate_python(event)
            assert json.loads(json.dumps(event)) == event


def test_the_numbers_of_a_response_are_dense_from_0_and_its_indexes_rise():
    events = responses_wire.answer(*(part for parts, _ in RESPONSES.values() for part in parts))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    assert added == list(range(len(added)))


def test_a_change_to_one_built_event_changes_no_other():
    for build, part in (
        (wire.message, wire.tool_use("f", "{}")),
        (chat_wire.answer, chat_wire.tool_call("f", "{}")),
        (responses_wire.answer, responses_wire.tool_call("f", "{}")),
        (responses_wire.answer, responses_wire.text("a", annotations=[CITATION])),
    ):
        before = json.dumps(build(part))  # type: ignore[arg-type]
        events = build(part)  # type: ignore[arg-type]
        for event in events:
            spoil(event)
        assert json.dumps(build(part)) == before  # type: ignore[arg-type]


def spoil(value: Any) -> None:
    """Empty every container inside."""
    for inner in list(value.values() if isinstance(value, dict) else value):
        if isinstance(inner, dict | list):
            spoil(inner)
    value.clear()
