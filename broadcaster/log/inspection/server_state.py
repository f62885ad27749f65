"""The Redis servers as an operator sees them now: one INFO and one TIME for each primary.

``redis_facts.py`` examines a Redis more deeply, for `doctor`. This is read every few seconds while a page is open. A
server that does not answer has its fault in the list, so that the others are shown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from broadcaster.errors import LogUnavailable
from broadcaster.log.inspection.redis_facts import info_facts
from broadcaster.log.redis.connect import LogConnection, later, log_errors
from broadcaster.log.redis.url import RedisKind

SERVERS_SHOWN: Final = 64


class ServerState(NamedTuple):
    """One primary. ``facts`` as in RedisFacts; ``fault``: why it does not answer now."""

    name: str
    round_trip_ms: float | None
    facts: Mapping[str, Any]
    fault: str | None = None


class ServerStates(NamedTuple):
    """All primaries of a Redis, ``SERVERS_SHOWN`` at most; ``primaries`` counts all."""

    kind: RedisKind
    primaries: int
    servers: list[ServerState]
    replicas: int | None


async def read_server_states(connection: LogConnection) -> ServerStates:
    """Ask every primary at once. Raises LogUnavailable when it is not known which servers serve."""
    with log_errors():
        primaries = await connection.primaries()
    shown = list(primaries.items())[:SERVERS_SHOWN]
    servers = await asyncio.gather(*(_state_of(name, client) for name, client in shown))
    replicas = connection.replicas
    kind = connection.address.kind
    return ServerStates(kind, len(primaries), list(servers), None if replicas is None else len(replicas))


async def _state_of(name: str, client: Redis) -> ServerState:
    began = time.perf_counter()
    try:
        with log_errors():
            await client.time()
            round_trip_ms = (time.perf_counter() - began) * 1000
            return ServerState(name, round_trip_ms, info_facts(await _info(client)))
    except LogUnavailable as error:
        return ServerState(name, None, info_facts({}), str(error.detail))
    except RedisError as error:  # it refuses us: no request will change that
        return ServerState(name, None, info_facts({}), str(error))


async def _info(client: Redis) -> Mapping[str, Any]:
    """What INFO gives; nothing where it is forbidden."""
    try:
        found: Mapping[str, Any] = await client.info()
    except (ResponseError, NoPermissionError) as error:
        if later(error):
            raise
        return {}
    return found
