"""The UI message stream, chunk by chunk: what is sent, what is left out, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.dialects import DIALECTS
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect, AiSdkTranscript, Version
from tests.dialects.ai_sdk.ai_sdk_streams import STREAM_ID, blocks_of, log_of

STARTED = [{"type": "start", "messageId": f"msg_{STREAM_ID}"}, {"type": "start-step"}]
ATTEMPT = ev.Attempt(attempt=2)
MODEL = ev.Start(message_metadata={"model": "m"})


def opened(version: Version = 6) -> AiSdkTranscript:
    return AiSdkDialect(version=version).open(STREAM_ID)


def chunks_of(stream: bytes) -> list[Any]:
    return [data if data == "[DONE]" else json.loads(data) for _, data in blocks_of(stream)]


def sent(*events: ev.Event, version: Version = 6) -> list[Any]:
    return chunks_of(opened(version).encode(log_of(events)))


def types(*events: ev.Event, version: Version = 6) -> list[str]:
    return [chunk if chunk == "[DONE]" else chunk["type"] for chunk in sent(*events, version=version)]


def test_a_chunk_is_one_line_of_json_in_a_block() -> None:
    stream = opened().encode(log_of([ev.TextDelta(id="0", delta="a\nb\u2028")]))
    *_, last = stream.split(b"\n\n")[:-1]
    assert last == 'data: {"type":"text-delta","id":"txt-0","delta":"a\\nb\u2028"}'.encode()


def test_a_delta_without_a_start_is_opened_first() -> None:
    assert sent(ev.TextDelta(id="7", delta="x")) == [
        *STARTED,
        {"type": "text-start", "id": "txt-0"},
        {"type": "text-delta", "id": "txt-0", "delta": "x"},
    ]


def test_parts_that_are_numbered_anew_in_each_step_have_ids_of_their_own() -> None:
    step: list[ev.Event] = [
        ev.StartStep(),
        ev.TextStart(id="0"),
        ev.TextEnd(id="0"),
        ev.FinishStep(finish_reason="tool-calls"),
    ]
    ids = [chunk["id"] for chunk in sent(*step, *step) if chunk["type"] == "text-start"]
    assert ids == ["txt-0", "txt-1"]


def test_a_step_and_an_end_close_the_texts_that_are_open() -> None:
    assert types(ev.TextStart(id="0"), ev.FinishStep(), ev.TextDelta(id="0", delta="x"), ev.Finish()) == [
        *("start", "start-step", "text-start", "text-end", "finish-step"),
        *("text-start", "text-delta", "text-end", "finish", "[DONE]"),
    ]


def test_metadata_of_a_part_add_to_each_other() -> None:
    (*_, signed, _end) = sent(
        ev.ReasoningStart(id="0", provider_metadata={"anthropic": {"redactedData": "r"}}),
        ev.ReasoningDelta(id="0", delta="", provider_metadata={"anthropic": {"signature": "s"}}),
        ev.ReasoningEnd(id="0"),
    )
    assert signed["providerMetadata"] == {"anthropic": {"redactedData": "r", "signature": "s"}}


def test_metadata_of_a_fragment_waits_for_the_whole_input() -> None:
    fragment, whole = sent(
        ev.ToolInputStart(tool_call_id="a", tool_name="t"),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="{}", provider_metadata={"p": {"x": 1}}),
        ev.ToolInputAvailable(tool_call_id="a", tool_name="t", input={}),
    )[-2:]
    assert "providerMetadata" not in fragment
    assert whole["providerMetadata"] == {"p": {"x": 1}}


def test_fields_and_events_of_our_own_are_left_out() -> None:
    notice = sent(
        ev.Start(message_id="msg_provider", message_metadata={"model": "m"}, provider_metadata={"p": {"x": 1}}),
        ev.StartStep(provider_metadata={"p": {"x": 1}}),
        ev.FinishStep(finish_reason="length", provider_metadata={"p": {"x": 1}}),
        ev.UnknownEvent(type="hologram"),
        ev.Finish(provider_metadata={"broadcaster": {"tries": 2}}),
    )
    assert notice == [
        {"type": "start", "messageId": f"msg_{STREAM_ID}", "messageMetadata": {"model": "m"}},
        {"type": "start-step"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "length"},
        "[DONE]",
    ]


def test_usage_is_sent_once_at_the_end_however_it_ends() -> None:
    counts: list[ev.Event] = [MODEL, ev.Usage(input_tokens=3, estimated=True), ev.Usage(output_tokens=4)]
    usage = {"usage": {"inputTokens": 3, "outputTokens": 4}}
    finished = {"type": "finish", "messageMetadata": {**usage, "own": 1}}
    assert sent(*counts, ev.Finish(message_metadata={"own": 1}))[1:] == [finished, "[DONE]"]
    held = {"type": "message-metadata", "messageMetadata": usage}
    assert sent(*counts, ev.Abort(reason="stopped"))[1:] == [held, {"type": "abort", "reason": "stopped"}, "[DONE]"]
    lost = {"type": "error", "errorText": "gone", "code": "worker_lost"}
    assert sent(*counts, ev.Error(error_text="gone", code="worker_lost"))[1:] == [held, lost]


def test_nothing_is_sent_after_the_end() -> None:
    assert types(ev.Finish(), ev.TextDelta(id="0", delta="x"), ev.Finish()) == ["start", "finish", "[DONE]"]


def test_an_error_without_an_answer_opens_no_message() -> None:
    assert types(ev.Error(error_text="gone")) == ["error"]


def test_an_output_without_a_call_and_a_fragment_without_a_name_are_left_out() -> None:
    events: list[ev.Event] = [
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="{"),
        ev.ToolOutputAvailable(tool_call_id="a", output=1),
        ev.ToolOutputError(tool_call_id="b", error_text="x"),
    ]
    assert sent(*events) == []


def test_a_call_never_goes_back() -> None:
    call: dict[str, Any] = {"tool_call_id": "a", "tool_name": "t"}
    notice = types(
        ev.ToolInputAvailable(**call, input=1),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta="late"),
        ev.ToolInputStart(**call),
        ev.ToolOutputAvailable(tool_call_id="a", output=1),
        ev.ToolInputAvailable(**call, input=2),
        ev.ToolOutputAvailable(tool_call_id="a", output=2),
    )
    assert notice[2:] == ["tool-input-available", "tool-output-available"]


def test_transient_data_open_nothing_and_are_not_kept() -> None:
    transcript = opened()
    note = ev.DataEvent(type="data-note", data=1, transient=True)
    assert [chunk["type"] for chunk in chunks_of(transcript.encode(log_of([note])))] == ["data-note"]
    assert transcript.snapshot() == b""


@pytest.mark.parametrize("version", [6, 7])
def test_an_attempt_before_anything_was_sent_changes_nothing(version: Version) -> None:
    restarted: list[ev.Event] = [MODEL, ev.StartStep(), ev.TextDelta(id="0", delta="x")]
    alone = sent(*restarted, version=version)
    assert sent(ATTEMPT, *restarted, version=version) == alone
    assert sent(MODEL, ev.StartStep(), ATTEMPT, *restarted, version=version) == alone


def test_an_attempt_takes_back_the_one_step_there_is_in_version_7() -> None:
    torn: list[ev.Event] = [MODEL, ev.StartStep(), ev.TextDelta(id="0", delta="torn")]
    assert types(*torn, ATTEMPT, *torn, version=7)[4:] == ["reset-step", "text-start", "text-delta"]
    assert types(*torn, ev.FinishStep(), *torn, ATTEMPT, version=7)[-1] == "error"


def test_an_attempt_of_another_model_takes_the_old_ones_place() -> None:
    other = ev.Start(message_metadata={"model": "n"})
    last = sent(MODEL, ev.TextDelta(id="0", delta="x"), ATTEMPT, other, version=7)[-1]
    assert last == {"type": "message-metadata", "messageMetadata": {"model": "n"}}


def test_an_attempt_is_an_error_where_its_client_cannot_take_back() -> None:
    torn: list[ev.Event] = [MODEL, ev.StartStep(), ev.TextDelta(id="0", delta="torn")]
    transcript = opened(version=6)
    notice = chunks_of(transcript.encode(log_of([*torn, ATTEMPT])))[-1]
    assert (notice["type"], notice["code"], transcript.breaks_off) == ("error", "attempt", True)


def test_a_gap_at_the_beginning_is_a_transient_notice_and_what_follows_can_be_read() -> None:
    transcript = opened()
    notice = transcript.gap(Gap(GapReason.TRIMMED, Cursor(7, 3), 1, 3))
    assert notice is not None
    data = {"reason": "trimmed", "from": 1, "to": 3}
    assert chunks_of(notice) == [{"type": "data-gap", "data": data, "transient": True}]
    after = transcript.encode([Entry(7, 4, ev.encode_event(ev.TextDelta(id="0", delta="x")))])
    assert [chunk["type"] for chunk in chunks_of(after)] == ["start", "start-step", "text-start", "text-delta"]


@pytest.mark.parametrize("reason", [GapReason.REWOUND, GapReason.RESET])
def test_a_transcript_that_has_sent_entries_cannot_be_rewound(reason: GapReason) -> None:
    transcript, gap = opened(), Gap(reason, Cursor(7, 1), 2, 3)
    assert transcript.gap(gap) is not None
    transcript.encode(log_of([MODEL]))
    assert transcript.gap(gap) is None


def test_stalls_and_farewells_are_sent_in_the_format_of_clients() -> None:
    transcript = opened()
    assert transcript.hello(status="queued", retry_ms=100) == b""
    (stalled,) = chunks_of(transcript.stalled(StallReason.WORKER_LOST))
    assert stalled == {"type": "data-stalled", "data": {"reason": "worker_lost"}, "transient": True}
    (moves,) = chunks_of(transcript.stalled(None))
    assert moves["data"] == {"reason": None}
    (restarted,), (over,) = (
        chunks_of(transcript.bye(code, reconnect=code == "drain", retry_ms=1000)) for code in ("drain", "expired")
    )
    assert (restarted["type"], restarted["code"], over["type"], over["code"]) == ("error", "drain", "error", "expired")
    assert restarted["errorText"] != over["errorText"]


def test_an_end_that_cannot_be_read_is_an_error_and_not_silence() -> None:
    strange = Entry(7, 1, b'{"type":"finish","finishReason":"bored"}')
    (chunk,) = chunks_of(opened().encode([strange, strange]))
    assert chunk["type"] == "error"
    assert opened().encode([Entry(7, 1, b'{"type":"text-delta"}')]) == b""


def test_dialects_equal_by_their_options_and_the_served_one_has_ids() -> None:
    assert AiSdkDialect() == AiSdkDialect()
    assert len({AiSdkDialect(), AiSdkDialect(version=7), AiSdkDialect(ids=True), AiSdkDialect(message_id="m")}) == 4
    assert DIALECTS["ai-sdk"] == AiSdkDialect(ids=True)
