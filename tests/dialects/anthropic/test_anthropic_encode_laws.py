"""Anthropic encode: laws that hold for every stream and every moment at which a viewer joins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.sse import SseDecoder
from broadcaster.dialects.anthropic.answer import message_of
from broadcaster.dialects.anthropic.encode import AnthropicDialect
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.testing import wire
from tests.dialects.anthropic import anthropic_streams
from tests.dialects.anthropic.anthropic_reading import Sdk, decoded, encoded, entries_of, received_after
from tests.dialects.anthropic.test_anthropic_laws import answers
from tests.dialects.openai_chat import chat_streams
from tests.dialects.openai_responses import responses_streams

INTERLEAVED = "blocks that interleave"
"""They leave one after another: the events come in another order, the message is the same."""

STREAMS: dict[str, list[Entry]] = {
    **{f"anthropic: {name}": decoded(raw) for name, raw in anthropic_streams.STREAMS.items()},
    **{f"chat: {name}": decoded(raw, OpenAIChatDecoder()) for name, raw in chat_streams.STREAMS.items()},
    **{f"responses: {name}": decoded(raw, OpenAIResponsesDecoder()) for name, raw in responses_streams.STREAMS.items()},
}
# Of values that the SDK's types do not foresee; it reads them all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")


@pytest.fixture(scope="module")
def sdk() -> Sdk:
    return Sdk()


# -------------------------------------------------------------------------------------------------- nothing is lost


@pytest.mark.parametrize("name", [name for name in anthropic_streams.GOOD_ENDINGS if name != INTERLEAVED])
def test_a_stream_that_was_decoded_and_encoded_decodes_to_the_same_events(name: str):
    entries = decoded(anthropic_streams.STREAMS[name])
    assert decoded(encoded(entries)) == entries


@pytest.mark.parametrize("name", anthropic_streams.GOOD_ENDINGS)
def test_the_sdk_reads_the_same_message_from_our_bytes_as_from_the_providers(sdk: Sdk, name: str):
    raw = anthropic_streams.STREAMS[name]
    if name == "half a surrogate pair":
        raw = raw.replace(b"\\ud83d", b"?")  # as the decoder mends it
    if name == "more after the end":
        raw = raw[: raw.index(b"data: [DONE]")]
    theirs, ours = sdk.read(raw), sdk.read(encoded(decoded(anthropic_streams.STREAMS[name])))
    if name == "index used twice":
        assert [block["text"] for block in ours["content"]] == ["a", "b"]
    else:
        assert ours == theirs


@settings(deadline=None, max_examples=150)
@given(answer=answers())
def test_no_answer_changes_on_its_way_through_decoder_and_encoder(sdk: Sdk, answer: tuple[list[wire.WireEvent], Any]):
    raw = anthropic_streams.stream(*answer[0])
    entries = decoded(raw)
    sent = encoded(entries)
    assert decoded(sent) == entries
    assert sdk.read(sent) == sdk.read(raw)


# -------------------------------------------------------------------------------------------------------- late joiners


@pytest.mark.parametrize("name", STREAMS)
def test_a_client_that_joins_at_any_moment_reads_the_same_message(sdk: Sdk, name: str):
    entries = STREAMS[name]
    whole = sdk.read(encoded(entries))
    # Many joiners receive the same bytes, and read the same.
    for received, k in {received_after(entries, k): k for k in range(len(entries))}.items():
        assert sdk.read(received) == whole, k


@pytest.mark.parametrize("name", [name for name in STREAMS if "MCP" not in name])  # their input needs the beta SDK
def test_a_message_waited_for_is_the_one_that_the_sdk_puts_together(sdk: Sdk, name: str):
    message, streamed = message_of(STREAMS[name], stream_id="gen_1"), sdk.read(encoded(STREAMS[name]))
    if "error" in streamed:
        assert message["error"]["type"] == streamed["error"]
    elif "refused" not in streamed:
        assert sdk.read_whole(message) == streamed


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_is_proper(name: str):
    entries = STREAMS[name]
    for k in range(len(entries)):
        check_proper(received_after(entries, k))


def check_proper(sent: bytes) -> None:
    """The order of the wire, in each message: one block open at a time, numbered densely, one end, the last."""
    assert b"\r" not in sent
    is_open, count, end = False, -1, ""
    for message in SseDecoder().decode(sent):
        event = json.loads(message.data)
        assert message.event == event["type"]
        assert not message.id
        # What was broken off is followed by another attempt, for later viewers.
        assert end != "message_stop"
        assert end != "error" or event["type"] in ("message_start", "error")
        match event["type"]:
            case "message_start":
                is_open, count, end = False, 0, ""
            case "content_block_start":
                assert (is_open, event["index"]) == (False, count)
                is_open = True
            case "content_block_delta":
                assert (is_open, event["index"]) == (True, count)
            case "content_block_stop":
                assert (is_open, event["index"]) == (True, count)
                is_open, count = False, count + 1
            case "message_delta":
                assert (is_open, count >= 0) == (False, True)
            case "message_stop" | "error":
                assert event["type"] == "error" or (is_open, count >= 0) == (False, True)
                end = event["type"]
    assert end


# ------------------------------------------------------------------------------------------------ events by hypothesis

ids = st.sampled_from(["0", "1"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
values = st.sampled_from([{}, {"x": 1}, "text", None, [1]])
extras = st.sampled_from(
    [
        None,
        {"anthropic": {"signature": "c2ln"}},
        {"anthropic": {"redactedData": "b3A="}},
        {"anthropic": {"citation": wire.web_citation("https://example.org/a")}},
        {"anthropic": {"blockType": "mcp_tool_use", "server_name": "s"}},
        {"anthropic": {"toolResult": {"type": "web_fetch_tool_result"}}},
        {"anthropic": {"usage": {"input_tokens": 3}, "stopReason": "pause_turn", "stopSequence": 4}},
        {"openai": {"itemType": "custom_tool_call", "annotation": {"type": "url_citation", "url": "u"}}},
        {"openai": {"itemType": "mcp_call"}},
        {"other": {"text": "x"}},
    ]
)
calls: Any = {"tool_call_id": ids, "provider_executed": st.sampled_from([None, True]), "provider_metadata": extras}
fragments = st.sampled_from(["", " ", "{", "}", "{}", '{"a":', '"b"}'])
passed = st.sampled_from(
    [
        wire.block_start(0, {"type": "hologram"}),
        wire.block_start(0, {"type": "text", "text": ""}),
        wire.block_delta(0, {"type": "tone_delta"}),
        wire.block_delta(0, {"type": "input_json_delta", "partial_json": "{"}),
        wire.block_stop(0),
        {"type": "message_mood"},
        wire.message_stop(),
        wire.error(),
        {"type": "a\nb"},
        None,
    ]
)
events = st.one_of(
    st.builds(
        ev.Start, message_id=texts, message_metadata=st.none() | st.just({"model": "m"}), provider_metadata=extras
    ),
    st.builds(ev.StartStep),
    st.builds(ev.FinishStep, finish_reason=st.sampled_from(["stop", "tool-calls", None]), provider_metadata=extras),
    st.builds(ev.TextStart, id=ids, provider_metadata=extras),
    st.builds(ev.TextDelta, id=ids, delta=texts, provider_metadata=extras),
    st.builds(ev.TextEnd, id=ids, provider_metadata=extras),
    st.builds(ev.ReasoningStart, id=ids, provider_metadata=extras),
    st.builds(ev.ReasoningDelta, id=ids, delta=texts, provider_metadata=extras),
    st.builds(ev.ReasoningEnd, id=ids, provider_metadata=extras),
    st.builds(ev.ToolInputStart, tool_name=texts, **calls),
    st.builds(ev.ToolInputDelta, tool_call_id=ids, input_text_delta=fragments),
    st.builds(ev.ToolInputAvailable, tool_name=texts, input=values, **calls),
    st.builds(ev.ToolInputError, tool_name=texts, input=values, error_text=texts, **calls),
    st.builds(ev.ToolOutputAvailable, output=values, preliminary=st.sampled_from([None, True]), **calls),
    st.builds(ev.ToolOutputError, error_text=texts, **calls),
    st.builds(ev.SourceUrl, source_id=texts, url=texts),
    st.builds(ev.File, url=texts, media_type=texts),
    st.builds(
        ev.Usage, input_tokens=st.none() | st.integers(0, 9), output_tokens=st.integers(0, 9), provider_metadata=extras
    ),
    st.builds(
        ev.DataEvent,
        type=st.sampled_from(["data-anthropic", "data-x"]),
        data=passed,
        transient=st.none() | st.just(True),
    ),
    st.builds(ev.UnknownEvent, type=st.just("of-a-newer-version")),
    st.builds(ev.Attempt, attempt=st.just(2)),
)
ends = st.one_of(
    st.builds(ev.Finish, finish_reason=st.sampled_from(["stop", None]), provider_metadata=extras),
    st.builds(ev.Error, error_text=texts, code=st.sampled_from(["worker_lost", "provider_overloaded"])),
    st.builds(ev.Abort, reason=st.none() | texts),
)
logs = st.builds(lambda body, end: entries_of([*body, end]), st.lists(events, max_size=25), ends)
quick = settings(deadline=None, max_examples=400)


@quick
@given(entries=logs)
def test_no_log_however_odd_raises_or_breaks_the_order_of_the_wire(entries: list[Entry]):
    for k in range(len(entries)):
        check_proper(received_after(entries, k))


@settings(quick, max_examples=200)
@given(entries=logs, data=st.data())
def test_a_client_that_joins_any_log_at_any_moment_reads_the_result_of_its_last_attempt(
    sdk: Sdk, entries: list[Entry], data: st.DataObject
):
    k = data.draw(st.integers(0, len(entries) - 1))
    begun = max((at for at in range(k) if entries[at].event.startswith(b'{"type":"attempt"')), default=0)
    assert sdk.read(received_after(entries, k)) == sdk.read(encoded(entries[begun:]))


@quick
@given(entries=logs, data=st.data())
def test_frames_depend_on_the_entries_alone(entries: list[Entry], data: st.DataObject):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entries)), min_size=2, max_size=2)))
    transcript, pieces = AnthropicDialect().open("gen_1"), []
    for begin, end in zip([0, *cuts], [*cuts, len(entries)], strict=True):
        transcript.snapshot()
        twin = transcript.fork()
        assert twin.snapshot() == transcript.snapshot()
        pieces.append(transcript.encode(entries[begin:end]))
        assert twin.encode(entries[begin:end]) == pieces[-1]
        assert twin.snapshot() == transcript.snapshot()
    assert b"".join(pieces) == encoded(entries)


@quick
@given(entries=logs)
def test_a_fork_knows_nothing_of_what_its_twin_receives(entries: list[Entry]):
    transcript = AnthropicDialect().open("gen_1")
    half = len(entries) // 2
    transcript.encode(entries[:half])
    before = transcript.snapshot()
    transcript.fork().encode(entries[half:])
    assert transcript.snapshot() == before
    assert transcript.encode(entries[half:]) == received_after(entries, half)[len(before) :]


# ---------------------------------------------------------------------------------------------------- how long it is


@pytest.mark.parametrize(
    "grown",
    [
        ("text", [ev.TextStart(id="0"), *[ev.TextDelta(id="0", delta=" ab")] * 10_000]),
        ("thinking", [ev.ReasoningStart(id="0"), *[ev.ReasoningDelta(id="0", delta=" ab")] * 10_000]),
        (
            "tool",
            [
                ev.ToolInputStart(tool_call_id="t", tool_name="f"),
                ev.ToolInputDelta(tool_call_id="t", input_text_delta='{"a":"'),
                *[ev.ToolInputDelta(tool_call_id="t", input_text_delta=" ab")] * 10_000,
            ],
        ),
    ],
    ids=lambda each: each[0],
)
@pytest.mark.parametrize("is_over", [False, True], ids=["open", "over"])
def test_a_snapshot_of_ten_thousand_deltas_is_short(grown: tuple[str, list[ev.Event]], is_over: bool):
    entries = entries_of([*grown[1], *([ev.FinishStep()] if is_over else [])])
    transcript = AnthropicDialect().open("gen_1")
    assert len(transcript.snapshot()) == 0
    sent = transcript.encode(entries)
    assert len(transcript.snapshot()) <= 0.03 * len(sent)
