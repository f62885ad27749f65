"""Anthropic decode: laws that hold for every stream and every way the network cuts it."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.testing import wire
from tests.dialects.anthropic.anthropic_streams import GOOD_ENDINGS, STREAMS, stream
from tests.dialects.decoding import read_all

Outcome = tuple[list[ev.Event], str | None, bool, ev.Usage]


def outcome(*chunks: bytes) -> Outcome:
    """What these chunks and the end of the body come to; on this wire an answer is whole when it has ended."""
    events, reason, is_whole, is_ended, usage = read_all(AnthropicDecoder(), *chunks)
    assert is_whole is is_ended or reason is not None
    return events, reason, is_ended, usage


@pytest.mark.parametrize("name", GOOD_ENDINGS)
def test_a_good_stream_obeys_the_order_and_ends_once(name: str):
    events, reason, is_whole, _ = outcome(STREAMS[name])
    assert (reason, is_whole) == (None, True)
    check_order(events)


def check_order(events: list[ev.Event]) -> None:
    """The order that clients enforce: a delta within its part, each part once, all closed, one terminal, last."""
    open_parts: set[tuple[str, str]] = set()
    seen: set[tuple[str, str]] = set()
    for event in events:
        match event:
            case ev.TextStart(id=id) | ev.ReasoningStart(id=id) | ev.ToolInputStart(tool_call_id=id):
                kind = "tool" if isinstance(event, ev.ToolInputStart) else "part"
                assert (kind, id) not in seen
                seen.add((kind, id))
                open_parts.add((kind, id))
            case ev.TextDelta(id=id) | ev.ReasoningDelta(id=id):
                assert ("part", id) in open_parts
            case ev.ToolInputDelta(tool_call_id=id):
                assert ("tool", id) in open_parts
            case ev.TextEnd(id=id) | ev.ReasoningEnd(id=id):
                open_parts.remove(("part", id))
            case ev.ToolInputAvailable(tool_call_id=id) | ev.ToolInputError(tool_call_id=id):
                open_parts.remove(("tool", id))
            case ev.ToolOutputAvailable(tool_call_id=id) | ev.ToolOutputError(tool_call_id=id):
                assert ("tool", id) in seen
    assert not open_parts
    assert [type(event) for event in events[:2]] == [ev.Start, ev.StartStep]
    assert [type(event) for event in events[-3:]] == [ev.Usage, ev.FinishStep, ev.Finish]
    assert sum(isinstance(event, ev.Finish | ev.Error | ev.Abort) for event in events) == 1


# ------------------------------------------------------------------------------------------------ streams by hypothesis

chars = st.text(max_size=12).filter(lambda text: not any("\ud800" <= char <= "\udfff" for char in text))
pieces = st.lists(chars, max_size=4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | chars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(chars, inner, max_size=3),
    max_leaves=6,
)
citations = st.lists(
    st.builds(wire.web_citation, chars, title=chars) | st.fixed_dictionaries({"type": chars}), max_size=3
)


@st.composite
def tools(draw: st.DrawFn) -> tuple[wire.Block, Any]:
    value = draw(st.dictionaries(chars, json_values, max_size=3))
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    borders = [0, *cuts, len(text)]
    fragments = [text[begin:end] for begin, end in pairwise(borders)]
    build = draw(st.sampled_from([wire.tool_use, wire.server_tool_use]))
    return build("a_tool", *fragments), value


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[wire.WireEvent], dict[str, Any]]:
    """A proper stream with strange blocks, and pings strewn in, and what a client must be able to read from it."""
    blocks: list[wire.Block] = []
    made: dict[str, Any] = {
        "text": [],
        "thinking": [],
        "signatures": [],
        "inputs": [],
        "citations": [],
        "passed": [],
    }
    for number in range(draw(st.integers(0, 5))):
        match draw(st.sampled_from(["text", "thinking", "tool", "strange"])):
            case "text":
                sent, cited = draw(pieces), draw(citations)
                blocks.append(wire.text(*sent, citations=cited))
                made["text"].append("".join(sent))
                made["citations"] += cited
            case "thinking":
                sent, signature = draw(pieces), draw(chars)
                blocks.append(wire.thinking(*sent, signature=signature))
                made["thinking"].append("".join(sent))
                made["signatures"].append(signature)
            case "tool":
                block, value = draw(tools())
                block.start["id"] = f"call_{number}"
                blocks.append(block)
                made["inputs"].append(value)
            case _:
                block = wire.Block({"type": "hologram", "size": draw(json_values)}, [{"type": "shape_delta"}])
                made["passed"] += wire.block_events(len(blocks), block)
                blocks.append(block)
    events = wire.message(*blocks, stop_reason=draw(st.none() | chars))
    for at in sorted(draw(st.lists(st.integers(1, len(events) - 1), max_size=3)), reverse=True):
        events.insert(at, wire.ping())
    return events, made


@given(answers(), st.data())
def test_nothing_of_an_answer_is_lost_however_it_is_cut(
    answer: tuple[list[wire.WireEvent], dict[str, Any]], data: st.DataObject
):
    wire_events, made = answer
    raw = stream(*wire_events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6), label="cuts"))
    borders = [0, *cuts, len(raw)]
    events, reason, is_whole, usage = outcome(*(raw[begin:end] for begin, end in pairwise(borders)))
    assert (reason, is_whole, usage.estimated) == (None, True, False)
    check_order(events)
    assert read_back(events) == made


def read_back(events: list[ev.Event]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "text": [],
        "thinking": [],
        "signatures": [],
        "inputs": [],
        "citations": [],
        "passed": [],
    }
    for event in events:
        extras = (getattr(event, "provider_metadata", None) or {}).get("anthropic", {})
        match event:
            case ev.TextStart():
                made["text"].append("")
            case ev.TextDelta(delta=delta):
                made["text"][-1] += delta
                made["citations"] += [extras["citation"]] if extras else []
            case ev.ReasoningStart():
                made["thinking"].append("")
            case ev.ReasoningDelta(delta=delta):
                made["thinking"][-1] += delta
                made["signatures"] += [extras["signature"]] if extras else []
            case ev.ToolInputAvailable(input=value):
                made["inputs"].append(value)
            case ev.DataEvent(data=value):
                made["passed"].append(value)
    return made


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_garbage_ends_in_silence_or_in_a_failure_and_never_in_an_answer(chunks: list[bytes]):
    events, reason, is_whole, _ = outcome(*chunks)
    assert not is_whole
    assert reason in (None, "provider_bad_data", "provider_error")
    assert not any(isinstance(event, ev.Finish) for event in events)
