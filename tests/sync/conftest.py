"""A publisher over the run's own server, and a server of one's own to break."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from broadcaster.sync import Publisher
from tests.support.log.valkey import ValkeyServer, start_valkey


@pytest.fixture
def stream_id() -> str:
    """An id that no other test has: the server is shared."""
    return f"job-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    """Patient, so that a busy machine fails no test."""
    with Publisher.from_url(redis_url, timeout_s=20.0) as opened:
        yield opened


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that keeps its data when it is killed."""
    with start_valkey(tmp_path, port=0, appendonly=True) as started:
        yield started
