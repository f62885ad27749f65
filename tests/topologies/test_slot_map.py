"""The map of a cluster's slots, as CLUSTER SLOTS returns it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.log.redis.topology.key_slots import SLOTS, SlotMap, slot_of
from tests.support.log.redis_cluster import RedisCluster6


@st.composite
def cuts(draw: st.DrawFn) -> list[tuple[int, int, int | None]]:
    """Slots in ranges, each served by one node or by none."""
    bounds = sorted({0, SLOTS, *draw(st.lists(st.integers(1, SLOTS - 1), max_size=20))})
    owners = st.one_of(st.none(), st.integers(7000, 7004))
    return [(first, last - 1, draw(owners)) for first, last in pairwise(bounds)]


@settings(max_examples=60, deadline=None)
@given(cuts(), st.randoms(use_true_random=False))
def test_every_slot_has_exactly_the_owner_of_the_reply_or_none(
    ranges: list[tuple[int, int, int | None]], rng: Any
) -> None:
    reply = [[first, last, [b"h", port, b"id"], [b"h", port + 100, b"id"]] for first, last, port in ranges if port]
    rng.shuffle(reply)

    seen = SlotMap.read(reply, source="x:1")

    assert len(seen.owners) == SLOTS
    for first, last, port in ranges:
        assert set(seen.owners[first : last + 1]) == {port and f"h:{port}"}
    assert set(seen.primaries) == {owner for owner in seen.owners if owner}
    assert seen.is_whole == all(port for _, _, port in ranges)


@pytest.mark.parametrize(
    ("node", "name"),
    [
        ([b"10.0.0.1", 7000, b"id"], "10.0.0.1:7000"),
        ([b"::1", 7000, b"id", []], "::1:7000"),
        ([b"redis-0.example.test", 7000, b"id", [b"ip", b"10.0.0.1"]], "redis-0.example.test:7000"),
        ([b"", 7000, b"id"], "source:7000"),
        ([None, 7000, b"id"], "source:7000"),
        ([b"?", 7000, b"id", [b"ip", b"10.0.0.1"]], "10.0.0.1:7000"),
        ([b"?", 7000, b"id"], "source:7000"),
    ],
)
def test_a_node_without_a_host_is_the_source_of_the_reply(node: list[Any], name: str) -> None:
    assert SlotMap.read([[0, 1, node]], source="source:1").primaries == (name,)


@pytest.mark.parametrize("reply", [[[5, 4, [b"h", 1, b"id"]]], [[0, SLOTS, [b"h", 1, b"id"]]], [[0, 1]], [7], [["a"]]])
def test_a_malformed_reply_is_refused(reply: Any) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        SlotMap.read(reply, source="source:1")


def test_we_and_the_server_put_a_key_into_the_same_slot(cluster: RedisCluster6) -> None:
    """Hash tags included, closed, empty and open ones."""
    node = cluster.nodes[0]
    for key in (
        "",
        "a",
        "bc:{g_1}:log",
        "bc:{g_1}:live",
        "{}a",
        "{a",
        "a}b{c}d{e}",
        "{{a}}",
        "ü{ß}",
        "bc:{jobs}:ready",
    ):
        assert slot_of(key.encode()) == node.execute("CLUSTER", "KEYSLOT", key), key
