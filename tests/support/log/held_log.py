"""What a log holds, for tests that run no loop of their own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from broadcaster.core.requests.stream_ids import LOCAL_TENANT, stored_ids
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams

MOST = 200_000


def held(url: str, stream_id: str) -> list[dict[str, Any]]:
    """The events of a stream."""

    async def read() -> list[dict[str, Any]]:
        async with LogConnection(url, max_connections=2) as connection:
            entries = await Streams(connection).read(stream_id, count=MOST)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        return [json.loads(entry.event) for entry in entries]

    return asyncio.run(read())


def metadata_of(url: str, stream_id: str) -> Any:
    """The metadata of a feed of the tenant that is alone."""

    async def read() -> Any:
        async with LogConnection(url, max_connections=2) as connection:
            (stored_id, *_) = stored_ids(stream_id, tenant=LOCAL_TENANT)
            meta = await Streams(connection).meta(stored_id)
        assert meta is not None
        return meta.request["metadata"]

    return asyncio.run(read())


def numbers(events: list[dict[str, Any]], kind: str = "data-n") -> list[Any]:
    """The data of the events of one type."""
    return [event["data"] for event in events if event["type"] == kind]


def calls_of_scripts(url: str) -> int:
    """How many scripts this server has run."""

    async def read() -> int:
        async with LogConnection(url, max_connections=2) as connection:
            stats = await connection.redis.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))

    return asyncio.run(read())


def until_so(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    """Wait for a condition without a loop; AssertionError when it does not come."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.01)
