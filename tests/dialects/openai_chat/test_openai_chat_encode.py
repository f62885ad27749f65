"""Chat completions encode: what the real SDK makes of our frames, by its helper and by hand."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_chat.encode import ChatDialect, whole_completion
from tests.dialects.anthropic import anthropic_streams
from tests.dialects.decoding import read_all
from tests.dialects.openai_chat.chat_clients import EPOCH, by_hand, chunks_of, data_of, entries_of, helper_final
from tests.dialects.openai_chat.chat_streams import GOOD_ENDINGS, STREAMS, Json

STREAM = "gen_1"
# What no client can receive: the SDK fails on the original, or the decoder has mended it.
UNEQUAL = frozenset({"choices that are null", "half a surrogate pair", "two choices", "signature alone behind a call"})


def encoded(events: list[ev.Event], dialect: ChatDialect | None = None) -> bytes:
    """The frames of a whole stream."""
    return (dialect or ChatDialect()).open(STREAM).encode(entries_of(events))


def from_chat(raw: bytes) -> list[ev.Event]:
    return read_all(OpenAIChatDecoder(), raw).events


def from_anthropic(name: str) -> list[ev.Event]:
    return read_all(AnthropicDecoder(), anthropic_streams.STREAMS[name]).events


def text_part(text: str, *, id: str = "0", end: Any = None) -> list[ev.Event]:
    """A text part."""
    return [ev.TextStart(id=id), ev.TextDelta(id=id, delta=text), ev.TextEnd(id=id, provider_metadata=end)]


def message_of(events: list[ev.Event]) -> Json:
    """The message of the final object."""
    final = whole_completion(STREAM, entries_of(events))
    assert final is not None
    message: Json = final["choices"][0]["message"]
    return message


def alike(final: Json) -> Json:
    """Without what our vocabulary does not keep: a null from an empty text, the second name of the reasoning, audio."""
    for choice in final["choices"]:
        message = choice["message"]
        message["content"] = message.get("content") or None
        message["reasoning_content"] = message.pop("reasoning", None) or message.get("reasoning_content")
        message.pop("audio", None)
        for call in message.get("tool_calls") or ():
            call.setdefault("type", "function")
    if "usage" in final:
        final["usage"].setdefault("total_tokens", sum(final["usage"].values()))
    return final


@pytest.mark.parametrize("name", [name for name in GOOD_ENDINGS if name not in UNEQUAL])
def test_the_sdk_s_final_object_is_that_of_the_provider_s_own_bytes(name: str) -> None:
    raw = STREAMS[name]
    ours = encoded(from_chat(raw), ChatDialect(include_usage=b'"usage"' in raw and "torn" not in name))
    try:
        expected = alike(helper_final(raw))
    except openai.LengthFinishReasonError:
        with pytest.raises(openai.LengthFinishReasonError):
            helper_final(ours)
        expected = by_hand(raw)
        assert by_hand(ours) == expected
        return

    assert alike(helper_final(ours)) == expected


@pytest.mark.parametrize("name", [name for name in GOOD_ENDINGS if name not in UNEQUAL])
def test_the_sum_by_hand_of_our_frames_is_that_of_the_providers_own_bytes(name: str) -> None:
    raw = STREAMS[name]
    expected, result = by_hand(raw), by_hand(encoded(from_chat(raw)))

    assert {**expected, "usage": None} == result


def test_the_frames_are_data_lines_that_end_with_done_and_share_one_head() -> None:
    raw = encoded(from_chat(STREAMS["text"]), ChatDialect(include_usage=True))

    assert raw.endswith(b"data: [DONE]\n\n")
    assert all(block.startswith(b"data: ") and b"\n" not in block for block in raw.removesuffix(b"\n\n").split(b"\n\n"))
    chunks = data_of(raw)
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 37
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


def test_unless_requested_no_chunk_has_usage() -> None:
    assert all("usage" not in chunk for chunk in data_of(encoded(from_chat(STREAMS["text"]))))


def test_fingerprint_and_tier_stand_in_every_chunk() -> None:
    start = ev.Start(provider_metadata={"openai": {"system_fingerprint": "fp_1", "service_tier": "default"}})
    chunks = data_of(encoded([start, *text_part("Hi"), ev.Finish(finish_reason="stop")]))

    assert {(chunk["system_fingerprint"], chunk["service_tier"]) for chunk in chunks} == {("fp_1", "default")}


def test_a_stream_of_another_provider_is_named_after_ours() -> None:
    start = ev.Start(message_id="msg_1", message_metadata={"model": "claude-x"})
    first = data_of(encoded([start, *text_part("Hi")]))[0]

    assert (first["id"], first["created"], first["model"]) == ("chatcmpl-gen_1", EPOCH // 1000, "claude-x")


# ------------------------------------------------------------------------------------------------ answers of Claude


def test_thinking_of_claude_is_reasoning_and_its_input_the_arguments() -> None:
    events: list[ev.Event] = [
        ev.Start(message_id="msg_1", message_metadata={"model": "claude-x"}),
        ev.ReasoningStart(id="0"),
        ev.ReasoningDelta(id="0", delta="Let me see."),
        ev.ReasoningDelta(id="0", delta="", provider_metadata={"anthropic": {"signature": "sig"}}),
        ev.ReasoningEnd(id="0"),
        ev.ToolInputStart(tool_call_id="toolu_1", tool_name="now"),
        ev.ToolInputAvailable(tool_call_id="toolu_1", tool_name="now", input={}),
        ev.ToolInputStart(tool_call_id="toolu_2", tool_name="search"),
        ev.ToolInputDelta(tool_call_id="toolu_2", input_text_delta='{"q": "'),
        ev.ToolInputDelta(tool_call_id="toolu_2", input_text_delta='x"}'),
        ev.ToolInputAvailable(tool_call_id="toolu_2", tool_name="search", input={"q": "x"}),
        ev.FinishStep(finish_reason="tool-calls", provider_metadata={"anthropic": {"stopReason": "tool_use"}}),
        ev.Finish(finish_reason="tool-calls"),
    ]
    result = by_hand(encoded(events))

    assert result["reasoning"] == "Let me see."
    assert result["calls"] == {
        0: {"id": "toolu_1", "name": "now", "arguments": "{}"},
        1: {"id": "toolu_2", "name": "search", "arguments": '{"q": "x"}'},
    }
    assert result["reason"] == "tool_calls"


@pytest.mark.parametrize("name", anthropic_streams.GOOD_ENDINGS)
def test_every_answer_of_claude_is_one_the_sdk_can_read(name: str) -> None:
    final = whole_completion(STREAM, entries_of(from_anthropic(name)))
    assert final is not None
    if final["choices"][0]["finish_reason"] in ("length", "content_filter"):
        return
    streamed = helper_final(encoded(from_anthropic(name)))

    message = streamed["choices"][0]["message"]
    assert message.get("content") == final["choices"][0]["message"]["content"]
    calls = final["choices"][0]["message"].get("tool_calls") or []
    assert [call["function"] for call in message.get("tool_calls") or []] == [call["function"] for call in calls]


def test_a_tool_that_the_provider_ran_is_no_call_of_the_client_s() -> None:
    call: dict[str, Any] = {"tool_call_id": "srv_1", "tool_name": "web_search", "provider_executed": True}
    events: list[ev.Event] = [
        ev.ToolInputStart(**call),
        ev.ToolInputDelta(tool_call_id="srv_1", input_text_delta="{}"),
        ev.ToolInputAvailable(**call, input={}),
        ev.ToolOutputAvailable(tool_call_id="srv_1", output=[], provider_executed=True),
        *text_part("Found."),
        ev.Finish(finish_reason="stop"),
    ]

    assert by_hand(encoded(events))["calls"] == {}
    assert "tool_calls" not in message_of(events)


def test_citations_with_a_url_are_annotations_at_the_place_of_their_text() -> None:
    cited = {
        "anthropic": {"citations": [{"type": "web_search_result_location", "url": "https://a.example", "title": "A"}]}
    }
    plain = {"anthropic": {"citations": [{"type": "char_location", "cited_text": "…", "document_index": 0}]}}
    events: list[ev.Event] = [
        *text_part("First. "),
        *text_part("Cited.", id="1", end=cited),
        *text_part(" Not.", id="2", end=plain),
        ev.Finish(finish_reason="stop"),
    ]
    annotation = {"start_index": 7, "end_index": 13, "url": "https://a.example", "title": "A"}

    message = helper_final(encoded(events))["choices"][0]["message"]
    assert message["content"] == "First. Cited. Not."
    assert message["annotations"] == [{"type": "url_citation", "url_citation": annotation}]


def test_counts_of_the_cache_belong_to_the_prompt() -> None:
    usage = ev.Usage(input_tokens=3, output_tokens=5, cached_input_tokens=10, cache_write_input_tokens=2)
    events = [*text_part("Hi"), usage, ev.Finish(finish_reason="stop")]

    result = by_hand(encoded(events, ChatDialect(include_usage=True)))["usage"]
    assert result == {
        "prompt_tokens": 15,
        "completion_tokens": 5,
        "total_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 2},
    }


def test_a_loop_of_calls_is_not_sent_the_counts_of_its_last_call() -> None:
    raw = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    usage = ev.Usage(input_tokens=30, output_tokens=9, provider_metadata={"openai": {"usage": raw}})
    events = [*text_part("Hi"), usage, ev.Finish(finish_reason="stop")]

    assert by_hand(encoded(events, ChatDialect(include_usage=True)))["usage"]["total_tokens"] == 39


def test_counts_that_are_estimated_are_marked() -> None:
    events = [*text_part("Hi"), ev.Usage(output_tokens=1, estimated=True), ev.Finish(finish_reason="stop")]

    assert data_of(encoded(events, ChatDialect(include_usage=True)))[-1]["broadcaster"] == {"usage": "estimated"}


# ---------------------------------------------------------------------------------------------------- several steps


def steps() -> list[ev.Event]:
    """Two provider calls: the first calls a tool that the worker runs; both number their parts from 0."""
    return [
        ev.Start(message_metadata={"model": "m"}),
        ev.StartStep(),
        *text_part("Looking. "),
        ev.ToolInputStart(tool_call_id="a", tool_name="look"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="{}"),
        ev.ToolInputAvailable(tool_call_id="a", tool_name="look", input={}),
        ev.FinishStep(finish_reason="tool-calls"),
        ev.ToolOutputAvailable(tool_call_id="a", output="42"),
        ev.StartStep(),
        *text_part("It is 42."),
        ev.FinishStep(finish_reason="stop"),
        ev.Finish(finish_reason="stop"),
    ]


def test_the_steps_of_a_loop_are_one_text_and_only_the_last_has_a_reason() -> None:
    chunks = data_of(encoded(steps()))
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]

    assert by_hand(encoded(steps()))["content"] == "Looking. It is 42."
    assert [reason for reason in reasons if reason is not None] == ["stop"]
    assert reasons[-1] == "stop"


def test_the_final_object_leaves_out_the_calls_that_are_answered() -> None:
    message = message_of(steps())

    assert message["content"] == "Looking. It is 42."
    assert "tool_calls" not in message


@pytest.mark.parametrize("hidden", [frozenset[str](), frozenset({"look"})])
def test_a_loop_that_ends_by_its_bound_leaves_the_client_nothing_to_run(hidden: frozenset[str]) -> None:
    events = [*steps()[:10], ev.Finish(finish_reason="tool-calls")]

    assert by_hand(encoded(events, ChatDialect(hidden_tools=hidden)))["reason"] == "stop"
    assert by_hand(encoded([*steps()[:9], ev.Finish(finish_reason="tool-calls")]))["reason"] == "tool_calls"


def test_hidden_tools_are_never_sent() -> None:
    assert by_hand(encoded(steps(), ChatDialect(hidden_tools=frozenset({"look"}))))["calls"] == {}


# ------------------------------------------------------------------------------------------------------------- ends


def test_an_error_is_raised_by_the_sdk_and_nothing_follows_it() -> None:
    raw = encoded([*text_part("Hi"), ev.Error(error_text="the worker was lost", code="worker_lost")])

    with pytest.raises(openai.APIError) as raised:
        chunks_of(raw)
    assert (raised.value.code, raised.value.message) == ("worker_lost", "the worker was lost")
    assert b"[DONE]" not in raw
    assert whole_completion(STREAM, entries_of([*text_part("Hi"), ev.Error(error_text="…")])) is None


def test_a_stop_ends_properly_and_is_marked_as_one() -> None:
    events = [*text_part("Hal"), ev.Usage(output_tokens=1), ev.Abort(reason="stopped")]
    raw = encoded(events, ChatDialect(include_usage=True))

    assert (by_hand(raw)["content"], by_hand(raw)["reason"]) == ("Hal", "stop")
    assert data_of(raw)[-2]["broadcaster"] == {"status": "aborted", "reason": "stopped"}
    assert raw.endswith(b"data: [DONE]\n\n")
    final = whole_completion(STREAM, entries_of(events))
    assert final is not None
    assert final["broadcaster"] == {"status": "aborted", "reason": "stopped"}


def test_an_answer_without_content_still_has_a_role_and_an_end() -> None:
    final = helper_final(encoded([ev.Start(), ev.Finish()]))

    assert final["choices"][0]["message"] == {"role": "assistant", "content": ""}
    assert final["choices"][0]["finish_reason"] == "stop"


def test_nothing_is_sent_after_the_end() -> None:
    transcript = ChatDialect().open(STREAM)
    transcript.encode(entries_of([*text_part("Hi"), ev.Finish()]))

    assert transcript.encode(entries_of(text_part("more"), after=9)) == b""


def test_a_new_attempt_before_anything_was_sent_goes_unnoticed() -> None:
    lost: list[ev.Event] = [ev.Start(message_metadata={"model": "old"}), ev.StartStep(), ev.TextStart(id="0")]
    restarted: list[ev.Event] = [ev.Start(message_metadata={"model": "new"}), *text_part("Hi"), ev.Finish()]

    assert encoded([*lost, ev.Attempt(attempt=2), *restarted]) == encoded(restarted)


def test_a_new_attempt_after_something_was_sent_is_an_error_that_may_be_retried() -> None:
    raw = encoded([*text_part("Hal"), ev.Attempt(attempt=2), *text_part("Hello"), ev.Finish()])

    with pytest.raises(openai.APIError, match="may be sent again") as raised:
        chunks_of(raw)
    assert raised.value.code == "new_attempt"


@pytest.mark.parametrize(("reconnect", "sentence"), [(True, "may be sent again"), (False, "before the answer did")])
def test_a_farewell_is_an_error(reconnect: bool, sentence: str) -> None:
    transcript = ChatDialect().open(STREAM)
    raw = transcript.encode(entries_of(text_part("Hal"))) + transcript.bye("drain", reconnect=reconnect, retry_ms=1000)

    with pytest.raises(openai.APIError, match=sentence) as raised:
        chunks_of(raw)
    assert raised.value.code == "drain"


def test_notices_that_the_wire_has_no_place_for_are_not_sent() -> None:
    transcript = ChatDialect().open(STREAM)

    assert transcript.hello(retry_ms=1000, status="running") == b""
    assert transcript.stalled(StallReason.WORKER_LOST) == transcript.stalled(None) == b""
    assert transcript.gap(Gap(GapReason.TRIMMED, Cursor(1, 5), 1, 5)) is None
    assert transcript.snapshot() == b""


def test_the_heartbeat_disturbs_no_client() -> None:
    dialect = ChatDialect()
    transcript = dialect.open(STREAM)
    frames = [transcript.encode([entry]) for entry in entries_of([*text_part("Hi"), ev.Finish(finish_reason="stop")])]

    assert by_hand(dialect.heartbeat.join([b"", *frames]))["content"] == "Hi"
