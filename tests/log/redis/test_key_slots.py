"""Where a command goes: by its key, and never anywhere by chance."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster.log.redis.topology.key_slots import SlotMap, key_of, slot_of


@pytest.mark.parametrize(
    ("args", "key"),
    [
        (("GET", "k"), b"k"),
        (("EVALSHA", "hash", 2, "a", "b", "argument"), b"a"),
        (("XGROUP CREATE", "k", "group", "0"), b"k"),
        (("XREADGROUP", b"GROUP", "group", "STREAMS", b"COUNT", "1", b"STREAMS", "a", "b", ">", ">"), b"a"),
        (("XREAD", b"COUNT", "1", b"STREAMS", "a", "b", "0-0", "0-0"), b"a"),
        (("SPUBLISH", "bc:{x}:live", b"push"), b"bc:{x}:live"),
    ],
)
def test_a_command_goes_where_its_first_key_is(args: tuple[Any, ...], key: bytes) -> None:
    assert key_of(args) == key


@pytest.mark.parametrize("args", [("TIME",), ("EVAL", "return 1", 0), ("SCAN", 0), ("FROBNICATE", "k")])
def test_a_command_without_a_known_key_goes_nowhere(args: tuple[Any, ...]) -> None:
    with pytest.raises(LookupError):
        key_of(args)


def test_everything_of_one_stream_is_in_one_slot() -> None:
    assert len({slot_of(f"bc:{{gen_1}}:{name}".encode()) for name in ("log", "meta", "lease", "live")}) == 1


def test_a_map_names_the_owner_of_each_slot_and_knows_the_holes() -> None:
    reply = [[0, 100, [b"h1", 1, b"id"], [b"h2", 2, b"id"]], [101, 16382, [None, 3, b"id"]]]
    read = SlotMap.read(reply, source="source:9")

    assert (read.owners[100], read.owners[101], read.owners[16383]) == ("h1:1", "source:3", None)
    assert (read.primaries, read.replicas["h1:1"], read.is_whole) == (("h1:1", "source:3"), ("h2:2",), False)
