"""Responses encode: what the OpenAI SDK receives of a generation, event by event."""

import json
from typing import Any

import pytest
from openai import APIError

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.core.sse import SseDecoder
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.encode import RESPONSES, ResponsesDialect
from tests.dialects.anthropic import anthropic_streams
from tests.dialects.decoding import read_all
from tests.dialects.openai_chat import chat_streams
from tests.dialects.openai_responses.responses_reading import (
    CREATED_MS,
    STREAM,
    entries_from,
    entries_of,
    final,
    folded,
    raw_events,
    response_of,
    seen,
)
from tests.dialects.openai_responses.responses_streams import GOOD_ENDINGS, STREAMS
from tests.dialects.openai_responses.responses_wire import Json

# The SDK warns of what it has no model for.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")

HELLO: list[ev.Event] = [
    ev.Start(message_metadata={"model": "claude-scripted"}),
    ev.StartStep(),
    ev.TextStart(id="0"),
    ev.TextDelta(id="0", delta="Hello "),
    ev.TextDelta(id="0", delta="world"),
]
TAIL: list[ev.Event] = [
    ev.TextEnd(id="0"),
    ev.Usage(input_tokens=10, output_tokens=2, cached_input_tokens=5),
    ev.FinishStep(finish_reason="stop"),
    ev.Finish(finish_reason="stop"),
]
CALL: dict[str, Any] = {"tool_call_id": "call_1", "tool_name": "get_weather"}


def encoded(*events: ev.Event, dialect: ResponsesDialect = RESPONSES) -> bytes:
    return dialect.open(STREAM).encode(entries_of(events))


def sent(*events: ev.Event, dialect: ResponsesDialect = RESPONSES) -> list[Json]:
    return raw_events(encoded(*events, dialect=dialect))


def types(events: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


UNSAID = {"only finished items", "half a surrogate pair", "call cut by max_output_tokens"}
"""Streams whose own end does not list the output: ours does."""
UNREADABLE = {"no numbers, no indexes"}
"""Streams that the SDK itself cannot put together."""


@pytest.mark.parametrize("name", [name for name in GOOD_ENDINGS if name not in UNSAID | UNREADABLE])
def test_the_final_response_of_an_openai_answer_is_the_one_that_openai_sent(name: str):
    ours, theirs = (
        seen(folded(raw_events(raw))["ended"])
        for raw in (RESPONSES.open(STREAM).encode(entries_from(STREAMS[name])), STREAMS[name])
    )
    # llama.cpp's timings stand beside its response; behind us they are part of it.
    assert ours | theirs == ours
    assert ours.keys() - theirs.keys() <= {"timings"}


@pytest.mark.parametrize("name", [name for name in GOOD_ENDINGS if name != "call cut by max_output_tokens"])
@pytest.mark.parametrize("way", ["asked", "by id"])
def test_the_helper_gives_the_response_that_the_raw_events_end_with(name: str, way: Any):
    raw = RESPONSES.open(STREAM).encode(entries_from(STREAMS[name]))
    ended = folded(raw_events(raw))["ended"]
    assert seen(final(raw, way=way)) == seen({name: value for name, value in ended.items() if name != "type"})


@pytest.mark.parametrize("name", GOOD_ENDINGS)
def test_numbers_rise_by_one_from_zero_and_items_are_what_the_end_lists(name: str):
    events = raw_events(RESPONSES.open(STREAM).encode(entries_from(STREAMS[name])))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert types(events)[:2] == ["created", "in_progress"]
    state = folded(events)
    assert state["items"] == state["ended"]["output"]


def test_a_text_has_the_whole_sequence_of_the_wire():
    assert types(sent(*HELLO, *TAIL)) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_the_response_names_the_generation_the_model_and_the_counts():
    response = final(encoded(*HELLO, *TAIL))
    assert (response["id"], response["created_at"]) == (f"resp_{STREAM}", CREATED_MS // 1000)
    assert (response["model"], response["status"]) == ("claude-scripted", "completed")
    assert response["usage"] == {
        "input_tokens": 15,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 17,
    }


def test_the_requested_fields_are_repeated_as_the_surface_gives_them():
    echo = json.dumps({"instructions": "Be brief.", "background": True, "metadata": {"a": "b"}, "model": "asked"})
    response = final(encoded(*HELLO, *TAIL, dialect=ResponsesDialect(echo=echo)))
    assert (response["instructions"], response["background"]) == ("Be brief.", True)
    assert (response["metadata"], response["model"]) == ({"a": "b"}, "claude-scripted")


def test_before_its_first_entry_a_response_is_queued():
    response = response_of([], dialect=ResponsesDialect(echo='{"model":"m","created_at":7}'))
    assert (response["status"], response["model"], response["created_at"]) == ("queued", "m", 7)


def test_a_response_that_is_written_shows_what_there_is():
    response = response_of(entries_of(HELLO))
    (message,) = response["output"]
    assert (response["status"], message["status"]) == ("in_progress", "in_progress")
    assert message["content"][0]["text"] == "Hello world"


# ----------------------------------------------------------------------------------------------------- other providers


def claude(name: str) -> bytes:
    return RESPONSES.open(STREAM).encode(
        entries_of(read_all(AnthropicDecoder(), anthropic_streams.STREAMS[name]).events)
    )


@pytest.mark.parametrize(
    "name", [name for name in anthropic_streams.GOOD_ENDINGS if name not in ("tool cut by max_tokens",)]
)
def test_an_answer_of_claude_is_whole_for_the_helper(name: str):
    response = final(claude(name))
    assert response["status"] == "completed"


def test_thinking_is_reasoning_that_can_be_sent_back():
    reasoning, message = final(claude("thinking then text"))["output"]
    assert (reasoning["type"], reasoning["summary"]) == ("reasoning", [])
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Let me see."}]
    assert reasoning["encrypted_content"].startswith("anthropic.signature.")
    assert message["content"][0]["text"] == "Yes."


def test_a_redacted_thought_keeps_what_only_its_provider_can_read():
    reasoning, _ = final(claude("redacted thinking"))["output"]
    assert (reasoning["encrypted_content"], reasoning.get("content")) == ("anthropic.redacted.b3BhcXVl", None)


def test_a_call_of_claude_is_a_function_call_with_arguments_that_are_json():
    (call,) = final(claude("tool with an empty first fragment"))["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "get_weather", "completed")
    assert json.loads(call["arguments"]) == {"city": "Paris"}
    (empty,) = final(claude("tool without arguments"))["output"]
    assert empty["arguments"] == "{}"


def test_a_tool_that_another_provider_ran_is_no_call_that_a_client_would_answer():
    events = raw_events(claude("server tool, result, citations"))
    call, message = folded(events)["ended"]["output"]
    assert (call["type"], call["name"], call["server_label"]) == ("mcp_call", "web_search", "anthropic")
    assert (call["status"], json.loads(call["arguments"])) == ("completed", {"query": "a"})
    assert "https://example.org/a" in call["output"]
    assert {"mcp_call.in_progress", "mcp_call.completed"} <= set(types(events))
    (cited,) = message["content"][0]["annotations"]
    assert (cited["type"], cited["url"]) == ("url_citation", "https://example.org/a")
    assert (cited["start_index"], cited["end_index"]) == (0, len("It says so."))


def test_a_tool_that_failed_at_another_provider_is_marked():
    (call,) = final(claude("server tool that failed"))["output"]
    assert (call["status"], call["error"]["type"]) == ("failed", "mcp_tool_execution_error")


@pytest.mark.parametrize("name", chat_streams.GOOD_ENDINGS)
def test_an_answer_of_chat_completions_ends_as_a_response(name: str):
    events = read_all(OpenAIChatDecoder(), chat_streams.STREAMS[name]).events
    ended = folded(sent(*events))["ended"]
    assert ended["type"] in ("response.completed", "response.incomplete")


# ------------------------------------------------------------------------------------------------------------ steps


def test_the_steps_of_a_tool_loop_follow_each_other_with_the_tools_output():
    response = final(
        encoded(
            *HELLO,
            ev.TextEnd(id="0"),
            ev.ToolInputStart(**CALL),
            ev.ToolInputDelta(tool_call_id="call_1", input_text_delta='{"city":"Paris"}'),
            ev.ToolInputAvailable(**CALL, input={"city": "Paris"}),
            ev.FinishStep(finish_reason="tool-calls"),
            ev.ToolOutputAvailable(tool_call_id="call_1", output={"sunny": True}),
            ev.StartStep(),
            ev.TextStart(id="0"),
            ev.TextDelta(id="0", delta="It is sunny."),
            *TAIL,
        )
    )
    text, call, output, answer = response["output"]
    assert [item["type"] for item in response["output"]] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert (call["call_id"], output["call_id"], output["output"]) == ("call_1", "call_1", '{"sunny":true}')
    assert (text["content"][0]["text"], answer["content"][0]["text"]) == ("Hello world", "It is sunny.")
    assert len({item["id"] for item in response["output"]}) == 4


def test_a_picture_is_an_item_and_a_file_of_another_kind_is_left_out():
    picture = ev.File(url="data:image/png;base64,eA==", media_type="image/png")
    other = ev.File(url="https://example.org/a.pdf", media_type="application/pdf")
    (item,) = final(encoded(HELLO[0], HELLO[1], picture, other, *TAIL[1:]))["output"]
    assert (item["type"], item["result"]) == ("image_generation_call", "eA==")


def test_odd_input_is_borne():
    response = final(
        encoded(
            ev.TextDelta(id="7", delta="no start"),
            ev.ReasoningDelta(id="7", delta="none either"),
            ev.ToolInputDelta(tool_call_id="gone", input_text_delta="{"),
            ev.ToolInputAvailable(tool_call_id="gone", tool_name="f", input={"a": 1}),
            ev.ToolOutputError(tool_call_id="never", error_text="broke"),
            ev.ReasoningEnd(id="9"),
            ev.TextEnd(id="9"),
            ev.DataEvent(type="data-progress", data=1),
            ev.DataEvent(type="data-openai", data="nonsense"),
            ev.UnknownEvent(type="future"),
            ev.Finish(),
        )
    )
    assert [item["type"] for item in response["output"]] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
    ]


# --------------------------------------------------------------------------------------------------------- attempts


def test_a_new_attempt_voids_the_old_one_and_goes_on_at_new_indexes():
    second = [ev.Attempt(attempt=2), *HELLO[:3], ev.TextDelta(id="0", delta="Again."), *TAIL]
    raw = encoded(*HELLO, *second)
    events = raw_events(raw)
    response = final(raw)
    (message,) = response["output"]
    assert message["content"][0]["text"] == "Again."
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == [0, 1]
    assert folded(events)["items"] == response["output"] or message["id"] == folded(events)["items"][0]["id"]
    assert types(events).count("created") == 1


def test_an_attempt_after_the_opening_alone_voids_all_the_same():
    """Redis may have lost items that stood there, and a client may have been sent them."""
    events = sent(HELLO[0], HELLO[1], ev.Attempt(attempt=2), *HELLO, *TAIL)
    assert types(events)[:4] == ["created", "in_progress", "in_progress", "output_item.added"]


def test_an_attempt_before_anything_was_sent_changes_nothing():
    assert encoded(ev.Attempt(attempt=2), *HELLO, *TAIL) == encoded(*HELLO, *TAIL)


@pytest.mark.parametrize("name", [name for name in GOOD_ENDINGS if name != "call cut by max_output_tokens"])
def test_the_helper_reads_an_attempt_that_repeats_all_names_of_the_first(name: str):
    entries = entries_from(STREAMS[name])
    events = [ev.decode_event(entry.event) for entry in entries]
    raw = encoded(*events[:-1], ev.Attempt(attempt=2), *events)
    response = final(raw)
    once = final(RESPONSES.open(STREAM).encode(entries))
    assert [item["type"] for item in response["output"]] == [item["type"] for item in once["output"]]
    assert [item.get("content") for item in response["output"]] == [item.get("content") for item in once["output"]]


# -------------------------------------------------------------------------------------------------------------- ends


def test_a_stop_is_an_incomplete_response_with_status_cancelled():
    *_, closed, ended = sent(*HELLO, ev.Abort(reason="stopped"))
    assert (ended["type"], ended["response"]["status"]) == ("response.incomplete", "cancelled")
    assert (closed["type"], closed["item"]["status"]) == ("response.output_item.done", "incomplete")
    with pytest.raises(RuntimeError, match=r"response\.completed"):
        final(encoded(*HELLO, ev.Abort(reason="stopped")))


def test_a_stop_can_be_sent_as_the_helper_reads_it():
    raw = encoded(*HELLO, ev.Abort(reason="stopped"), dialect=ResponsesDialect(cancel="completed"))
    response = final(raw)
    assert response["status"] == "cancelled"
    assert response["output"][0]["content"][0]["text"] == "Hello world"


def test_a_stop_in_a_call_leaves_no_half_call_to_run():
    events = sent(
        ev.Start(),
        ev.ToolInputStart(**CALL),
        ev.ToolInputDelta(tool_call_id="call_1", input_text_delta='{"ci'),
        ev.Abort(),
    )
    assert "response.function_call_arguments.done" not in [event["type"] for event in events]
    assert events[-2]["item"]["status"] == "incomplete"


def test_a_lost_worker_is_a_failed_response():
    ended = sent(*HELLO, ev.Error(code="worker_lost", error_text="the worker was lost"))[-1]
    assert (ended["type"], ended["response"]["status"]) == ("response.failed", "failed")
    assert ended["response"]["error"] == {"code": "worker_lost", "message": "the worker was lost"}
    assert ended["response"]["output"][0]["content"][0]["text"] == "Hello world"


def test_a_client_that_joins_deltas_receives_an_error_before_the_failed_response():
    plain = ResponsesDialect(restarts=False)
    for end in (ev.Error(code="worker_lost", error_text="the worker was lost"), ev.Attempt(attempt=2)):
        # The SDK raises at the first of the two.
        messages = SseDecoder().decode(encoded(*HELLO, end, dialect=plain))
        error, ended = (json.loads(message.data) for message in messages[-2:])
        assert (error["type"], error["param"], ended["type"]) == ("error", None, "response.failed")
        echo = {"code": error["code"], "message": error["message"]}
        assert echo == ended["response"]["error"]
        assert error["error"] == {"type": "server_error", "param": None, **echo}
        assert ended["sequence_number"] == error["sequence_number"] + 1


def test_a_generation_that_failed_before_it_began_is_created_and_failed():
    assert types(sent(ev.Error(code="queue_timeout", error_text="no worker"))) == ["created", "in_progress", "failed"]


@pytest.mark.parametrize(
    ("reason", "why"), [("length", "max_output_tokens"), ("content-filter", "content_filter"), ("other", None)]
)
def test_an_answer_that_was_cut_is_incomplete_and_gives_the_reason(reason: Any, why: str | None):
    *_, closed, ended = sent(*HELLO, ev.FinishStep(finish_reason=reason), ev.Finish(finish_reason=reason))
    assert (ended["type"], closed["item"]["status"]) == ("response.incomplete", "incomplete")
    assert ended["response"]["incomplete_details"] == (why and {"reason": why})


def test_nothing_is_sent_after_the_end():
    transcript = RESPONSES.open(STREAM)
    transcript.encode(entries_of([*HELLO, *TAIL]))
    assert transcript.encode(entries_of([ev.TextDelta(id="0", delta="late")], first_seq=99)) == b""


# ------------------------------------------------------------------------------------------------------------ notices


def test_a_viewer_that_must_go_receives_an_error_that_it_can_resume_from():
    transcript = RESPONSES.open(STREAM)
    raw = transcript.encode(entries_of(HELLO)) + transcript.bye("drain", reconnect=True, retry_ms=1000)
    *_, last, bye = raw_events(raw)
    assert (bye["type"], bye["code"], bye["sequence_number"]) == ("error", "drain", last["sequence_number"])
    with pytest.raises((RuntimeError, APIError)):
        final(raw)


def test_other_notices_have_no_place_on_this_wire():
    transcript = RESPONSES.open(STREAM)
    assert transcript.hello(status="queued", retry_ms=1000) == b""
    assert transcript.stalled(StallReason.WORKER_LOST) == b""
    assert transcript.gap(Gap(GapReason.TRIMMED, Cursor(1, 1), 1, 1)) is None
    assert RESPONSES.heartbeat == b":\n\n"


def test_heartbeats_between_events_disturb_no_client():
    raw = encoded(*HELLO, *TAIL).replace(b"\n\n", b"\n\n" + RESPONSES.heartbeat)
    assert final(raw) == final(encoded(*HELLO, *TAIL))
