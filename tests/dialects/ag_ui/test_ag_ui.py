"""AG-UI: what its client is left with, from wherever it begins to listen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.fold import Fold
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.dialects import DIALECTS
from broadcaster.dialects.ag_ui.encode import AgUiDialect, AgUiTranscript, BegunEntry, Received
from broadcaster.dialects.writing import NEW_ATTEMPT
from broadcaster.errors import BadCursor
from tests.dialects.ag_ui import ag_ui_streams as streams
from tests.dialects.ag_ui.ag_ui_client import AgUiClient
from tests.dialects.ag_ui.ag_ui_streams import STREAM_ID, STREAMS, any_stream, entries_of
from tests.dialects.frames import blocks_of

QUESTION = {"id": "u1", "role": "user", "content": "Hello"}
BEFORE = [
    {"id": "r0", "role": "reasoning", "content": "Greet."},
    {"id": "a0", "role": "assistant", "content": "Hi."},
    QUESTION,
]
HISTORIES = {"one question": [QUESTION], "reasoning before": BEFORE}

on_every_stream = pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
on_every_history = pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)


def opened(history: Sequence[Any] = (QUESTION,), **options: Any) -> AgUiTranscript:
    return AgUiDialect(history=json.dumps(list(history)).encode(), **options).open(STREAM_ID)


def after(entries: Sequence[Entry], *, k: int = 0, history: Sequence[Any] = (QUESTION,)) -> AgUiClient:
    """A client that joins after k entries."""
    transcript = opened(history)
    transcript.encode(entries[:k])
    return AgUiClient(history).read(HELLO + transcript.snapshot() + transcript.encode(entries[k:]))


HELLO = opened().hello(status="running", retry_ms=1000)


def kinds(raw: bytes) -> list[str]:
    return [json.loads(block.data)["type"] for block in blocks_of(raw)]


# ------------------------------------------------------------------------------------------------------------ the laws


@on_every_history
@on_every_stream
def test_a_client_that_joins_at_any_entry_ends_with_the_same(events: list[ev.Event], history: list[Any]):
    entries = entries_of(events)
    whole = after(entries, history=history).left_with
    for k in range(len(entries)):
        assert after(entries, k=k, history=history).left_with == whole, f"joined after {k}"


@on_every_stream
def test_a_client_of_torn_attempts_is_left_with_the_last_one(events: list[ev.Event]):
    last = streams.last_attempt(events)
    attempt = next((event for event in reversed(events) if isinstance(event, ev.Attempt)), None)
    alone = entries_of(last if attempt is None else [attempt, *last])
    assert after(entries_of(events)).left_with == after(alone).left_with


@given(any_stream(), st.data())
def test_any_stream_joined_anywhere_leaves_the_same(events: list[ev.Event], data: st.DataObject):
    entries = entries_of(events)
    k = data.draw(st.integers(0, len(entries) - 1))
    assert after(entries, k=k).left_with == after(entries).left_with


@given(any_stream())
def test_nothing_of_the_text_is_lost_or_doubled(events: list[ev.Event]):
    fold = Fold()
    for entry in entries_of(events):
        fold.apply(entry.event)
    assert sorted(after(entries_of(events)).text) == sorted(fold.state.text)


@given(any_stream(), st.data())
def test_entries_give_the_same_bytes_encoded_in_portions_as_at_once(events: list[ev.Event], data: st.DataObject):
    entries = entries_of(events)
    k = data.draw(st.integers(0, len(entries)))
    at_once, in_portions = opened(ids=True), opened(ids=True)
    first = in_portions.encode(entries[:k])
    in_portions.snapshot()
    fork = in_portions.fork()
    assert fork.snapshot() == in_portions.snapshot()
    rest = in_portions.encode(entries[k:])
    assert first + rest == at_once.encode(entries)
    assert fork.encode(entries[k:]) == rest


@given(any_stream(), st.data())
def test_forks_know_nothing_of_each_other(events: list[ev.Event], data: st.DataObject):
    entries = entries_of(events)
    k = data.draw(st.integers(0, len(entries)))
    transcript = opened()
    transcript.encode(entries[:k])
    before = transcript.snapshot()
    transcript.fork().encode(entries[k:])
    assert transcript.snapshot() == before


def test_a_snapshot_is_short():
    deltas = [ev.TextDelta(id="0", delta="w") for _ in range(10_000)]
    transcript = opened()
    whole = transcript.encode(entries_of([ev.TextStart(id="0"), *deltas]))
    assert len(transcript.snapshot()) <= 0.03 * len(whole)


# --------------------------------------------------------------------------------------------------- starts and endings


@on_every_stream
def test_a_run_ends_with_the_last_entry(events: list[ev.Event]):
    wrote = kinds(opened().encode(entries_of(events)))
    assert wrote[-1] == ("RUN_ERROR" if isinstance(events[-1], ev.Error) else "RUN_FINISHED")


def test_ids_of_the_run_are_the_clients_or_the_streams():
    (block,) = blocks_of(opened(thread_id="t", run_id="r").hello(status="queued", retry_ms=1))
    started = {"type": "RUN_STARTED", "threadId": "t", "runId": "r", "protocolVersion": "1.0"}
    assert json.loads(block.data) == started
    (block,) = blocks_of(HELLO)
    assert json.loads(block.data) == started | {"threadId": STREAM_ID, "runId": STREAM_ID}


def test_a_finish_has_outcome_success_with_counts_and_reason():
    client = after(entries_of(streams.LOOP))
    assert client.outcome == "success"
    counts = {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12, "cachedInputTokens": 2}
    assert client.usage == [{"model": "claude-x", **counts}]
    assert client.metadata == {"finishReason": "stop"}
    assert client.pending == []


def test_a_finish_names_the_calls_without_a_result():
    assert after(entries_of(STREAMS["calls that nobody answers"])).pending == ["a", "b"]


def test_a_stop_is_outcome_cancelled_with_all_that_was_sent():
    client = after(entries_of(STREAMS["stopped"]))
    assert client.outcome == "cancelled"
    assert client.metadata == {"reason": "stopped"}
    assert client.text == "Hi, I "


def test_a_failure_is_a_run_error_that_declares_nothing_whole():
    raw = opened().encode(entries_of(STREAMS["failed"]))
    client = AgUiClient([QUESTION]).read(HELLO + raw)
    assert (client.outcome, client.error, client.errors) == ("error", "the worker died", ["worker_lost"])
    assert client.usage[0]["outputTokens"] == 3
    assert "TEXT_MESSAGE_END" not in kinds(raw)
    assert "TOOL_CALL_END" not in kinds(raw)


def test_nothing_is_sent_after_the_end():
    entries = entries_of([ev.Finish(), ev.TextDelta(id="0", delta="late"), ev.Finish()])
    assert kinds(opened().encode(entries)) == ["RUN_FINISHED"]


# --------------------------------------------------------------------------------------------------------- its notices


def test_an_agent_loop_is_the_conversation_that_a_provider_would_take():
    messages = after(entries_of(streams.LOOP)).messages
    assert [message["role"] for message in messages] == [
        *("user", "reasoning", "assistant", "tool", "assistant", "tool", "reasoning", "assistant")
    ]
    assert len({message["id"] for message in messages}) == len(messages)
    assert messages[2]["content"] == "I ask two."
    assert messages[2]["toolCalls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Paris"}'}
    assert messages[3]["content"] == "18 degrees"
    assert messages[5]["content"] == '{"degrees":22}'
    assert messages[7]["content"] == "Paris 18, Rome 22."


def test_calls_of_one_step_share_a_message():
    (_, answer) = after(entries_of(STREAMS["calls that nobody answers"])).messages
    assert [call["id"] for call in answer["toolCalls"]] == ["a", "b"]


def test_reasoning_that_a_provider_wants_back_has_an_encrypted_value():
    signed, *_ = [m for m in after(entries_of(streams.LOOP)).messages if m["role"] == "reasoning"]
    assert signed["encryptedValue"] == "anthropic:signature:c2ln"
    redacted, *_ = [
        m for m in after(entries_of(STREAMS["anthropic: redacted thinking"])).messages if m["role"] == "reasoning"
    ]
    assert (redacted["content"], redacted["encryptedValue"]) == ("", "anthropic:redacted:b3BhcXVl")


def test_reasoning_without_text_leaves_no_message():
    entries = entries_of([ev.ReasoningStart(id="0"), ev.ReasoningEnd(id="0"), ev.Finish()])
    assert after(entries, history=()).messages == []
    assert kinds(opened().encode(entries)) == ["REASONING_START", "REASONING_END", "RUN_FINISHED"]


def test_an_event_that_the_protocol_cannot_express_is_sent_as_custom():
    client = after(entries_of(STREAMS["a job"]))
    progress = [("data-progress", {"percent": 10}), ("data-note", "half"), ("data-progress", {"percent": 90})]
    file = ("file", {"url": "data:text/plain,a", "mediaType": "text/plain"})
    assert client.customs == [*progress, ("data-noise", 1), file]
    source = {"sourceId": "s", "url": "https://example.org/a", "title": "A"}
    assert after(entries_of(streams.LOOP)).customs == [("source-url", source)]


def test_a_late_joiner_receives_the_newest_of_a_job_alone():
    entries = entries_of(STREAMS["a job"])
    customs = after(entries, k=len(entries) - 1).customs
    assert customs[:2] == [("data-progress", {"percent": 90}), ("data-note", "half")]


# -------------------------------------------------------------------------------------------------------- new attempts


def test_a_new_attempt_is_a_run_error_and_a_run_that_begins_where_the_question_stood():
    client = after(entries_of(STREAMS["new attempt"]))
    assert client.errors == [NEW_ATTEMPT]
    assert client.outcome == "success"
    assert client.messages[0] == QUESTION
    assert client.text == "I ask two.Paris 18, Rome 22."
    assert "Hm. " not in [message.get("content") for message in client.messages]


def test_an_attempt_before_anything_was_sent_sends_nothing():
    raw = opened().encode(entries_of(STREAMS["new attempt before anything was said"]))
    assert "RUN_ERROR" not in kinds(raw)
    assert "MESSAGES_SNAPSHOT" not in kinds(raw)


def test_a_late_joiner_receives_no_torn_attempt():
    entries = entries_of(STREAMS["new attempt"])
    at = next(at for at, entry in enumerate(entries) if b'"attempt"' in entry.event)
    assert after(entries, k=at + 1).errors == []


# ------------------------------------------------------------------------------------------------------ ids and notices


@on_every_stream
def test_an_id_stands_on_the_last_block_of_an_entry_that_has_one(events: list[ev.Event]):
    transcript = opened(ids=True)
    for entry in entries_of(events):
        blocks = blocks_of(transcript.encode([entry]))
        assert [block.id for block in blocks[:-1]] == [None] * len(blocks[:-1])
        assert all(block.id == f"{entry.epoch}-{entry.seq}" for block in blocks[-1:])
        blocks = blocks_of(transcript.snapshot())
        assert [block.id for block in blocks[:-1]] == [None] * len(blocks[:-1])
        assert all(block.id == f"{entry.epoch}-{entry.seq}" for block in blocks[-1:])


def test_without_ids_there_are_none():
    transcript = opened()
    assert b"\nid:" not in b"\n" + transcript.encode(entries_of(streams.LOOP)) + transcript.snapshot()


def test_a_stall_is_custom():
    transcript = opened()
    raw = HELLO + transcript.stalled(StallReason.WORKER_LOST) + transcript.stalled(None)
    assert AgUiClient().read(raw).customs == [
        ("hub.stalled", {"reason": "worker_lost"}),
        ("hub.stalled", {"reason": None}),
    ]


def test_a_connection_that_ends_early_ends_with_a_run_error():
    transcript = opened()
    raw = (
        HELLO + transcript.encode(entries_of(streams.LOOP)[:5]) + transcript.bye("drain", reconnect=True, retry_ms=1000)
    )
    assert AgUiClient().read(raw).errors == ["drain"]
    assert AgUiClient().read(opened().bye("limit", reconnect=False, retry_ms=1000)).outcome == "error"
    assert opened(resumes_itself=True).bye("drain", reconnect=True, retry_ms=1000) == b""
    assert (
        AgUiClient().read(opened(resumes_itself=True).bye("limit", reconnect=False, retry_ms=1000)).outcome == "error"
    )


def test_before_the_first_entry_there_is_the_greeting_alone():
    assert kinds(HELLO) == ["RUN_STARTED"]
    assert opened().snapshot() == b""
    assert opened().encode([]) == b""
    assert AgUiDialect().heartbeat == b":\n\n"


def test_equal_options_make_equal_dialects():
    assert AgUiDialect(run_id="r") == AgUiDialect(run_id="r")
    assert hash(AgUiDialect(run_id="r")) == hash(AgUiDialect(run_id="r"))
    assert AgUiDialect(run_id="r") != AgUiDialect(run_id="s")
    assert AgUiDialect(ids=True) == DIALECTS["ag-ui"]


@on_every_history
def test_a_client_that_comes_back_with_what_is_void_keeps_its_conversation_alone(history: list[Any]) -> None:
    transcript = opened(history)
    torn = AgUiClient(history).read(HELLO + transcript.encode(entries_of(STREAMS["agent loop"])[:-1])).messages
    assert any(message["role"] == "reasoning" and message not in history for message in torn)

    void = transcript.discard(Gap(GapReason.REWOUND, Cursor(1, 0), 1, 9))

    assert AgUiClient(torn).read(HELLO + void).messages == history


# ------------------------------------------------------------------------------------------------------ coming back


def resumed(received: Received, entries: Sequence[Entry]) -> bytes:
    """What a client that comes back receives behind the hello."""
    transcript = opened(ids=True, has_places=True, is_resumed=True, begun=received.begun)
    behind = [entry for entry in entries if received.cursor is None or entry.cursor > received.cursor]
    transcript.encode(entries[: len(entries) - len(behind)])
    return transcript.encode(behind)


@on_every_stream
def test_a_client_that_was_cut_behind_any_block_receives_exactly_the_rest(events: list[ev.Event]) -> None:
    entries = entries_of(events)
    whole = opened(ids=True, has_places=True).encode(entries)
    blocks = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    ids = [str(block.id) for block in blocks_of(whole)]
    assert len(set(ids)) == len(ids)
    for at, id in enumerate(ids, start=1):
        received = Received.parse(id)
        if received.cursor is not None:
            assert resumed(received, entries) == b"".join(blocks[at:]), id


def test_the_greeting_has_a_place_of_its_own_where_a_run_begins() -> None:
    def greeting(**options: Any) -> list[str | None]:
        raw = opened(ids=True, **options).hello(status="running", retry_ms=1)
        return [block.id for block in blocks_of(raw)]

    assert greeting() == [None]
    assert greeting(has_places=True) == ["0-0"]
    assert greeting(has_places=True, is_resumed=True) == [None]
    assert greeting(has_places=True, is_joined=True) == ["0-0", None, None, None]


@pytest.mark.parametrize(
    ("id", "received"),
    [
        ("0-0", Received(None)),
        ("7-0", Received(None)),
        ("7-1-2", Received(None)),
        ("7-9", Received(Cursor(7, 9))),
        ("7-9-2", Received(Cursor(7, 8), BegunEntry(Cursor(7, 9), 2))),
    ],
)
def test_an_id_names_what_its_client_holds(id: str, received: Received) -> None:
    assert Received.parse(id) == received


@pytest.mark.parametrize("id", ["", "7", "7-", "-7-9", "7-9-0", "7-9-2-2", "7-9-02", "7-9-x", "07-9-2", "7-9-2\n"])
def test_an_id_that_was_never_given_is_a_bad_cursor(id: str) -> None:
    with pytest.raises(BadCursor):
        Received.parse(id)


@on_every_history
def test_an_agent_that_joins_its_own_run_drops_what_was_torn(history: list[Any]) -> None:
    entries = entries_of(STREAMS["agent loop"])
    torn = AgUiClient(history).read(HELLO + opened(history).encode(entries[:5])).messages
    assert torn[-1] == {"id": "gen_01-1", "role": "reasoning", "content": "Let me look."}

    transcript = opened(history, is_joined=True)
    transcript.encode(entries[:5])
    raw = transcript.hello(status="running", retry_ms=1) + transcript.snapshot() + transcript.encode(entries[5:])

    assert AgUiClient(torn).read(raw).messages == after(entries, history=history).messages
