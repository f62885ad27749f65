"""Streams in which deltas follow each other, some of them in a form that cannot be copied."""

from __future__ import annotations

from typing import Final

import msgspec
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from tests.dialects.ag_ui.ag_ui_streams import ANY_EVENT

_TEXT: Final = st.one_of(
    st.sampled_from(
        ["a", " ", "é ", "line\nbreak", 'he said "no"', "back\\slash", "50 % of %d", "\u2028", "\0", "\x7f"]
    ),
    st.sampled_from(["", "</script>", '","delta":"', "data: x\n\ndata: y", "~1~delta~", "id: 5-1", "x" * 600]),
    st.text(max_size=12),
)
_ID: Final = st.sampled_from(["0", "1", "a b", 'q"', "é", "%d"])

_STRANGE: Final = st.sampled_from(
    [
        rb'"\u00e9"}',
        rb'"a\/b"}',
        rb'"\u0041"}',
        b'"raw\nbreak"}',
        b'"raw\0zero"}',
        b'"not UTF-8 \xff"}',
        b'"half \xed\xa0\x80"}',
        b'"spaced" }',
        b'"one","delta":"two"}',
        b'"and more","providerMetadata":{"openai":{"logprobs":[1]}}}',
        b'"cut',
        b'"too much"}}',
        b'"data"}\n\ndata: {"forged":"yes"}',
        b"null}",
        b"1}",
    ]
)
"""From the text on: what stands in no log that we write, and what another writer or a newer version may write."""

_OPENINGS: Final = {
    "text": (b'{"type":"text-start","id":%b}', b'{"type":"text-delta","id":%b,"delta":'),
    "reasoning": (b'{"type":"reasoning-start","id":%b}', b'{"type":"reasoning-delta","id":%b,"delta":'),
    "call": (
        b'{"type":"tool-input-start","toolCallId":%b,"toolName":"t"}',
        b'{"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":',
    ),
}


@st.composite
def _run(draw: st.DrawFn) -> list[bytes]:
    """Deltas of one part, one behind another."""
    start, head = (form % msgspec.json.encode(draw(_ID)) for form in _OPENINGS[draw(st.sampled_from([*_OPENINGS]))])
    texts = draw(st.lists(_TEXT.map(lambda text: msgspec.json.encode(text) + b"}"), min_size=2, max_size=12))
    if draw(st.booleans()):
        texts.insert(draw(st.integers(0, len(texts))), draw(_STRANGE))
    deltas = [head + text for text in texts]
    return [start, *deltas] if draw(st.booleans()) else deltas


_PIECE: Final[st.SearchStrategy[list[bytes]]] = st.one_of(
    _run(),
    _run(),
    st.one_of(ANY_EVENT, st.builds(ev.Attempt, attempt=st.just(2), reason=st.just("worker_lost"))).map(
        lambda event: [ev.encode_event(event)]
    ),
)


@st.composite
def delta_streams(draw: st.DrawFn) -> list[Entry]:
    """Entries of a stream that has not ended; a new attempt has a newer epoch."""
    events = [event for piece in draw(st.lists(_PIECE, min_size=1, max_size=12)) for event in piece]
    entries, epoch = [], 5_000
    for seq, event in enumerate(events, 1):
        epoch += 1_000 * event.startswith(b'{"type":"attempt"')
        entries.append(Entry(epoch, seq, event))
    return entries
