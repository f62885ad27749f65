"""A real server of its own for each test: these tests pause it, and Celery keeps its queue there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.log.valkey import ValkeyServer, start_valkey


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    # Not pytest's folder: the path of a unix socket is short.
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder)) as started:
        yield started


def expire_logs(url: str) -> None:
    """Delete every log, as its expiry does; what is known of the streams lives on."""
    with redis.Redis.from_url(url) as client:
        assert client.delete(*client.keys("bc:*:log"))
