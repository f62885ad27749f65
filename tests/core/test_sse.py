"""SSE framing, both ways. The reference parser below walks the specification's text and shares no code with ours."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broadcaster.core.sse import SseDecoder, SseMessage, encode_comment, encode_frame
from broadcaster.errors import BadFrame

# ------------------------------------------------------------------------------------------------- the reference parser


@dataclass
class _Reference:
    """WHATWG HTML 9.2.6, sentence by sentence, over the whole text at once."""

    data: str = ""
    event_type: str = ""
    id_buffer: str = ""
    last_event_id: str = ""
    retry: int | None = None
    block_retry: int | None = None
    out: list[SseMessage] = field(default_factory=list)

    def parse(self, stream: bytes) -> list[SseMessage]:
        text = stream.decode("utf-8", "replace")
        text = text.removeprefix("\ufeff")
        lines, line, at = [], "", 0
        while at < len(text):
            if text[at] in "\r\n":
                lines.append(line)
                line = ""
                at += 2 if text[at : at + 2] == "\r\n" else 1
            else:
                line += text[at]
                at += 1
        # What is left in `line` has no end: pending data is discarded.
        for line in lines:
            self.interpret(line)
        return self.out

    def interpret(self, line: str) -> None:
        if line == "":
            self.dispatch()
        elif line[0] == ":":
            pass
        elif ":" in line:
            at = line.index(":")
            value = line[at + 1 :]
            self.process(line[:at], value[1:] if value[:1] == " " else value)
        else:
            self.process(line, "")

    def process(self, name: str, value: str) -> None:
        if name == "event":
            self.event_type = value
        elif name == "data":
            self.data += value + "\n"
        elif name == "id":
            if "\0" not in value:
                self.id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]{1,18}", value, re.ASCII):
            self.retry = self.block_retry = int(value)

    def dispatch(self) -> None:
        self.last_event_id = self.id_buffer
        if self.data != "":
            message = SseMessage(self.event_type or "message", self.data[:-1], self.last_event_id, self.block_retry)
            self.out.append(message)
        self.data, self.event_type, self.block_retry = "", "", None


# --------------------------------------------------------------------------------------------------------------- inputs

_AWKWARD = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\0: \ufeff€😀é"
texts = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(_AWKWARD + "\r\n")), max_size=40)
one_line = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(_AWKWARD)), max_size=20).map(
    lambda text: re.sub("[\r\n\0]", "", text)
)
frames = st.tuples(texts, st.none() | one_line, st.none() | one_line, st.none() | st.integers(0, 10**18 - 1))
_PIECES = [
    b"data", b"data:", b"data: ", b"id:", b"id: 7-1", b"id", b"event: hub.gap", b"event",
    b"retry: 12", b"retry: 1x", b"retry:", b"retry: -1", b":", b": note", b"Data: x", b"data : x",
    b"data: x\n\n", b"event: a\ndata: {}\n\n", b"event: a\r\ndata: {}\r\n\r\n", b"data: \n\n",
    b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\t", b"\0",
    b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xf0\x9f", b"\xff", "\u2028\x85\x0b".encode(),
]  # fmt: skip
streams = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=4), max_size=30).map(b"".join)


def decode_all(stream: bytes, *cuts: int, decoder: SseDecoder | None = None) -> list[SseMessage]:
    decoder = decoder or SseDecoder()
    borders = [0, *cuts, len(stream)]
    messages = [
        message for left, right in itertools.pairwise(borders) for message in decoder.decode(stream[left:right])
    ]
    return messages + decoder.flush()


def with_lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    "begun", [b"x", b"event: a\n", b"id: 7\n", b"data: x\n", b": note\n\nx", b"data: x\n\nid: 7\n"]
)
def test_lines_of_a_whole_block_are_none_where_another_has_begun(begun):
    raw = b"data: 1\n\n" + begun + b"data: 2\n\ndata: 3\n\n"
    border = 9 + len(begun)
    assert decode_all(raw, 9, border) == decode_all(raw, 9, border, border + 9) == _Reference().parse(raw)


# -------------------------------------------------------------------------------------------------------------- encoder


def test_a_frame_has_event_id_retry_and_data_in_this_order():
    frame = encode_frame(b'{"type":"start"}', id="7-1", event="hub.gap", retry_ms=1500)
    assert frame == b'event: hub.gap\nid: 7-1\nretry: 1500\ndata: {"type":"start"}\n\n'


def test_a_frame_without_extras_is_one_data_line():
    assert encode_frame(b"x") == b"data: x\n\n"


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_every_line_of_the_data_becomes_a_data_line(line_end):
    assert encode_frame(b"a" + line_end + b"b" + line_end) == b"data: a\ndata: b\ndata: \n\n"


@pytest.mark.parametrize("forged", ["1\ndata: x", "1\rdata: x", "1\r\n\r\ndata: x", "1\0", "\n", "\ud800"])
@pytest.mark.parametrize("name", ["id", "event"])
def test_an_id_or_event_that_would_forge_a_field_is_refused(name, forged):
    with pytest.raises(BadFrame):
        encode_frame(b"x", **{name: forged})


def test_a_negative_retry_is_refused():
    with pytest.raises(BadFrame):
        encode_frame(b"x", retry_ms=-1)


@given(st.text(max_size=20), st.text(max_size=20))
def test_whatever_id_and_event_hold_a_frame_is_refused_or_stays_one_frame(id, event):
    try:
        frame = encode_frame(b"x", id=id, event=event)
    except BadFrame:
        return
    assert decode_all(frame) == [SseMessage(event or "message", "x", id, None)]
    assert frame.count(b"\n\n") == 1


def test_a_comment_is_a_block_of_its_own():
    assert encode_comment() == b":\n\n"
    assert encode_comment(" keep-alive") == b": keep-alive\n\n"


@pytest.mark.parametrize("forged", ["a\ndata: x", "a\rdata: x", "\ud800"])
def test_a_comment_of_two_lines_is_refused(forged):
    with pytest.raises(BadFrame):
        encode_comment(forged)


# ----------------------------------------------------------------------------------------------------------- round trip


@given(frames)
@example(("", None, None, None))
@example(("\n", "", "", 0))
@example(("\ufeff\u2028\x85\x0b", " 7-1 ", " named ", 1))
def test_an_encoded_frame_decodes_to_the_same_message(frame):
    data, id, event, retry_ms = frame
    raw = encode_frame(data.encode(), id=id, event=event, retry_ms=retry_ms)
    decoder = SseDecoder()
    assert decoder.decode(raw) == [SseMessage(event or "message", with_lf(data), id or "", retry_ms)]
    assert decoder.last_event_id == (id or "")
    assert decoder.retry_ms == retry_ms


@given(frames)
def test_no_cut_at_any_byte_changes_what_is_decoded(frame):
    data, id, event, retry_ms = frame
    raw = b"\xef\xbb\xbf" + encode_frame(data.encode(), id=id, event=event, retry_ms=retry_ms) + encode_comment(" x")
    whole = decode_all(raw)
    for cut in range(len(raw) + 1):
        assert decode_all(raw, cut) == whole
    assert decode_all(raw, *range(1, len(raw))) == whole


@pytest.mark.parametrize(
    "raw",
    [
        "\ufeffid: 1-1\r\ndata: 😀\r\ndata: é\r\n\r\n".encode(),
        b"\xef\xbb\xbfevent: a\rid: 1-1\rdata: x\r\rdata: y\n\n",
        b"data\n\ndata:\r\n\rretry: 5\n\n: c\ndata: z\n\n",
    ],
)
def test_no_two_cuts_change_what_is_decoded(raw):
    whole = decode_all(raw)
    assert whole == _Reference().parse(raw)
    for first in range(len(raw) + 1):
        for second in range(first, len(raw) + 1):
            assert decode_all(raw, first, second) == whole


@given(streams)
def test_the_decoder_agrees_with_the_specification_on_any_bytes(raw):
    decoder, reference = SseDecoder(), _Reference()
    assert decode_all(raw, decoder=decoder) == reference.parse(raw)
    assert decoder.last_event_id == reference.last_event_id
    assert decoder.retry_ms == reference.retry


@given(streams, st.lists(st.integers(0, 200), max_size=4))
def test_the_decoder_agrees_with_the_specification_however_the_bytes_are_cut(raw, cuts):
    assert decode_all(raw, *sorted(min(cut, len(raw)) for cut in cuts)) == _Reference().parse(raw)


# -------------------------------------------------------------------------------------------------------------- decoder


def test_the_examples_of_the_specification_are_decoded_as_specified():
    raw = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    assert decode_all(raw) == [
        SseMessage("message", "first event", "1", None),
        SseMessage("message", "second event", "", None),
        SseMessage("message", " third event", "", None),
    ]
    assert [message.data for message in decode_all(b"data\n\ndata\ndata\n\ndata:")] == ["", "\n"]
    assert [message.data for message in decode_all(b"data: YHOO\ndata: +2\ndata: 10\n\n")] == ["YHOO\n+2\n10"]


def test_a_message_ended_by_cr_is_not_held_back_for_an_lf_that_may_never_come():
    decoder = SseDecoder()
    assert [message.data for message in decoder.decode(b"data: a\r\r")] == ["a"]
    assert decoder.decode(b"\ndata: b") == []
    assert [message.data for message in decoder.decode(b"\r\n\r")] == ["b"]


def test_unicode_separators_are_text_and_not_line_ends():
    separators = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    assert [message.data for message in decode_all(f"data: {separators}\n\n".encode())] == [separators]


def test_a_byte_order_mark_counts_only_at_the_start():
    raw = "\ufeffdata: a\n\n\ufeffdata: b\n\ndata: c\n\n".encode()
    assert [message.data for message in decode_all(raw)] == ["a", "c"]


def test_an_id_with_nul_leaves_the_last_one_in_force():
    assert [message.id for message in decode_all(b"id: 1-1\ndata: a\n\nid: 9\0-9\ndata: b\n\n")] == ["1-1", "1-1"]


@pytest.mark.parametrize("retry", [b"", b"-1", b"1.5", b"1e3", b" 7", "٣".encode(), b"9" * 5000])
def test_a_retry_that_is_not_a_plain_number_is_ignored(retry):
    decoder = SseDecoder()
    assert decoder.decode(b"retry: " + retry + b"\ndata: x\n\n") == [SseMessage("message", "x", "", None)]
    assert decoder.retry_ms is None


def test_a_block_of_retry_alone_is_no_message_but_is_remembered():
    decoder = SseDecoder()
    assert decoder.decode(b"retry: 250\n\n") == []
    assert decoder.retry_ms == 250
    assert decoder.decode(b"data: x\n\n") == [SseMessage("message", "x", "", None)]


def test_a_block_of_id_alone_is_no_message_but_moves_the_last_event_id():
    decoder = SseDecoder()
    assert decoder.decode(b"id: 7-3\n\n") == []
    assert decoder.last_event_id == "7-3"


def test_the_id_of_a_torn_block_does_not_count():
    decoder = SseDecoder()
    decoder.decode(b"id: 7-1\ndata: a\n\nid: 7-2\ndata: b\n")
    assert decoder.flush() == []
    assert decoder.last_event_id == "7-1"
    assert decoder.decode("\ufeffdata: c\n\n".encode()) == [SseMessage("message", "c", "7-1", None)]


def test_a_torn_character_of_the_connection_before_does_not_leak_into_the_next():
    decoder = SseDecoder()
    decoder.decode(b"data: \xf0\x9f")
    decoder.flush()
    assert decoder.decode(b"\x98\x80\ndata: x\n\n") == [SseMessage("message", "x", "", None)]


def test_an_event_of_exactly_the_bound_is_read_and_one_byte_more_is_refused():
    fits = b"data: " + b"x" * 94 + b"\n\n"
    assert [len(message.data) for message in decode_all(fits * 3, decoder=SseDecoder(max_event_bytes=100))] == [94] * 3
    with pytest.raises(BadFrame):
        SseDecoder(max_event_bytes=99).decode(fits)
    behind_another = SseDecoder(max_event_bytes=99)
    assert len(behind_another.decode(b"data: x\n\n")) == 1
    with pytest.raises(BadFrame):
        behind_another.decode(fits)


def test_a_chunk_beyond_the_bound_that_begins_with_the_rest_of_a_line_end_leaves_the_next_lines_bounded():
    decoder = SseDecoder(max_event_bytes=20)
    assert len(decoder.decode(b"data: a\r\n\r")) == 1
    assert decoder.decode(b"\ndata: " + b"x" * 14) == []
    with pytest.raises(BadFrame):
        decoder.decode(b"data: b\n\n")


@pytest.mark.parametrize(
    "portion",
    [b"x", b"data: xxxxxxxxx\n", b"data\n", b": an endless comment ", b"id: endless", b"event: endless"],
    ids=["line", "data lines", "empty data lines", "comment", "id", "event"],
)
def test_an_endless_block_is_refused_at_the_bound(portion):
    decoder = SseDecoder(max_event_bytes=1000)
    with pytest.raises(BadFrame):
        for _ in range(1001):
            decoder.decode(portion)


def test_many_small_blocks_never_meet_the_bound():
    decoder = SseDecoder(max_event_bytes=100)
    assert sum(len(decoder.decode(b": note\ndata: x\n\n" * 10)) for _ in range(100)) == 1000


@given(streams, st.integers(1, 40), st.lists(st.integers(0, 200), max_size=4))
def test_whether_a_stream_meets_the_bound_does_not_depend_on_its_cuts(raw, bound, cuts):
    def outcome(*borders: int) -> list[SseMessage] | None:
        try:
            return decode_all(raw, *borders, decoder=SseDecoder(max_event_bytes=bound))
        except BadFrame:
            return None

    assert outcome(*sorted(min(cut, len(raw)) for cut in cuts)) == outcome()
