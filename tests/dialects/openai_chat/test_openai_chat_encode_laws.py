"""Chat completions encode: the laws of late joiners, for every stream and every place at which one comes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_chat.encode import ChatDialect, whole_completion
from tests.dialects.anthropic import anthropic_streams
from tests.dialects.decoding import read_all
from tests.dialects.openai_chat import chat_streams
from tests.dialects.openai_chat.chat_clients import added_up, data_of, entries_of, final_of, helper_final
from tests.dialects.openai_chat.chat_streams import Json
from tests.dialects.openai_chat.test_openai_chat_laws import Answer, answers

COUNTING = ChatDialect(include_usage=True)

STREAMS: dict[str, list[ev.Event]] = {
    **{
        f"chat: {name}": read_all(OpenAIChatDecoder(), chat_streams.STREAMS[name]).events
        for name in chat_streams.GOOD_ENDINGS
    },
    **{
        f"anthropic: {name}": read_all(AnthropicDecoder(), anthropic_streams.STREAMS[name]).events
        for name in anthropic_streams.GOOD_ENDINGS
    },
}
"""Recorded and composed answers of two providers, as events of ours."""


def encoded(entries: list[Entry], dialect: ChatDialect = COUNTING) -> bytes:
    return dialect.open("gen_1").encode(entries)


def joined(entries: list[Entry], k: int) -> bytes:
    """What a client is sent that comes when k entries are there."""
    transcript = COUNTING.open("gen_1")
    transcript.encode(entries[:k])
    return transcript.snapshot() + transcript.encode(entries[k:])


@pytest.mark.parametrize("name", STREAMS)
def test_a_late_joiner_ends_with_the_same_final_object_wherever_it_joins(name: str) -> None:
    entries = entries_of(STREAMS[name])
    expected = final_of(encoded(entries))

    for k in range(len(entries)):
        assert final_of(joined(entries, k)) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_every_block_is_one_line_of_data_and_the_last_one_is_done(name: str) -> None:
    blocks = encoded(entries_of(STREAMS[name])).split(b"\n\n")

    assert blocks[-2:] == [b"data: [DONE]", b""]
    for each in blocks[:-1]:
        assert each.startswith(b"data: ")
        assert each != b"data: "
        assert not {b"\n"[0], b"\r"[0]} & set(each)


@pytest.mark.parametrize("name", ["chat: text", "chat: tools that interleave", "anthropic: text"])
def test_the_helper_over_http_agrees(name: str) -> None:
    entries = entries_of(STREAMS[name])
    expected = helper_final(encoded(entries))

    for k in range(len(entries)):
        assert helper_final(joined(entries, k)) == expected


@pytest.mark.parametrize("name", STREAMS)
def test_the_final_object_without_a_stream_is_that_of_the_stream(name: str) -> None:
    entries = entries_of(STREAMS[name])
    streamed, whole = final_of(encoded(entries)), whole_completion("gen_1", entries)

    assert whole is not None
    for result in (streamed, whole):
        result.pop("broadcaster", None)
        _plain(result)
    assert whole == streamed


def _plain(result: Json) -> None:
    """The final object, without the indexes that the SDK leaves in calls and without nulls."""
    message = result["choices"][0]["message"]
    result["choices"][0]["message"] = {name: value for name, value in message.items() if value not in (None, "")}
    for call in message.get("tool_calls") or ():
        call.pop("index", None)
    if logprobs := result["choices"][0].get("logprobs"):
        result["choices"][0]["logprobs"] = {name: tokens for name, tokens in logprobs.items() if tokens}
    result["choices"][0] = {name: value for name, value in result["choices"][0].items() if value is not None}


# ----------------------------------------------------------------------------------------------- streams by hypothesis

ids = st.sampled_from(["0", "1"])
tools = st.sampled_from(["a", "b", "c"])
chars = st.text(max_size=5).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
extras: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        {"openai": {"refusal": True}},
        {"openai": {"logprobs": {"content": [{"token": "a", "logprob": -1.0}]}}},
        {"openai": {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example"}}]}},
        {"anthropic": {"citations": [{"url": "https://b.example", "title": "B"}]}},
    ]
)
events: st.SearchStrategy[ev.Event] = st.one_of(
    st.builds(ev.Start, message_id=st.none() | chars, message_metadata=st.none() | st.just({"model": "m"})),
    st.builds(ev.StartStep),
    st.builds(ev.FinishStep, finish_reason=st.sampled_from(["stop", "tool-calls"])),
    st.builds(ev.TextStart, id=ids, provider_metadata=extras),
    st.builds(ev.TextDelta, id=ids, delta=chars, provider_metadata=extras),
    st.builds(ev.TextEnd, id=ids, provider_metadata=extras),
    st.builds(ev.ReasoningDelta, id=ids, delta=chars),
    st.builds(ev.ToolInputStart, tool_call_id=tools, tool_name=chars, provider_executed=st.none() | st.booleans()),
    st.builds(ev.ToolInputDelta, tool_call_id=tools, input_text_delta=chars),
    st.builds(ev.ToolInputAvailable, tool_call_id=tools, tool_name=chars, input=st.just({"x": 1})),
    st.builds(ev.ToolInputError, tool_call_id=tools, tool_name=chars, input=chars, error_text=chars),
    st.builds(ev.ToolOutputAvailable, tool_call_id=tools, output=chars),
    st.builds(ev.Usage, input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9)),
    st.builds(ev.DataEvent, type=st.just("data-x"), data=chars),
)
ends: st.SearchStrategy[ev.Event] = st.one_of(
    st.builds(ev.Finish, finish_reason=st.sampled_from(["stop", "length", "other", None])),
    st.builds(ev.Abort, reason=st.just("stopped")),
)


@settings(deadline=None)
@given(answers(), st.data())
def test_any_answer_of_the_wire_comes_out_as_it_came_in(result: Answer, data: st.DataObject) -> None:
    raw = chat_streams.stream(
        chat_streams.first(), *result.chunks, chat_streams.last(), chat_streams.counted(), chat_streams.DONE
    )
    entries = entries_of(read_all(OpenAIChatDecoder(), raw).events)
    ours = joined(entries, data.draw(st.integers(0, len(entries) - 1)))

    assert _by_id(added_up(data_of(ours))) == _by_id(added_up(data_of(raw)))


def _by_id(result: Json) -> Json:
    """Calls under their ids: a server may leave numbers out, and begin with any of them."""
    return {**result, "calls": {call["id"]: call for call in result["calls"].values()}}


@settings(deadline=None)
@given(st.lists(events, max_size=14), ends, st.data())
def test_any_order_of_events_is_one_that_a_late_client_can_join(
    result: list[ev.Event], end: ev.Event, data: st.DataObject
) -> None:
    entries = entries_of([*result, end])
    k = data.draw(st.integers(0, len(result)))

    assert final_of(joined(entries, k)) == final_of(encoded(entries))


@settings(deadline=None)
@given(st.lists(events, max_size=8), st.lists(events, min_size=1, max_size=8), ends, st.data())
def test_a_client_that_joins_in_the_second_attempt_reads_nothing_of_the_first(
    first: list[ev.Event], second: list[ev.Event], end: ev.Event, data: st.DataObject
) -> None:
    lost = entries_of([*first, ev.Attempt(attempt=2)])
    rest = entries_of([*second, end], after=len(lost))
    k = data.draw(st.integers(len(lost), len(lost) + len(second)))

    assert final_of(joined([*lost, *rest], k)) == final_of(encoded(rest))


@settings(deadline=None)
@given(st.lists(events, max_size=14), st.none() | ends, st.data())
def test_frames_depend_neither_on_the_cuts_nor_on_snapshots_nor_on_forks(
    result: list[ev.Event], end: ev.Event | None, data: st.DataObject
) -> None:
    entries = entries_of([*result, ev.Attempt(attempt=2), *result, *([] if end is None else [end])])
    at, then = sorted((data.draw(st.integers(0, len(entries))), data.draw(st.integers(0, len(entries)))))
    whole = COUNTING.open("gen_1")
    frames = whole.encode(entries)

    cut = COUNTING.open("gen_1")
    head = cut.encode(entries[:at])
    if not any(entry.is_terminal for entry in entries[:at]):
        cut.snapshot()
    other = cut.fork()
    middle = cut.encode(entries[at:then])

    assert other.encode(entries[at:then]) == middle
    assert head + middle + cut.encode(entries[then:]) == frames
    assert head + middle + other.encode(entries[then:]) == frames
    assert other.snapshot() == whole.snapshot() == cut.snapshot()


def test_a_fork_and_its_origin_know_nothing_of_each_other() -> None:
    transcript = COUNTING.open("gen_1")
    transcript.encode(entries_of([ev.TextDelta(id="0", delta="a"), ev.ToolInputStart(tool_call_id="t", tool_name="f")]))
    other = transcript.fork()
    before = other.snapshot()
    transcript.encode(
        entries_of(
            [ev.TextDelta(id="0", delta="b"), ev.ToolInputDelta(tool_call_id="t", input_text_delta="{}")], after=2
        )
    )

    assert other.snapshot() == before != transcript.snapshot()


@pytest.mark.parametrize(("kind", "names"), [(ev.TextDelta, 1), (ev.ReasoningDelta, 2)])
def test_the_snapshot_of_ten_thousand_deltas_is_small(kind: type[Any], names: int) -> None:
    entries = entries_of([ev.Start(), *(kind(id="0", delta="word ") for _ in range(10_000))])
    transcript = COUNTING.open("gen_1")
    replay = transcript.encode(entries)

    assert len(transcript.snapshot()) <= names * 0.03 * len(replay)


def test_the_snapshot_of_ten_thousand_fragments_is_small() -> None:
    fragments = [ev.ToolInputDelta(tool_call_id="a", input_text_delta="1, ") for _ in range(10_000)]
    entries = entries_of([ev.ToolInputStart(tool_call_id="a", tool_name="f"), *fragments])
    transcript = COUNTING.open("gen_1")
    replay = transcript.encode(entries)

    assert len(transcript.snapshot()) <= 0.03 * len(replay)


def test_equal_options_make_equal_dialects() -> None:
    assert ChatDialect(include_usage=True) == COUNTING
    assert hash(ChatDialect(include_usage=True)) == hash(COUNTING)
    assert ChatDialect() != COUNTING
