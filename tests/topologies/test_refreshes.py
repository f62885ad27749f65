"""A refresh that has its reply leaves slower servers their connections, and leaves nothing behind at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Final

import pytest
from redis import exceptions as rex

from broadcaster.log.redis.topology.cluster import ClusterTopology
from broadcaster.log.redis.topology.key_slots import SLOTS
from broadcaster.log.redis.topology.nodes import NodeLimits
from broadcaster.log.redis.topology.placed_client import PlacedRedis
from broadcaster.log.redis.topology.refresh import TopologyTimes
from broadcaster.log.redis.topology.sentinel import SentinelTopology
from broadcaster.log.redis.topology.topology import SingleTopology, create_topology
from broadcaster.log.redis.url import RedisUrl
from tests.support.log.tail_world import until
from tests.support.servers.scripted_server import Reply, ScriptedServer, open_scripted

REFRESHES: Final = 5
PATIENT: Final = TopologyTimes(query_s=5.0)
"""On a busy machine a second may pass before a query has its connection."""
KINDS: Final = {"cluster": "CLUSTER INFO", "sentinel": "SENTINEL MASTER s"}
"""Of each kind the first query of a refresh."""


def name(server: ScriptedServer) -> str:
    return f"127.0.0.1:{server.port}"


def views(kind: str, primary: ScriptedServer) -> Mapping[str, Reply]:
    """The replies of servers that know the topology: this one serves everything."""
    if kind == "sentinel":
        fields: Reply = [b"ip", b"127.0.0.1", b"port", b"%d" % primary.port, b"config-epoch", b"1"]
        return {"SENTINEL MASTER s": fields}
    slots: Reply = [[0, SLOTS - 1, [b"127.0.0.1", primary.port, b"id"]]]
    return {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": slots}


def topology_by(
    kind: str, servers: list[ScriptedServer], times: TopologyTimes | None = None
) -> SentinelTopology | ClusterTopology:
    url = f"redis+{kind}://{','.join(map(name, servers))}/{'s' * (kind == 'sentinel')}"
    topology = create_topology(RedisUrl.parse(url), times=times)
    assert not isinstance(topology, SingleTopology)
    return topology


def queries_under_way() -> int:
    tasks = [task.get_coro() for task in asyncio.all_tasks()]
    return sum(getattr(each, "__qualname__", "").endswith(("Topology._query", "._next_query")) for each in tasks)


LIMITS: Final = NodeLimits(timeout_s=60, connect_timeout_s=2, max_connections=2)


@pytest.fixture
async def servers() -> AsyncIterator[list[ScriptedServer]]:
    """Three to query, of which the last does not reply yet; the first reports that it is a primary."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_scripted(CLIENT=b"OK")) for _ in range(3)]
        opened[0].replies["ROLE"] = [b"master", 0, []]
        yield opened


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_replies_late_receives_the_next_query_on_the_same_connection(
    kind: str, servers: list[ScriptedServer]
) -> None:
    replies = views(kind, servers[0])
    for each in servers[:2]:
        each.replies |= replies
    late, query = servers[2], KINDS[kind]
    topology = topology_by(kind, servers)
    for number in range(1, REFRESHES + 1):
        await topology.refresh(max_age_s=0)
        await until(lambda: late.received.count(query) == number)  # noqa: B023  # awaited in this round
        for reply in replies.values():
            late.send(reply)
        await until(lambda: queries_under_way() == 0)
    assert late.connections == 1
    await topology.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_silent_server_receives_one_query_at_a_time_and_nothing_is_left_at_the_end(
    kind: str, servers: list[ScriptedServer]
) -> None:
    for each in servers[:2]:
        each.replies |= views(kind, servers[0])
    topology = topology_by(kind, servers)
    async with asyncio.timeout(TopologyTimes().query_s):
        for _ in range(REFRESHES):
            await topology.refresh(max_age_s=0)
            await until(lambda: servers[2].connections == 1)
        assert [each.received.count(KINDS[kind]) for each in servers] == [REFRESHES, REFRESHES, 1]
        assert queries_under_way() == 1

        await topology.aclose()
    assert queries_under_way() == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slow_reply_to_an_earlier_refresh_does_not_count_for_a_later_one(
    kind: str, servers: list[ScriptedServer]
) -> None:
    before, after = views(kind, servers[0]), views(kind, servers[1])
    for each in servers[:2]:
        each.replies |= before
    slow = servers[2]
    topology = topology_by(kind, servers, PATIENT)
    await topology.refresh(max_age_s=0)
    await until(lambda: slow.received.count(KINDS[kind]) == 1)
    for each in servers[:2]:
        each.replies = {"CLIENT": b"OK"}
    slow.replies |= after

    refreshing = asyncio.create_task(topology.refresh(max_age_s=0))
    await until(lambda: sum(each.received.count(KINDS[kind]) for each in servers[:2]) == 4)
    for reply in before.values():
        slow.send(reply)
    await refreshing

    assert topology.nodes == (name(servers[1]),)
    await topology.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_hangs_at_a_server_fails_as_soon_as_the_topology_shows_that_another_serves(
    kind: str, servers: list[ScriptedServer]
) -> None:
    """A frozen machine, a cut cable: its connections do not break, and the call alone would wait for its time limit."""
    old, new = servers[:2]
    for each in (old, new):
        each.replies |= {**views(kind, old), "ROLE": [b"master", 0, []]}
    topology = topology_by(kind, servers[:2])
    url = RedisUrl.parse("redis+cluster://127.0.0.1:1")
    client = PlacedRedis(url, topology, LIMITS, patience_s=0.0)
    hanging = asyncio.ensure_future(client.get("k"))
    await until(lambda: "GET k" in old.received)

    for each in (old, new):
        each.replies |= views(kind, new)
        if kind == "sentinel":
            each.replies |= {"SENTINEL MASTER s": newer(new)}
    await topology.refresh(max_age_s=0)

    async with asyncio.timeout(20):
        with pytest.raises(rex.ConnectionError):
            await hanging
    await client.aclose()
    await topology.aclose()


def newer(primary: ScriptedServer) -> Reply:
    """The view of a Sentinel of a primary that has replaced another."""
    return [b"ip", b"127.0.0.1", b"port", b"%d" % primary.port, b"config-epoch", b"2"]


QUERY: Final = KINDS["sentinel"]


async def failed_over(servers: list[ScriptedServer]) -> SentinelTopology | ClusterTopology:
    """A topology that knows of a failover from the second to the third server, from the first Sentinel.

    The other Sentinels do not know of it yet.
    """
    leader, *others = servers
    leader.replies[QUERY] = newer(others[1])
    topology = topology_by("sentinel", servers)
    await topology.refresh(max_age_s=0)
    assert topology.nodes == (name(others[1]),)
    del leader.replies[QUERY]
    for each in others:
        each.replies |= views("sentinel", others[0])
    return topology


async def test_a_primary_that_was_replaced_is_not_gone_back_to_while_the_leaders_view_is_on_its_way(
    servers: list[ScriptedServer],
) -> None:
    topology = await failed_over(servers)
    known = topology.nodes
    querys = servers[0].received.count(QUERY)
    refreshing = asyncio.create_task(topology.refresh(max_age_s=0))
    await until(lambda: servers[0].received.count(QUERY) > querys)
    await asyncio.wait({refreshing}, timeout=0.2)  # the others have replied
    servers[0].send(newer(servers[2]))
    await refreshing
    assert topology.nodes == known
    await topology.aclose()


@pytest.mark.parametrize("role", [b"master", None])
async def test_a_majority_with_an_older_configuration_does_not_count_while_the_leader_is_silent(
    servers: list[ScriptedServer], role: bytes | None
) -> None:
    """The earlier primary reports that it still is one, whether the known one replies or not."""
    topology = await failed_over(servers)
    known = topology.nodes
    servers[1].replies["ROLE"] = [b"master", 0, []]
    if role is not None:
        servers[2].replies["ROLE"] = [role, 0, []]
    await topology.refresh(max_age_s=0)
    assert topology.nodes == known
    await topology.aclose()


async def test_an_older_configuration_that_every_sentinel_has_counts(servers: list[ScriptedServer]) -> None:
    """The epochs were reset, and the earlier primary was left alone."""
    topology = await failed_over(servers)
    servers[0].replies |= views("sentinel", servers[1])
    for each in servers[1:]:
        each.replies["ROLE"] = [b"master", 0, []]
    await topology.refresh(max_age_s=0)
    assert topology.nodes == (name(servers[1]),)
    await topology.aclose()


@pytest.mark.parametrize("role", [b"master", b"slave"])
async def test_a_minority_with_an_older_configuration_counts_when_the_known_primary_is_a_replica(
    servers: list[ScriptedServer], role: bytes
) -> None:
    topology = await failed_over(servers)
    known = topology.nodes
    del servers[2].replies[QUERY]
    servers[1].replies["ROLE"] = [b"master", 0, []]
    servers[2].replies["ROLE"] = [role, 0, []]
    await topology.refresh(max_age_s=0)
    assert topology.nodes == (known if role == b"master" else (name(servers[1]),))
    await topology.aclose()


async def test_no_call_is_sent_to_a_named_server_that_reports_to_be_a_replica(servers: list[ScriptedServer]) -> None:
    """Nor to the earlier primary, which a newer configuration has replaced."""
    old, new, sentinel = servers
    sentinel.replies |= views("sentinel", old)
    for each in (old, new):
        each.replies["GET"] = b"v"
    topology = topology_by("sentinel", [sentinel])
    client = PlacedRedis(RedisUrl.parse("redis+cluster://127.0.0.1:1"), topology, LIMITS, patience_s=0.0)
    assert await client.get("k") == b"v"
    sentinel.replies[QUERY] = newer(new)
    new.replies["ROLE"] = [b"slave"]

    await topology.refresh(max_age_s=0)

    with pytest.raises(rex.ClusterDownError):
        await client.get("k")
    assert [command for each in (old, new) for command in each.received if command.startswith("GET")] == ["GET k"]
    new.replies["ROLE"] = [b"master"]
    await topology.refresh(max_age_s=0)
    assert await client.get("k") == b"v"
    assert topology.nodes == (name(new),)
    await client.aclose()
    await topology.aclose()
