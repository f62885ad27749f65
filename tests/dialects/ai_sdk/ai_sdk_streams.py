"""Streams of ours by name, as the log holds them: recorded answers of all wires, several steps, everything odd."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.sse import SseDecoder
from tests.dialects.decoding import read_all
from tests.dialects.test_decoding_laws import WIRES

EPOCH = 1_795_000_000_000
STREAM_ID = "gen_1"


def log_of(events: Iterable[ev.Event]) -> list[Entry]:
    """The entries of these events; each attempt has an epoch of its own."""
    entries: list[Entry] = []
    epoch = EPOCH
    for seq, event in enumerate(events, 1):
        epoch += isinstance(event, ev.Attempt)
        entries.append(Entry(epoch, seq, ev.encode_event(event)))
    return entries


def recorded(wire: str, name: str) -> list[ev.Event]:
    """What a worker appends of this answer, without its end."""
    create, streams = WIRES[wire]
    return [event for event in read_all(create(), streams[name]).events if not isinstance(event, ev.Finish)]


def answered(events: Sequence[ev.Event]) -> list[ev.Event]:
    """The outputs of the caller's tools that these events call."""
    calls = [event for event in events if isinstance(event, ev.ToolInputAvailable) and not event.provider_executed]
    return [ev.ToolOutputAvailable(tool_call_id=call.tool_call_id, output={"of": call.tool_name}) for call in calls]


def steps(*answers: list[ev.Event]) -> list[ev.Event]:
    """Answers of several provider calls as one, with the tools run between them."""
    collected: list[ev.Event] = []
    for answer in answers:
        collected += [*answer, *answered(answer)]
    return collected


END = ev.Finish(finish_reason="stop")

ANSWERS: dict[str, list[ev.Event]] = {
    f"{wire}: {name}": [*recorded(wire, name), END] for wire, (_, streams) in WIRES.items() for name in streams
} | {
    "two steps of anthropic": [
        *steps(recorded("anthropic", "two tools"), recorded("anthropic", "thinking then text")),
        END,
    ],
    "three steps": [
        *steps(
            recorded("anthropic", "thinking then text"),
            recorded("anthropic", "two tools"),
            recorded("responses", "reasoning with summaries, then text"),
        ),
        END,
    ],
    "data and a job's words": [
        ev.DataEvent(type="data-progress", data={"done": 1}, id="p"),
        ev.DataEvent(type="data-note", data="soon", transient=True),
        ev.TextDelta(id="log", delta="line"),
        ev.DataEvent(type="data-progress", data={"done": 2}, id="p"),
        ev.DataEvent(type="data-row", data=[1]),
        ev.SourceDocument(source_id="s", media_type="text/plain", title="T", filename="t.txt"),
        ev.File(url="data:,x", media_type="text/plain", provider_metadata={"p": {"a": 1}}),
        END,
    ],
    "tools that fail and answer twice": [
        ev.ToolInputStart(tool_call_id="a", tool_name="x", provider_metadata={"p": {"a": 1}}),
        ev.ToolInputDelta(tool_call_id="a", input_text_delta='{"b', provider_metadata={"p": {"held": 1}}),
        ev.ToolInputError(tool_call_id="a", tool_name="x", input='{"b', error_text="no JSON"),
        ev.ToolOutputError(tool_call_id="a", error_text="not run"),
        ev.ToolInputAvailable(tool_call_id="b", tool_name="y", input={}, dynamic=True),
        ev.ToolOutputAvailable(tool_call_id="b", output=1, preliminary=True, provider_metadata={"p": {"r": 1}}),
        ev.ToolOutputAvailable(tool_call_id="b", output=2, preliminary=True),
        ev.ToolOutputAvailable(tool_call_id="b", output=3, provider_metadata={"p": {"s": 1}}),
        ev.ToolInputStart(tool_call_id="c", tool_name="z", provider_executed=True),
        ev.ToolInputDelta(tool_call_id="c", input_text_delta='{"half'),
        ev.ToolOutputAvailable(tool_call_id="c", output="early"),
        ev.ToolOutputAvailable(tool_call_id="nobody", output="lost"),
        END,
    ],
    "failed": [*recorded("anthropic", "text")[:-1], ev.Usage(output_tokens=2), ev.Error(error_text="gone")],
    "failed at once": [ev.Error(error_text="gone", code="queue_timeout")],
    "stopped": [*recorded("anthropic", "thinking then text")[:-2], ev.Usage(output_tokens=2), ev.Abort()],
    "empty": [END],
}  # fmt: skip

# ------------------------------------------------------------------------------------------------------ odd, by chance

_ids = st.sampled_from(["0", "1"])
_calls = st.sampled_from(["a", "b"])
_texts = st.sampled_from(["", "x", "\u2028é🌊", '{"q":'])
_metadata = st.none() | st.builds(
    lambda provider, key, value: {provider: {key: value}},
    st.sampled_from(["anthropic", "openai"]),
    st.sampled_from(["signature", "itemId"]),
    st.sampled_from(["s", 1, {"n": [1]}]),
)
_maybe = st.none() | st.booleans()


def _built(event: type[ev.Event], **fields: st.SearchStrategy[object]) -> st.SearchStrategy[ev.Event]:
    return st.builds(event, provider_metadata=_metadata, **fields)


_parts: st.SearchStrategy[ev.Event] = st.one_of(
    st.just(ev.StartStep()),
    st.just(ev.FinishStep(finish_reason="tool-calls")),
    *(_built(kind, id=_ids) for kind in (ev.TextStart, ev.TextEnd, ev.ReasoningStart, ev.ReasoningEnd)),
    *(_built(kind, id=_ids, delta=_texts) for kind in (ev.TextDelta, ev.ReasoningDelta)),
    _built(ev.ToolInputStart, tool_call_id=_calls, tool_name=_ids, provider_executed=_maybe, dynamic=_maybe),
    _built(ev.ToolInputDelta, tool_call_id=_calls, input_text_delta=_texts),
    _built(ev.ToolInputAvailable, tool_call_id=_calls, tool_name=_ids, input=_texts, dynamic=_maybe),
    _built(ev.ToolInputError, tool_call_id=_calls, tool_name=_ids, input=_texts, error_text=_texts, dynamic=_maybe),
    _built(ev.ToolOutputAvailable, tool_call_id=_calls, output=_texts, preliminary=_maybe),
    _built(ev.ToolOutputError, tool_call_id=_calls, error_text=_texts),
    _built(ev.SourceUrl, source_id=_ids, url=_texts, title=st.none() | _texts),
    st.builds(ev.DataEvent, type=st.just("data-x"), data=_texts, id=st.none() | _ids, transient=_maybe),
    st.builds(ev.Usage, output_tokens=st.integers(0, 9), estimated=st.booleans()),
    st.just(ev.UnknownEvent(type="hologram")),
)  # fmt: skip
_starts = st.builds(
    ev.Start,
    message_id=st.none() | _ids,
    message_metadata=st.none() | st.sampled_from([{"model": "a"}, {"model": "b"}]),
)
_ends = st.sampled_from([END, ev.Finish(), ev.Error(error_text="gone"), ev.Abort(reason="stopped")])

attempts = st.lists(_parts | _starts, max_size=12)
"""Any events in any order, without an end."""

logs = st.builds(lambda events, end: log_of([*events, end]), attempts, _ends)


def blocks_of(stream: bytes) -> list[tuple[str, str]]:
    """Id in force and data of each block."""
    return [(message.id, message.data) for message in SseDecoder().decode(stream)]
