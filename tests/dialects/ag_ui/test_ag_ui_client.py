"""AG-UI as the real ``@ag-ui/client`` under Node reads it: skipped where that is not installed (tests/compat/node)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects.ag_ui.encode import AgUiDialect
from broadcaster.dialects.writing import NEW_ATTEMPT
from tests.dialects.ag_ui.ag_ui_client import AgUiClient
from tests.dialects.ag_ui.ag_ui_streams import STREAM_ID, STREAMS, any_stream, entries_of, last_attempt
from tests.dialects.ag_ui.test_ag_ui import BEFORE, HISTORIES

NODE: Final = Path(__file__).parents[2] / "compat" / "node"
DEADLINE_S: Final = 100

pytestmark = [
    pytest.mark.skipif(
        shutil.which("node") is None or not (NODE / "node_modules" / "@ag-ui" / "client").is_dir(),
        reason="@ag-ui/client is not installed in tests/compat/node",
    ),
]

on_every_history = pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)


def read_by_client(bodies: Sequence[bytes], history: Sequence[Any]) -> list[dict[str, Any]]:
    """What the client is left with after each of these responses."""
    return read_by_clients([(body, history) for body in bodies])


def read_by_clients(bodies: Sequence[tuple[bytes, Sequence[Any]]]) -> list[dict[str, Any]]:
    """The same of clients with these messages each."""
    cases = "".join(json.dumps({"body": body.decode(), "messages": held}) + "\n" for body, held in bodies)
    command = ["node", str(NODE / "ag_ui.mjs"), "--cases"]
    done = subprocess.run(command, input=cases.encode(), capture_output=True, timeout=DEADLINE_S, check=True)
    # Not splitlines: U+2028 is text.
    return [json.loads(line) for line in done.stdout.decode().strip("\n").split("\n")]


def opening(events: Sequence[ev.Event], *, k: int, history: Sequence[Any], ids: bool = True) -> bytes:
    """All bytes of a response to a viewer that joins after k entries."""
    transcript = AgUiDialect(history=json.dumps(list(history)).encode(), ids=ids).open(STREAM_ID)
    entries = entries_of(events)
    transcript.encode(entries[:k])
    hello = transcript.hello(status="running", retry_ms=1000)
    return hello + transcript.snapshot() + transcript.encode(entries[k:])


@on_every_history
def test_the_client_is_left_with_what_our_model_of_it_holds(history: list[Any]):
    bodies = [opening(events, k=0, history=history) for events in STREAMS.values()]
    for name, body, read in zip(STREAMS, bodies, read_by_client(bodies, history), strict=True):
        expected = AgUiClient(history).read(body)
        assert {field: read[field] for field in expected.left_with} == expected.left_with, name
        assert read["errors"] == expected.errors
        assert read["warned"] == [], name


@on_every_history
def test_a_client_that_joins_at_any_entry_ends_with_the_same(history: list[Any]):
    joins = [(name, k) for name, events in STREAMS.items() for k in range(len(events))]
    bodies = [opening(STREAMS[name], k=k, history=history, ids=k % 2 == 0) for name, k in joins]
    distinct = list(dict.fromkeys(bodies))  # many joiners receive the same bytes, and read the same
    read_of = dict(zip(distinct, read_by_client(distinct, history), strict=True))
    read = {join: read_of[body] for join, body in zip(joins, bodies, strict=True)}
    for (name, k), left in read.items():
        whole = read[name, 0]
        for field in ("messages", "outcome", "error", "pending", "usage", "metadata", "warned"):
            assert left[field] == whole[field], f"{name}, joined after {k}: {field}"


@on_every_history
def test_torn_attempts_leave_nothing_behind(history: list[Any]):
    torn = {name: events for name, events in STREAMS.items() if len(last_attempt(events)) < len(events)}
    bodies = [opening(events, k=0, history=history) for events in torn.values()]
    for events, read in zip(torn.values(), read_by_client(bodies, history), strict=True):
        kept = [event for event in events if isinstance(event, ev.Attempt)][-1:]
        alone = opening([*kept, *last_attempt(events)], k=0, history=history)
        assert read["messages"] == AgUiClient(history).read(alone).messages


@on_every_history
def test_a_client_that_returns_with_a_void_cursor_ends_with_the_answer_alone(history: list[Any]):
    gap = Gap(GapReason.REWOUND, Cursor(1, 0), 1, 9)
    cases, alone = [], []
    for events in STREAMS.values():
        entries = entries_of(events)
        dialect = AgUiDialect(history=json.dumps(list(history)).encode(), ids=True)
        void, whole = dialect.open(STREAM_ID), dialect.open(STREAM_ID)
        hello = void.hello(status="running", retry_ms=1000)
        torn = AgUiClient(history).read(hello + void.encode(entries[:-1])).messages
        whole.encode(entries[:-1])
        rest = whole.snapshot() + whole.fork().encode(entries[-1:])
        cases.append((hello + whole.discard(gap) + rest, torn))
        alone.append(AgUiClient(history).read(hello + rest).messages)
    for (body, torn), read, expected in zip(cases, read_by_clients(cases), alone, strict=True):
        assert read["messages"] == expected
        assert read["messages"] == AgUiClient(torn).read(body).messages
        assert (read["errors"][:1], read["warned"]) == ([NEW_ATTEMPT], [])


def test_any_stream_joined_anywhere_is_read_without_complaint():
    bodies: list[bytes] = []

    @settings(max_examples=200, database=None, deadline=None)
    @given(any_stream(), st.data())
    def collect(events: list[ev.Event], data: st.DataObject) -> None:
        bodies.append(opening(events, k=data.draw(st.integers(0, len(events) - 1)), history=BEFORE))

    collect()
    for body, read in zip(bodies, read_by_client(bodies, BEFORE), strict=True):
        expected = AgUiClient(BEFORE).read(body).left_with
        assert {field: read[field] for field in expected} == expected, body
        assert read["warned"] == [], body


def test_heartbeats_and_an_early_end_are_read():
    transcript = AgUiDialect(ids=True).open(STREAM_ID)
    entries = entries_of(STREAMS["agent loop"])
    body = transcript.hello(status="running", retry_ms=1000)
    body += AgUiDialect.heartbeat.join([transcript.encode([entry]) for entry in entries[:6]])
    (read,) = read_by_client(
        [body + AgUiDialect.heartbeat + transcript.bye("drain", reconnect=True, retry_ms=1000)], []
    )
    assert (read["outcome"], read["errors"], read["warned"]) == ("error", ["drain"], [])
