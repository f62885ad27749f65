"""The stored form of every event: what comes back, what comes first, what ends a stream."""

from __future__ import annotations

import json
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events
from broadcaster.core.entry import Entry
from broadcaster.core.events import (
    KNOWN_TYPES,
    TERMINAL_TYPES,
    UNREADABLE,
    Abort,
    DataEvent,
    Error,
    Finish,
    FinishStep,
    TextDelta,
    ToolOutputAvailable,
    UnknownEvent,
    Usage,
    decode_event,
    encode_event,
    is_terminal,
    read_event,
)

KNOWN_STRUCTS = get_args(events.KnownEvent)

texts = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('\r\n\u2028\u2029\x85\x0b\x0c\0"\\/<'), max_size=20
)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's declared type: the few kinds that events use."""
    simple = {Any: json_values, str: texts, bool: st.booleans(), int: st.integers(0, 2**53), NoneType: st.none()}
    if kind in simple:
        return simple[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return st.one_of(*map(values_of, arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    assert origin is dict, kind
    return st.dictionaries(texts, values_of(arguments[1]), max_size=2)


def instances_of(struct: Any) -> st.SearchStrategy[Any]:
    return st.builds(struct, **{field.name: values_of(field.type) for field in msgspec.structs.fields(struct)})


data_names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map(lambda name: f"data-{name}")
data_events = st.builds(
    DataEvent, type=data_names, data=json_values, id=st.none() | texts, transient=st.none() | st.booleans()
)
any_event = st.one_of(data_events, *map(instances_of, KNOWN_STRUCTS))


@pytest.mark.parametrize("struct", KNOWN_STRUCTS, ids=lambda struct: struct.__name__)
def test_every_event_comes_back_as_it_was_stored(struct):
    @given(instances_of(struct))
    def comes_back(event):
        assert decode_event(encode_event(event)) == event

    comes_back()


@given(data_events)
def test_an_application_event_comes_back_under_its_own_name(event):
    assert decode_event(encode_event(event)) == event


@given(any_event)
def test_stored_bytes_are_one_line_of_json_with_the_type_first(event):
    raw = encode_event(event)
    assert b"\n" not in raw
    assert b"\r" not in raw
    assert next(iter(json.loads(raw))) == "type"
    assert raw.startswith(b'{"type":"')


@given(any_event)
def test_absent_optional_fields_are_left_out(event):
    assert None not in [value for name, value in json.loads(encode_event(event)).items() if name not in _ANY_FIELDS]


_ANY_FIELDS = {"input", "output", "data"}


@given(any_event)
def test_only_finish_error_and_abort_end_a_stream(event):
    raw = encode_event(event)
    assert is_terminal(raw) == isinstance(event, Finish | Error | Abort)
    assert Entry(7, 1, raw).is_terminal == is_terminal(raw)


def test_the_end_of_a_step_is_not_the_end_of_the_stream():
    assert not is_terminal(encode_event(FinishStep(finish_reason="stop")))
    assert is_terminal(encode_event(Finish(finish_reason="stop")))
    assert not is_terminal(encode_event(DataEvent(type="data-finish", data={"type": "finish"})))


def test_a_text_that_resembles_an_end_does_not_end_a_stream():
    assert not is_terminal(encode_event(TextDelta(id="0", delta='{"type":"finish"')))


def test_fields_are_named_as_the_ui_message_stream_names_them():
    event = ToolOutputAvailable(tool_call_id="call_1", output=None, provider_executed=True)
    assert encode_event(event) == (
        b'{"type":"tool-output-available","toolCallId":"call_1","output":null,"providerExecuted":true}'
    )
    assert encode_event(Usage(input_tokens=3, cached_input_tokens=1)) == (
        b'{"type":"usage","inputTokens":3,"cachedInputTokens":1}'
    )


def test_the_known_types_are_those_of_the_vocabulary():
    assert {struct.__struct_config__.tag for struct in KNOWN_STRUCTS} == KNOWN_TYPES
    assert {"start", "text-delta", "usage", "attempt", "finish", "error", "abort"} <= KNOWN_TYPES


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), json_values)
def test_an_event_of_a_newer_version_is_passed_on_by_its_name(name, extra):
    kind = f"new-{name}"
    raw = msgspec.json.encode({"type": kind, "extra": extra})
    assert decode_event(raw) == UnknownEvent(type=kind)
    assert not is_terminal(raw)


def test_a_field_of_a_newer_version_is_ignored():
    assert decode_event(b'{"type":"text-delta","id":"0","delta":"x","new":[1]}') == TextDelta(id="0", delta="x")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b'"start"', b"{}", b'{"type":1}', b'{"type":null}', b'{"type":"text-delta"}',
        b'{"type":"text-delta","id":"0","delta":1}', b'{"type":"data-x"}', b'{"type":"finish"',
        b'{"type":"finish","finishReason":"invented"}',
    ],
)  # fmt: skip
def test_bytes_that_are_no_event_are_refused(raw):
    with pytest.raises(msgspec.DecodeError):
        decode_event(raw)


@pytest.mark.parametrize(
    "raw",
    [b'{"type":"\xff"}', b'{"type":"text-delta","id":"0","delta":"\xff"}', b'{"type":"data-x","data":"\xff"}'],
)
def test_bytes_that_are_not_utf8_are_refused(raw):
    with pytest.raises(msgspec.DecodeError):
        decode_event(raw)


# ------------------------------------------------------------------------------------------------------ other versions

_WITHOUT_FIELDS = {"start", "start-step", "finish-step", "attempt", "usage"}  # that must be there


@pytest.mark.parametrize("kind", sorted(KNOWN_TYPES - _WITHOUT_FIELDS - TERMINAL_TYPES))
def test_a_known_type_in_a_shape_of_another_version_is_read_as_an_unknown_one(kind):
    assert isinstance(read_event(b'{"type":"%b","id":{"of":"a newer version"}}' % kind.encode()), UnknownEvent)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"finish","finishReason":"invented"}', b'{"type":"finish"', b'{"type":"error","errorText":7}',
        b'{"type":"abort","reason":{}}', b'{"type":"abort","reason":"\xff"}',
        b'{"type":"finish","messageMetadata":' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_an_unreadable_terminal_event_is_read_as_an_error(raw):
    event = read_event(raw)
    assert isinstance(event, Error)
    assert event.code == UNREADABLE


def test_a_readable_event_is_read_as_it_was_written():
    for event in (TextDelta(id="0", delta="x"), Finish(), Error(error_text="no", code="refused")):
        assert read_event(encode_event(event)) == event
