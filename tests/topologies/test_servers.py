"""The servers of this room themselves: they come up, fail over, and move a slot."""

from __future__ import annotations

from redis.crc import key_slot

from tests.support.log.redis_cluster import RedisCluster6
from tests.support.log.redis_sentinel import Sentinels

FAILOVER_S = 60.0
IN_SLOT_0 = "06S"


def test_the_replica_takes_over_from_a_killed_primary(sentinels: Sentinels) -> None:
    first, second = sentinels.primary, sentinels.replica
    first.execute("SET", "k", "v")
    first.execute("WAIT", "1", "1000")

    first.kill()

    assert sentinels.wait_failover(FAILOVER_S) is second
    assert sentinels.replica is first
    assert second.execute("GET", "k") == b"v"


def test_a_slot_moves_with_what_it_holds(cluster: RedisCluster6) -> None:
    slot = key_slot(b"k")
    source = cluster.primary_of("k")
    target = next(node for node in cluster.primaries if node is not source)
    source.execute("SET", "k", "v")

    cluster.begin_migration(slot, target)
    assert source.execute("GET", "k") == b"v"
    cluster.finish_migration(slot)
    cluster.wait_ok(FAILOVER_S)

    assert cluster.primary_of("k") is target
    assert target.execute("GET", "k") == b"v"


def test_a_slot_moves_away_from_a_node_that_has_taken_over(cluster: RedisCluster6) -> None:
    """Its replica, which comes before it here, has the slot open as well, and moves nothing."""
    first, slot = cluster.nodes[0], 0
    second = cluster.replica_of(first)
    cluster.hand_over(second, FAILOVER_S)
    cluster.wait_ok(FAILOVER_S)
    assert cluster.primary_of_slot(slot) is second
    second.execute("SET", IN_SLOT_0, "v")
    target = next(node for node in cluster.primaries if node is not second)

    cluster.begin_migration(slot, target)
    cluster.finish_migration(slot)
    cluster.wait_ok(FAILOVER_S)

    assert target.execute("GET", IN_SLOT_0) == b"v"


def test_a_replica_takes_over_from_a_killed_primary_of_the_cluster(cluster: RedisCluster6) -> None:
    primary = cluster.primary_of("k")
    replica = cluster.replica_of(primary)

    cluster.kill(primary)
    cluster.wait_ok(FAILOVER_S)

    assert cluster.primary_of("k") is replica
