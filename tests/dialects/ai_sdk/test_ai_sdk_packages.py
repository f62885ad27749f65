"""The real clients, versions 6 and 7, read what we write: every answer, opened at every entry."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect, Version
from tests.dialects.ai_sdk.ai_sdk_client import Client, Json
from tests.dialects.ai_sdk.ai_sdk_packages import read_by_package
from tests.dialects.ai_sdk.ai_sdk_streams import ANSWERS, STREAM_ID, log_of

both = pytest.mark.parametrize("version", [6, 7])

TORN: list[ev.Event] = [
    ev.Start(message_metadata={"model": "m"}),
    ev.StartStep(),
    ev.TextStart(id="0"),
    ev.TextDelta(id="0", delta="torn"),
]
RESTARTED: list[ev.Event] = [
    ev.Start(message_metadata={"model": "m"}),
    ev.StartStep(),
    ev.TextStart(id="0"),
    ev.TextDelta(id="0", delta="whole"),
    ev.TextEnd(id="0"),
    ev.FinishStep(),
    ev.Finish(finish_reason="stop"),
]


def known(part: Json, half: set[str]) -> Json:
    """What the model of the client and the packages call by the same names."""
    if part["type"].startswith("tool-"):
        part = {**part, "type": "tool", "toolName": part["type"].removeprefix("tool-")}
    final = {name: value for name, value in part.items() if value is not None and name not in ("rawInput", "title")}
    # The model parses no half JSON, and v6 calls the input that was refused the raw one.
    if part.get("state") == "output-error" or part.get("toolCallId") in half:
        final.pop("input", None)
    return final


@both
def test_every_answer_opened_at_every_entry_is_the_same_message(version: Version) -> None:
    dialect = AiSdkDialect(version=version)
    joins: dict[tuple[str, bytes], int] = {}  # many joiners receive the same bytes, and read the same
    for name, events in ANSWERS.items():
        log = log_of(events)
        for k in range(len(log)):
            transcript = dialect.open(STREAM_ID)
            transcript.encode(log[:k])
            joins[name, transcript.snapshot() + transcript.encode(log[k:])] = k
    wholes: dict[str, Any] = {}
    pages = read_by_package(version, [[body] for _, body in joins])
    for ((name, body), k), page in zip(joins.items(), pages, strict=True):
        visible = {field: page[field] for field in ("messages", "status", "error")}
        assert wholes.setdefault(name, visible) == visible, f"{name}, joined after {k}"
        model = Client(version).read(body)
        assert page["error"] == model.error, name
        parts = page["messages"][0]["parts"] if page["messages"] else []
        half = {part["toolCallId"] for part in model.parts if isinstance(part.get("input"), tuple)}
        assert [known(part, half) for part in parts] == [known(part, half) for part in model.parts], name


@both
def test_a_torn_answer_is_replaced_by_the_new_attempt(version: Version) -> None:
    """v7 takes it back in the stream, v6 errs and refetches the stream: in the end, one message, nothing twice."""
    log = log_of([*TORN, ev.Attempt(attempt=2), *RESTARTED])
    live = AiSdkDialect(version=version).open(STREAM_ID)
    first = live.encode(log[:8])
    late = AiSdkDialect(version=version).open(STREAM_ID)
    late.encode(log[:8])
    bodies = [first + live.encode(log[8:]), late.snapshot() + late.encode(log[8:])]
    (page,) = read_by_package(version, [bodies], "--retry")
    (message,) = page["messages"]
    assert [part.get("text") for part in message["parts"]] == [None, "whole"]
    assert message["metadata"] == {"model": "m"}
    assert page["status"] == "ready"
    assert (page["error"] is None) == (version == 7)


@both
def test_notices_and_farewells_are_sent_and_are_no_part_of_the_message(version: Version) -> None:
    log = log_of(RESTARTED)
    transcript = AiSdkDialect(version=version).open(STREAM_ID)
    gap = transcript.gap(Gap(GapReason.TRIMMED, Cursor(7, 3), 1, 3))
    assert gap is not None
    body = gap + transcript.encode(log[3:4]) + transcript.stalled(StallReason.WORKER_LOST) + transcript.stalled(None)
    body += AiSdkDialect(version=version).heartbeat + transcript.bye("drain", reconnect=True, retry_ms=1000)
    (page,) = read_by_package(version, [[body]])
    assert [part["type"] for part in page["data"]] == ["data-gap", "data-stalled", "data-stalled"]
    assert page["data"][0]["data"] == {"reason": "trimmed", "from": 1, "to": 3}
    (message,) = page["messages"]
    assert [part["type"] for part in message["parts"]] == ["step-start", "text"]
    assert message["parts"][1]["text"] == "whole"
    assert "goes on" in page["error"]


@both
def test_an_answer_that_goes_on_with_a_message_is_that_message(version: Version) -> None:
    dialect = AiSdkDialect(version=version, message_id="msg_of_the_page")
    (page,) = read_by_package(version, [[dialect.open(STREAM_ID).encode(log_of(RESTARTED))]])
    assert [message["id"] for message in page["messages"]] == ["msg_of_the_page"]


@both
def test_ids_of_entries_disturb_no_client(version: Version) -> None:
    bodies = [
        [AiSdkDialect(version=version, ids=ids).open(STREAM_ID).encode(log_of(RESTARTED)) + b":\n\n"]
        for ids in (False, True)
    ]
    plain, numbered = read_by_package(version, bodies)
    assert plain == numbered
