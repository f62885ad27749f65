"""AG-UI where entries are missing: what follows can be read, and no call has wrong arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects.ag_ui.encode import AgUiDialect
from broadcaster.hub.hub import Hub
from broadcaster.hub.stop_reasons import StopReason
from tests.dialects.ag_ui import ag_ui_streams as streams
from tests.dialects.ag_ui.ag_ui_client import AgUiClient
from tests.dialects.ag_ui.ag_ui_streams import entries_of
from tests.dialects.ag_ui.test_ag_ui import HELLO, QUESTION, opened
from tests.hub.conftest import LIMITS
from tests.hub.replay.test_lost_attempts import body_of, read_on_socket
from tests.support.memory.fake_tail import FakeTail

PAYMENT = {"amount": 10000}
BEGUN: list[ev.Event] = [
    ev.StartStep(),
    ev.ToolInputStart(tool_call_id="c", tool_name="pay"),
    ev.ToolInputDelta(tool_call_id="c", input_text_delta='{"amount":1'),
]
REST: list[ev.Event] = [
    ev.ToolInputDelta(tool_call_id="c", input_text_delta="}"),
    ev.ToolInputAvailable(tool_call_id="c", tool_name="pay", input=PAYMENT),
    ev.FinishStep(),
    ev.Finish(finish_reason="tool-calls"),
]
TRIMMED = Gap(GapReason.TRIMMED, Cursor(streams.EPOCH, 6), 4, 6)


def behind(gap: Gap, *events: ev.Event) -> list[Entry]:
    return [Entry(streams.EPOCH, seq, ev.encode_event(event)) for seq, event in enumerate(events, gap.last_seq + 1)]


def arguments_of(client: AgUiClient) -> list[Any]:
    calls = [call for message in client.messages for call in message.get("toolCalls", ())]
    return [json.loads(call["function"]["arguments"]) for call in calls]


def test_a_gap_is_custom_and_what_follows_can_be_read():
    transcript = opened(ids=True)
    gap = Gap(GapReason.TRIMMED, Cursor(streams.EPOCH, 2), 1, 2)
    notice = transcript.gap(gap)
    assert notice is not None
    lost: list[ev.Event] = [ev.TextStart(id="0"), ev.TextDelta(id="0", delta="lost")]
    entries = entries_of([*lost, *streams.wrote("kept"), ev.Finish()])
    client = AgUiClient([QUESTION]).read(HELLO + transcript.snapshot() + notice + transcript.encode(entries[3:]))
    assert client.customs == [("hub.gap", {"reason": "trimmed", "from": 1, "to": 2})]
    assert client.ids[0] == str(gap.at)
    assert client.text == "kept"


@pytest.mark.parametrize("reason", [GapReason.REWOUND, GapReason.RESET])
def test_a_gap_that_goes_back_ends_the_viewer(reason: GapReason):
    assert opened().gap(Gap(reason, Cursor(1, 1), 0, 0)) is None


def test_a_call_whose_beginning_is_missing_has_its_whole_input():
    transcript = opened()
    raw = HELLO + (transcript.gap(TRIMMED) or b"")
    early = transcript.fork()
    client = AgUiClient([QUESTION]).read(raw + transcript.encode(behind(TRIMMED, *REST)))
    assert (arguments_of(client), client.pending) == ([PAYMENT], ["c"])
    before, after = behind(TRIMMED, *REST)[:2], behind(TRIMMED, *REST)[2:]
    early.encode(before)
    joined = AgUiClient([QUESTION]).read(HELLO + early.snapshot() + early.encode(after))
    assert (arguments_of(joined), joined.pending) == ([PAYMENT], ["c"])


def test_a_gap_ends_the_viewer_only_while_a_call_that_it_has_is_open():
    transcript = opened()
    transcript.encode(entries_of(BEGUN))
    assert transcript.gap(TRIMMED) is None
    transcript.encode(entries_of([*BEGUN, *REST])[3:5])
    assert transcript.gap(TRIMMED) is not None


@pytest.mark.usefixtures("unpaced")
async def test_a_viewer_that_misses_a_part_of_the_arguments_never_has_a_call_with_the_rest_of_them():
    tail = FakeTail()
    hub = Hub(tail, tail, limits=LIMITS)
    reader = await read_on_socket(hub, AgUiDialect())
    tail.append("g", *entries_of(BEGUN))
    await body_of(reader)
    tail.fast_paths["g"].close()
    tail.sinks["g"].gap(TRIMMED)
    tail.sinks["g"].deliver(behind(TRIMMED, *REST))
    client = AgUiClient([QUESTION]).read(await body_of(reader))
    assert (client.outcome, client.errors, client.pending) == ("error", ["gap"], [])
    assert reader.viewer.stop_reason is StopReason.GAP
    reader.close()
    await hub.aclose()


@pytest.mark.usefixtures("unpaced")
@pytest.mark.parametrize("cursor", [None, Cursor(streams.EPOCH, 3), TRIMMED.at], ids=["anew", "before", "behind"])
async def test_a_viewer_that_comes_after_the_gap_receives_what_is_left(cursor: Cursor | None):
    tail = FakeTail()
    hub = Hub(tail, tail, limits=LIMITS)
    dialect = AgUiDialect(ids=True)
    reader = await read_on_socket(hub, dialect)
    tail.append("g", *entries_of(BEGUN))
    await body_of(reader)
    tail.fast_paths["g"].close()
    tail.sinks["g"].gap(TRIMMED)
    tail.append("g", *behind(TRIMMED, *REST[:2]))
    await body_of(reader)
    assert reader.viewer.stop_reason is StopReason.GAP

    late = await read_on_socket(hub, dialect, cursor=cursor)
    tail.append("g", *behind(TRIMMED, *REST)[2:])
    client = AgUiClient([QUESTION]).read(await body_of(late))
    assert (client.outcome, arguments_of(client), client.pending) == ("success", [PAYMENT], ["c"])
    assert late.viewer.stop_reason is StopReason.TERMINAL
    reader.close()
    late.close()
    await hub.aclose()
