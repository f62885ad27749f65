"""What a publisher may append, and how a refusal names the fault without its value."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from broadcaster.core.events import KNOWN_TYPES, TERMINAL_TYPES, Abort, DataEvent, TextDelta, decode_event
from broadcaster.core.requests.json_values import MAX_LEVELS
from broadcaster.core.requests.publishing import as_mapping, encode_end, encode_published, encode_writable, plain_copy
from broadcaster.errors import InvalidEvent

DELTA = {"type": "text-delta", "id": "0", "delta": "a"}
SECRET = "sk-do-not-show-me"


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (DELTA, b'{"type":"text-delta","id":"0","delta":"a"}'),
        ({"delta": "a", "id": "0", "type": "text-delta"}, b'{"type":"text-delta","id":"0","delta":"a"}'),
        ({"data": {"done": 1}, "type": "data-progress"}, b'{"type":"data-progress","data":{"done":1}}'),
        (
            {"type": "data-a_b.c:1-d", "id": "x", "data": None, "transient": True},
            b'{"type":"data-a_b.c:1-d","data":null,"id":"x","transient":true}',
        ),
        ({"type": "start-step"}, b'{"type":"start-step"}'),
        ({"type": "usage", "inputTokens": 3}, b'{"type":"usage","inputTokens":3}'),
    ],
)
def test_an_event_is_stored_as_the_workers_store_theirs(value: Any, stored: bytes) -> None:
    assert encode_published(value) == stored


class Text(str):
    __slots__ = ()


class Number(float):
    pass


class Count(int):
    pass


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({"type": "data-x", "data": [Text("a"), Number(0.5), Count(3)]}, b'{"type":"data-x","data":["a",0.5,3]}'),
        (
            {Text("type"): Text("data-x"), "data": {Text("a"): {Number(0.5): 1, Count(3): 2}}},
            b'{"type":"data-x","data":{"a":{"0.5":1,"3":2}}}',
        ),
        (DELTA | {"delta": Text("b")}, b'{"type":"text-delta","id":"0","delta":"b"}'),
        (TextDelta(id="0", delta=Text("b")), b'{"type":"text-delta","id":"0","delta":"b"}'),
    ],
)
@pytest.mark.parametrize("is_writable", [False, True])
def test_texts_and_numbers_of_subclasses_are_stored_as_plain_ones(value: Any, stored: bytes, is_writable: bool) -> None:
    assert encode_published(as_mapping(value), is_writable=is_writable) == stored


def test_a_copy_has_plain_texts_and_numbers_alone() -> None:
    copied = plain_copy({Text("a"): [Text("b"), {"c": (Number(0.5), Count(3), True)}]})
    (key,) = copied
    text, inner = copied["a"]
    assert [type(each) for each in (key, text, *inner["c"])] == [str, str, float, int, bool]


def test_a_line_break_in_an_event_is_escaped() -> None:
    assert b"\n" not in encode_published({"type": "data-x", "data": "a\nb\r\u2028"})


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (5, ""),
        ([], ""),
        (None, ""),
        ({}, "/type"),
        ({"type": 5}, "/type"),
        ({"type": "text-delt", "id": "0", "delta": "a"}, "/type"),
        ({"type": "hub.live"}, "/type"),
        ({"type": "attempt", "attempt": 2}, "/type"),
        *(({"type": kind}, "/type") for kind in sorted(TERMINAL_TYPES)),
        ({"type": "data-", "data": 1}, "/type"),
        ({"type": "data-a b", "data": 1}, "/type"),
        ({"type": "data-" + "x" * 65, "data": 1}, "/type"),
        ({"type": "data-x"}, ""),
        ({"type": "text-delta", "id": "0"}, ""),
        (DELTA | {"id": 5}, "/id"),
        (DELTA | {"dleta": "b"}, "/dleta"),
        (DELTA | {"a/b~": "b"}, "/a~1b~0"),
        (DELTA | {"provider_metadata": {}}, "/provider_metadata"),
        (DELTA | {"providerMetadata": {"a": 5}}, "/providerMetadata"),
        ({"type": "data-x", "data": 1, "more": 2}, "/more"),
        ({"type": "finish-step", "finishReason": SECRET}, "/finishReason"),
        ({"type": "data-x", "data": math.nan}, ""),
        ({"type": "data-x", "data": {"a": [math.inf]}}, ""),
        ({"type": "data-x", "data": Number(math.nan)}, ""),
        ({"type": "data-x", "data": "\ud800"}, ""),
        (b"", ""),
    ],
)
def test_an_event_that_may_not_be_published_is_refused_where_its_fault_is(value: Any, pointer: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        encode_published(value)
    assert refused.value.pointer == pointer
    assert SECRET not in refused.value.detail


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass
class Job:
    done: int = 1


class Model(BaseModel):
    done: int = 1


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (NOON, "a value of type datetime at /data/a~1b/1 is not JSON: send value.isoformat() or str(value)"),
        (Decimal("1.5"), "a value of type Decimal at /data/a~1b/1 is not JSON: send str(value)"),
        (UUID(int=1), "a value of type UUID at /data/a~1b/1 is not JSON: send str(value)"),
        ({1, 2}, "a value of type set at /data/a~1b/1 is not JSON: send list(value)"),
        (MappingProxyType({}), "a value of type mappingproxy at /data/a~1b/1 is not JSON: send dict(value)"),
        (Job(), "a value of type Job at /data/a~1b/1 is not JSON: send dataclasses.asdict(value)"),
        (Model(), 'a value of type Model at /data/a~1b/1 is not JSON: send value.model_dump(mode="json")'),
        (Colour.RED, "a value of type Colour at /data/a~1b/1 is not JSON: send value.value"),
        (Abort(), "a value of type Abort at /data/a~1b/1 is not JSON: send msgspec.to_builtins(value)"),
        ({True: 1}, "a key of type bool at /data/a~1b/1 is not JSON: send str(key)"),
        ({(1, 2): 3}, "a key of type tuple at /data/a~1b/1 is not JSON: send str(key)"),
        *(
            (
                kind(b"\x00"),
                f"a value of type {kind.__name__} at /data/a~1b/1 is not JSON:"
                " send value.decode() or base64.b64encode(value).decode()",
            )
            for kind in (bytes, bytearray)
        ),
        (
            memoryview(b"\x00"),
            "a value of type memoryview at /data/a~1b/1 is not JSON: send base64.b64encode(value).decode()",
        ),
    ],
)
def test_a_type_that_json_lacks_is_named_with_its_place_and_what_to_send_instead(value: Any, what: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        encode_published({"type": "data-x", "data": {"a/b": [0, value]}})
    assert (refused.value.detail, refused.value.pointer) == (what, "/data/a~1b/1")


def test_an_event_of_our_types_names_what_json_lacks_as_well() -> None:
    with pytest.raises(InvalidEvent, match=r"^a value of type Model is not JSON: send value\.model_dump"):
        as_mapping(DataEvent(type="data-x", data=Model()))


def test_a_mistyped_type_is_refused_with_the_known_one_that_it_resembles() -> None:
    for kind, rest in (("text-delt", "; the nearest is text-delta"), ("tokens", ""), ("x" * 10_000, "")):
        with pytest.raises(InvalidEvent, match=f"a known part type or data-<name>{rest}$"):
            encode_published({"type": kind})


def test_every_known_type_but_the_terminal_ones_and_attempt_may_be_published() -> None:
    filled = {
        "id": "0", "delta": "a", "toolCallId": "t", "toolName": "n", "inputTextDelta": "{", "input": {}, "output": 1,
        "errorText": "e", "sourceId": "s", "url": "u", "mediaType": "m", "title": "t", "attempt": 2,
    }  # fmt: skip
    for kind in KNOWN_TYPES - TERMINAL_TYPES - {"attempt"}:
        missing = True
        value: dict[str, Any] = {"type": kind}
        while missing:
            try:
                stored = encode_published(value)
                missing = False
            except InvalidEvent as refused:
                name = refused.detail.partition("`")[2].partition("`")[0]
                value[name] = filled[name]
        assert stored.startswith(b'{"type":"%s"' % kind.encode())
        decode_event(stored)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ({}, b'{"type":"finish"}'),
        ({"type": "finish", "finishReason": "stop"}, b'{"type":"finish","finishReason":"stop"}'),
        ({"errorText": "x", "type": "error", "code": "y"}, b'{"type":"error","errorText":"x","code":"y"}'),
        ({"type": "abort", "reason": "r"}, b'{"type":"abort","reason":"r"}'),
    ],
)
def test_an_end_is_one_of_the_three_terminal_events(value: Any, stored: bytes) -> None:
    assert encode_end(value) == stored


@pytest.mark.parametrize("value", [[], "finish", {"type": "done"}, {"type": "error"}, DELTA, {"finishReason": "stop"}])
def test_nothing_else_is_an_end(value: Any) -> None:
    with pytest.raises(InvalidEvent):
        encode_end(value)


TREE_WITH_PARENTS = """
import resource

resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))
from broadcaster.core.events import DataEvent
from broadcaster.core.requests.publishing import as_mapping, encode_published
from broadcaster.errors import InvalidEvent

deep = object()
for _ in range(60):
    deep = [deep]
for first in "a", deep:
    root = {"first": first, "text": "x" * 2**20, "children": []}
    root["children"] += ({"parent": root} for _ in range(3))
    for event in {"type": "data-tree", "data": root}, DataEvent(type="data-tree", data=root):
        try:
            encode_published(as_mapping(event))
        except InvalidEvent as refused:
            print(refused.pointer, refused.detail)
"""


def test_a_value_that_contains_itself_several_times_is_refused_with_its_place_and_in_bounded_memory() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TREE_WITH_PARENTS], check=False, capture_output=True, text=True, timeout=30
    )
    place, deep = "/data/children/2/parent", "/data/first" + 60 * "/0"
    assert ended.stdout.splitlines() == [
        *2 * [f"{place} the value at {place} contains itself, which JSON cannot hold"],
        f"{deep} a value of type object at {deep} is not JSON: send str(value)",
        " a value of type object is not JSON: send str(value)",
    ], ended.stderr


def test_a_value_that_has_another_one_several_times_is_stored() -> None:
    shared = {"name": "a"}
    assert encode_published({"type": "data-x", "data": [shared, [shared]]}).endswith(b'[{"name":"a"},[{"name":"a"}]]}')


def test_a_circle_of_more_levels_than_are_kept_is_refused_for_its_depth() -> None:
    value = nested(5000)
    innermost = value
    while isinstance(innermost[1], list):
        innermost = innermost[1]
    innermost[1] = value
    with pytest.raises(ValueError, match="levels of nesting"):
        encode_writable(value)


def test_absurd_nesting_is_refused() -> None:
    with pytest.raises(ValueError):
        encode_writable(nested(5000))


@pytest.mark.parametrize("is_list", [True, False])
def test_as_many_levels_as_a_response_can_hold_are_accepted_and_no_more(is_list: bool) -> None:
    encode_writable(nested(MAX_LEVELS, is_list=is_list))
    with pytest.raises(ValueError):
        encode_writable(nested(MAX_LEVELS + 1, is_list=is_list))


def nested(levels: int, *, is_list: bool = True) -> Any:
    """So many lists, or objects, in one another."""
    value: Any = 0
    for _ in range(levels):
        value = [0, value] if is_list else {"a": 0, "b": value}
    return value
