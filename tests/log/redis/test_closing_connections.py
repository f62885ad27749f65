"""A connection is closed under a call: the call fails as one whose connection is lost, and the next one has another.

Over TLS this is asyncio's own transport, which cannot be aborted after a second close.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from redis import exceptions as rex
from redis.asyncio.connection import Connection

from broadcaster.log.redis.connect import later
from broadcaster.log.redis.connection_types import CONNECTION_TYPES
from broadcaster.log.redis.pool import NodePool
from broadcaster.log.redis.topology.nodes import Command, Node, NodeLimits, pool_options
from tests.support.servers.certificates import loopback_certificate, serving_with
from tests.support.servers.redis_relay import Moment, RedisRelay, open_redis_relay

LIMITS: Final = NodeLimits(timeout_s=20.0, connect_timeout_s=20.0, max_connections=1)
ECHO: Final = Command(("ECHO", "v"))
OURS: Any = CONNECTION_TYPES[Connection]


@asynccontextmanager
async def relayed(redis_url: str, tls_folder: Path | None) -> AsyncIterator[tuple[RedisRelay, Node]]:
    """A relay before Redis, and a node with one connection through it."""
    query, tls = "", None
    if tls_folder is not None:
        certificate = loopback_certificate(tls_folder)
        query, tls = f"?ssl_ca_certs={certificate}", serving_with(certificate)
    async with open_redis_relay(redis_url, tls=tls) as relay:
        node = Node.of_url(f"{'redis' if tls is None else 'rediss'}://127.0.0.1:{relay.port}{query}", LIMITS)
        try:
            yield relay, node
        finally:
            await node.aclose()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_call_whose_connection_is_closed_fails_as_one_whose_connection_is_lost(
    redis_url: str, scheme: str, tmp_path: Path
) -> None:
    async with relayed(redis_url, tmp_path if scheme == "rediss" else None) as (relay, node):
        await node.send([ECHO])
        relay.hold_at(b"ECHO")
        call = asyncio.create_task(node.send([ECHO]))
        await relay.held.wait()

        await asyncio.gather(node.aclose(), node.aclose())

        with pytest.raises(rex.ConnectionError) as caught:
            await call
        assert later(caught.value)
        assert await node.send([ECHO]) == [b"v"]


async def test_a_call_that_connects_while_its_node_is_closed_leaves_no_connection(redis_url: str) -> None:
    for turns in range(1, 12):  # of the loop, before the closing: some are in the middle of the connecting
        node = Node.of_url(redis_url, LIMITS)
        call = asyncio.create_task(node.send([ECHO]))
        for _ in range(turns):
            await asyncio.sleep(0)
        await node.aclose()
        await asyncio.wait({call})
        assert call.exception() is not None or call.result() == [b"v"]
        assert not any(each.is_connected for each in node.pool._available_connections), turns
        assert not node.pool._in_use_connections


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_close_that_lasts_does_not_reach_the_connection_that_is_opened_meanwhile(
    redis_url: str, scheme: str, tmp_path: Path
) -> None:
    async with relayed(redis_url, tmp_path if scheme == "rediss" else None) as (relay, node):
        await node.send([ECHO])
        connection = await node.pool.acquire()

        closing = asyncio.create_task(connection.disconnect())
        await asyncio.sleep(0)
        await connection.disconnect(nowait=True)
        await connection.connect()
        await closing

        assert connection.is_idle
        node.pool.put_back(connection)
        assert await node.send([ECHO]) == [b"v"]
        assert relay.connections == 2


class Unclosable(OURS):  # type: ignore[misc]  # its type is not known here
    """A connection whose close fails after it is closed."""

    async def disconnect(self, *args: Any, **options: Any) -> None:
        await super().disconnect(*args, **options)
        raise RuntimeError("this close fails")


async def test_a_close_that_fails_hides_no_error_of_the_call_and_is_logged(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_redis_relay(redis_url) as relay:
        pool = NodePool(connection_class=Unclosable, port=relay.port, **pool_options(LIMITS))
        node = Node("it", pool, timeout_s=LIMITS.timeout_s)
        await node.send([ECHO])
        relay.cut_at(b"ECHO", Moment.BEFORE)

        with caplog.at_level(logging.ERROR), pytest.raises(rex.ConnectionError):
            await node.send([ECHO])

        assert caplog.text.count("redis_connection_not_closed") == 1
        assert await node.send([ECHO]) == [b"v"]
        with pytest.raises(RuntimeError):
            await node.aclose()
