"""Servers of this room: one set of Sentinels and one cluster for a file, repaired and emptied for each test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from broadcaster.log.redis.connect import LogConnection
from tests.support.log.redis_cluster import RedisCluster6, start_cluster
from tests.support.log.redis_sentinel import Sentinels, role_of, start_sentinels

WHOLE_S: Final = 30.0


@pytest.fixture(scope="module")
def sentinel_set() -> Iterator[Sentinels]:
    """A primary, its replica and three Sentinels."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_sentinels(Path(folder)) as started:
        yield started


@pytest.fixture(scope="module")
def cluster_of_six() -> Iterator[RedisCluster6]:
    """Three primaries, each with a replica."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_cluster(Path(folder)) as started:
        yield started


@pytest.fixture
def sentinels(sentinel_set: Sentinels) -> Sentinels:
    """All of it running and empty: what an earlier test has killed is back, and what it has written is gone."""
    for server in sentinel_set.servers:
        if role_of(server) is None:
            server.start()
    sentinel_set.wait_whole(WHOLE_S)
    sentinel_set.primary.execute("FLUSHALL")
    return sentinel_set


@pytest.fixture
def cluster(cluster_of_six: RedisCluster6) -> RedisCluster6:
    """All of it running and empty."""
    for node in cluster_of_six.nodes:
        if node.is_away:
            node.start()
    cluster_of_six.wait_ok(WHOLE_S)
    for node in cluster_of_six.primaries:
        node.execute("FLUSHALL")
    return cluster_of_six


@pytest.fixture
async def at_sentinels(sentinels: Sentinels) -> AsyncIterator[LogConnection]:
    """A worker's connection."""
    async with LogConnection(sentinels.url, timeout_s=2.0, patience_s=0) as opened:
        yield opened


@pytest.fixture
async def at_cluster(cluster: RedisCluster6) -> AsyncIterator[LogConnection]:
    """A worker's connection."""
    async with LogConnection(cluster.url, timeout_s=2.0, patience_s=0) as opened:
        yield opened


@pytest.fixture(params=["sentinels", "cluster"])
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[LogConnection]:
    """A front-end's connection to either kind."""
    servers: Sentinels | RedisCluster6 = request.getfixturevalue(request.param)
    async with LogConnection(servers.url, timeout_s=5.0) as opened:
        yield opened
