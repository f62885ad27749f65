"""Servers that the tests of one module share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.log.redis_cluster import RedisCluster6, start_cluster
from tests.support.log.redis_sentinel import Sentinels, start_sentinels


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_sentinels(Path(folder)) as started:
        yield started


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster6]:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_cluster(Path(folder)) as started:
        yield started
