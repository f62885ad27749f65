"""A viewer resumes at a front-end whose log began later than what its client holds: a feed has trimmed it meanwhile.

Two front-ends are two hubs over the same log. The clients are those that the dialects' own tests hold against the SDKs.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any, Final

import hypothesis.strategies as st
import pytest
from hypothesis import given

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import DIALECTS
from broadcaster.hub.hub import Hub
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.dialects.ag_ui.ag_ui_client import AgUiClient
from tests.dialects.ai_sdk.ai_sdk_client import Client
from tests.hub.conftest import LIMITS
from tests.hub.replay.test_replay import room_of
from tests.hub.support import turns
from tests.support.memory.fake_tail import FakeTail

EPOCH: Final = 5
AI_SDKS: Final = {"ai-sdk": 6, "ai-sdk-7": 7}
NAMES: Final = [*AI_SDKS, "ag-ui"]


def log_of(events: Sequence[ev.Event]) -> list[Entry]:
    return [Entry(EPOCH, seq, ev.encode_event(event)) for seq, event in enumerate(events, 1)]


def side_by_side(count: int = 20) -> list[ev.Event]:
    """Two texts of ``count`` deltas in all, as models write them that run in parallel."""
    ids = "AB" * (count // 2)
    deltas = [ev.TextDelta(id=id, delta=f"{id.lower()}{at} ") for at, id in enumerate(ids)]
    begins, ends = ([kind(id=id) for id in "AB"] for kind in (ev.TextStart, ev.TextEnd))
    return [ev.Start(), ev.StartStep(), *begins, *deltas, *ends, ev.FinishStep(), ev.Finish()]


def progress(count: int = 20) -> list[ev.Event]:
    """What most jobs publish: data, and no text."""
    return [*(ev.DataEvent(type="data-progress", data={"done": at}) for at in range(count)), ev.Finish()]


def open_hub(*log: Entry) -> tuple[Hub, FakeTail]:
    tail = FakeTail()
    tail.log["g"].extend(log)
    return Hub(tail, tail, limits=LIMITS), tail


async def join(hub: Hub, name: str, *, after: int) -> Viewer:
    viewer = await hub.join("g", cursor=Cursor(EPOCH, after), timeout_s=5, dialect=DIALECTS[name])
    assert isinstance(viewer, Viewer)
    return viewer


async def pull(*viewers: Viewer) -> bytes:
    """What there is for them."""
    pulled, silent = b"", 0
    while silent < 30:  # pages are read between two that bring something
        piece = b"".join(viewer.pull(2**16) for viewer in viewers)
        pulled, silent = pulled + piece, 0 if piece else silent + 1
        await turns(1)
    return pulled


async def received(name: str, log: list[Entry], *, cursor: int, trimmed: int, known: int) -> tuple[bytes, bytes]:
    """What a client receives up to ``cursor``, and then from another front-end, which has ``known`` entries by then."""
    first, _ = open_hub(*log[:cursor])
    second, tail = open_hub(*log[trimmed:known])
    try:
        seen = await pull(await join(first, name, after=0))
        viewer = await join(second, name, after=cursor)
        rest = await pull(viewer)
        for entry in log[known:]:
            tail.append("g", entry)
            rest += await pull(viewer)
        return seen, rest
    finally:
        await first.aclose()
        await second.aclose()


def shown(name: str, stream: bytes, rest: bytes = b"") -> tuple[list[str], bool]:
    """The texts that a client shows in the end, and whether it received an error or dropped what it held."""
    if name in AI_SDKS:
        page = Client(AI_SDKS[name]).read(stream + rest)
        return [part["text"] for part in page.parts if part["type"] in ("text", "reasoning")], page.error is not None
    behind = rest.partition(b"\n\n")[2] if stream else rest  # the greeting stands in front of both
    agent = AgUiClient().read(stream + behind)
    return [message["content"] for message in agent.messages if message.get("content")], bool(agent.errors)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("known", [14, 20, 28], ids=["at the end", "behind the end", "over"])
async def test_a_text_is_not_continued_by_another_one_at_another_front_end(name: str, known: int) -> None:
    log = log_of(side_by_side())
    seen, rest = await received(name, log, cursor=14, trimmed=7, known=known)
    texts, was_warned = shown(name, seen, rest)
    assert [len({*text} & {*"ab"}) for text in texts] == [1, 1]
    assert was_warned
    if name in AI_SDKS:
        texts, was_warned = shown(name, rest.partition(b"\n\n")[2])  # as the client fetches it anew
    assert (sorted(text[-4:] for text in texts), name in AI_SDKS and was_warned) == (["a18 ", "b19 "], False)


@pytest.mark.parametrize("name", [*AI_SDKS, "delta", "named", "parts"])
async def test_progress_without_text_continues_at_another_front_end(name: str) -> None:
    seen, rest = await received(name, log_of(progress()), cursor=14, trimmed=7, known=16)
    assert b"error" not in seen + rest
    assert b"event: retry" not in rest
    if name in AI_SDKS:
        page = Client(AI_SDKS[name]).read(seen + rest)
        done = [part["data"]["done"] for part in page.parts if part["type"] == "data-progress"]
        assert (done, page.is_done) == ([*range(20)], True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trimmed", [1_000, 3_000], ids=["before its place", "behind it"])
async def test_a_viewer_that_falls_behind_a_trimmed_log_ends_and_then_receives_the_whole_snapshot(
    name: str, trimmed: int
) -> None:
    tail = FakeTail()
    hub = Hub(tail, tail, limits=dataclasses.replace(LIMITS, room_bytes=2**17))
    log = log_of(side_by_side(6_000)[:-4])
    tail.append("g", *log)
    await pull(await join(hub, name, after=len(log)))
    behind = await join(hub, name, after=1)
    while behind.seq < 2_000:
        behind.pull(2**16)
        await turns(1)
    replay = room_of(hub).replays.of(DIALECTS[name]).replay
    assert replay is not None
    replay._stretches.keep_through(0)
    replay._checkpoints.clear()
    replay._sweep = None
    room_of(hub)._pages.keep_through(0)
    del tail.log["g"][:trimmed]

    last_seq, rest = behind.seq, await pull(behind)
    assert behind.stop_reason is StopReason.GAP
    assert b"delta" not in rest
    resumed = await join(hub, name, after=last_seq)
    texts, _ = shown(name, b"", (await pull(resumed)).partition(b"\n\n")[2])
    assert [text.split()[0] for text in texts] == ["a0", "b1"]
    await hub.aclose()


async def test_an_ag_ui_client_whose_entry_was_trimmed_drops_its_messages() -> None:
    log = log_of(side_by_side())
    seen, rest = await received("ag-ui", log, cursor=9, trimmed=14, known=20)
    assert shown("ag-ui", seen, rest) == (["a10 a12 a14 a16 a18 ", "b11 b13 b15 b17 b19 "], True)


async def test_an_ag_ui_client_whose_log_expired_keeps_its_messages() -> None:
    first, _ = open_hub(*log_of([ev.TextStart(id="A"), ev.TextDelta(id="A", delta="Once"), ev.TextEnd(id="A")]))
    second, tail = open_hub()
    seen = await pull(await join(first, "ag-ui", after=0))
    await join(second, "ag-ui", after=0)
    tail.sinks["g"].gap(Gap(GapReason.EXPIRED, Cursor(EPOCH, 5), 1, 5))
    tail.append("g", Entry(EPOCH, 6, b'{"type":"error","errorText":"expired","code":"expired"}'))
    rest = await pull(await join(second, "ag-ui", after=3))
    agent = AgUiClient().read(seen + rest.partition(b"\n\n")[2])
    assert (agent.text, [name for name, _ in agent.customs], agent.errors) == ("Once", ["hub.gap"], ["expired"])
    await first.aclose()
    await second.aclose()


ids: Final = st.sampled_from("AB")
kinds: Final[list[st.SearchStrategy[Any]]] = [
    st.builds(ev.TextDelta, id=ids, delta=st.just("")),
    st.builds(ev.TextDelta, id=ids, delta=st.just("")),
    st.builds(ev.TextStart, id=ids),
    st.builds(ev.TextEnd, id=ids),
    st.builds(ev.ReasoningDelta, id=ids, delta=st.just("")),
    st.builds(ev.ToolInputStart, tool_call_id=ids, tool_name=st.just("look")),
    st.builds(ev.ToolInputDelta, tool_call_id=ids, input_text_delta=st.just("{}")),
    st.builds(ev.ToolInputAvailable, tool_call_id=ids, tool_name=st.just("look"), input=st.just({})),
    st.builds(ev.ToolOutputAvailable, tool_call_id=ids, output=st.just("")),
    st.builds(ev.DataEvent, type=st.just("data-progress"), data=st.just(1)),
    st.just(ev.StartStep()),
    st.just(ev.FinishStep()),
]
streams: Final = st.lists(st.one_of(kinds), min_size=3, max_size=24)


def numbered(events: Sequence[Any]) -> list[ev.Event]:
    """Each delta of text is a letter of its own."""
    growing = (ev.TextDelta, ev.ReasoningDelta)
    return [
        type(event)(id=event.id, delta=chr(0x100 + at)) if isinstance(event, growing) else event
        for at, event in enumerate(events)
    ]


@pytest.mark.parametrize("name", NAMES)
@given(events=streams, data=st.data())
def test_a_viewer_that_resumes_anywhere_shows_no_text_in_a_wrong_place(
    name: str, events: list[Any], data: st.DataObject
) -> None:
    log = log_of([*numbered(events), ev.Finish()])
    trimmed = data.draw(st.integers(1, len(log) - 2))
    known = data.draw(st.integers(trimmed + 1, len(log) - 1))
    cursor = data.draw(st.integers(1, known))
    seen, rest = asyncio.run(received(name, log, cursor=cursor, trimmed=trimmed, known=known))
    _, anew = asyncio.run(received(name, log, cursor=0, trimmed=trimmed, known=known))

    texts, was_warned = shown(name, seen, rest)
    whole, _ = shown(name, seen, asyncio.run(received(name, log, cursor=cursor, trimmed=0, known=known))[1])
    if name == "ag-ui" and was_warned:
        assert texts == shown(name, b"", anew)[0]
    elif was_warned:
        assert shown(name, rest.partition(b"\n\n")[2]) == shown(name, anew)
    else:
        assert all(any(text in one for one in whole) for text in texts)
        assert b"gap" in rest or sorted("".join(texts)) == sorted("".join(whole))
