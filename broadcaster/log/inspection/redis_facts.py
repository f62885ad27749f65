"""The inspection: what a Redis is and how it is configured, as plain values. ``cli/doctor/redis.py`` judges them.

Rules
1. A value that a managed Redis hides is None, never a guess: CONFIG and INFO may be renamed or forbidden.
2. Nothing is written. The only push goes to a channel that no other process subscribes.
3. Of several servers the worst value of each kind is reported: a fault of one server is a fault of the whole.
4. The keyspace may hold other applications' keys. It is scanned for a bounded number of steps, and the result shows
   whether the scan was complete.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from broadcaster.errors import SetupError
from broadcaster.log.inspection.worst import BufferLimit, worst_of
from broadcaster.log.pubsub.session import SubscriberSession
from broadcaster.log.redis.address import NodeAddress, address_of
from broadcaster.log.redis.connect import LogConnection, later, log_errors
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.topology.placed_client import DRAWS
from broadcaster.log.redis.url import RedisKind

PINGS: Final = 5
SCAN_STEPS: Final = 50
SCANNED_AT_ONCE: Final = 1000
PUSH_S: Final = 2.0
DAY_MS: Final = 86_400_000
# Beyond this many the exact number makes no difference.
LETTERS_COUNTED: Final = 1000

_CONFIG: Final = ("client-output-buffer-limit", "timeout", "tcp-keepalive", "save")
_REPLY_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """See rule 1 for None. A ``*_fault`` is the reason why something does not work; None: it works."""

    round_trip_ms: float
    clock_ahead_ms: float
    engine: str | None
    version: tuple[int, ...]
    role: str | None
    used_bytes: int | None
    max_bytes: int | None
    system_bytes: int | None
    policy: str | None
    has_append_file: bool | None
    has_snapshots: bool | None
    write_fault: str | None
    pubsub_limit: BufferLimit | None
    idle_timeout_s: int | None
    keepalive_s: int | None
    script_fault: str | None
    push_fault: str | None
    streams: int
    streams_are_all: bool
    open_generations: int
    waiting: int
    workers: int
    dead_today: int
    caller_keys: int = 0
    kind: RedisKind = RedisKind.SINGLE
    primaries: tuple[str, ...] = ()
    replicas: int | None = None  # of the primary with the fewest


async def inspect(connection: LogConnection) -> RedisFacts:
    """Inspect everything in about a dozen round trips. Raises LogUnavailable; SetupError when Redis refuses us."""
    await connection.check()
    try:
        return await _inspect(connection)
    except NoPermissionError as error:
        raise SetupError(
            f"Redis refuses us: {error}; give its user the rights on the keys and channels of the prefix"
        ) from error


async def _inspect(connection: LogConnection) -> RedisFacts:
    with log_errors():
        primaries = await connection.primaries()
        findings = [await _inspect_server(connection, name, client) for name, client in primaries.items()]
        caller_keys = len(await connection.redis.hkeys(connection.keys.access_keys))
        streams, streams_are_all = await _count_streams(connection, primaries.values())
        open_generations, waiting, workers, dead_today = await _count_generations(connection)
    return RedisFacts(
        streams=streams,
        streams_are_all=streams_are_all,
        open_generations=open_generations,
        waiting=waiting,
        workers=workers,
        dead_today=dead_today,
        caller_keys=caller_keys,
        kind=connection.address.kind,
        primaries=tuple(filter(None, primaries)),
        **worst_of(findings),
    )


async def _inspect_server(connection: LogConnection, name: str, redis: Redis) -> dict[str, Any]:
    """The findings of one server, by the names of RedisFacts."""
    info = await _allowed(redis.info()) or {}
    settings = await _allowed(redis.config_get(*_CONFIG))
    round_trip_ms, clock_ahead_ms = await _time(redis)
    script_fault, push_fault = await _probe(connection, name)
    return {
        "round_trip_ms": round_trip_ms,
        "clock_ahead_ms": clock_ahead_ms,
        "script_fault": script_fault,
        "push_fault": push_fault,
        **info_facts(info),
        **_of_config(settings),
    }


async def _allowed(command: Awaitable[Any]) -> Any:
    """The command's reply, or None when the command is forbidden."""
    try:
        return await command
    except (ResponseError, NoPermissionError) as error:
        if later(error):
            raise
        return None


def info_facts(info: Mapping[str, Any]) -> dict[str, Any]:
    """What INFO shows, by the names of RedisFacts; what is hidden is None."""
    engine, version = _engine(info)
    faults = [f"the last {name} failed" for name, key in _WRITES.items() if info.get(key, "ok") != "ok"]
    append = info.get("aof_enabled")
    return {
        "engine": engine,
        "version": version,
        "role": info.get("role"),
        "replicas": info.get("connected_slaves"),
        "used_bytes": info.get("used_memory"),
        "max_bytes": info.get("maxmemory"),
        "system_bytes": info.get("total_system_memory"),
        "policy": info.get("maxmemory_policy"),
        "has_append_file": None if append is None else bool(append),
        "write_fault": "; ".join(faults) or None,
    }


_WRITES: Final = {"write to the append-only file": "aof_last_write_status", "snapshot": "rdb_last_bgsave_status"}


def _engine(info: Mapping[str, Any]) -> tuple[str | None, tuple[int, ...]]:
    """Name and version. Valkey and others also have a ``redis_version``: the one that they are compatible with."""
    for name in ("valkey", "dragonfly", "redis"):
        if version := info.get(f"{name}_version"):
            parts = str(version).removeprefix("df-v").split(".")[:3]
            return name, tuple(int(part) for part in parts if part.isdecimal())
    return None, ()


def _of_config(settings: Mapping[str, str] | None) -> dict[str, Any]:
    known = settings or {}
    limit = None
    fields = known.get("client-output-buffer-limit", "").split()
    if "pubsub" in fields:
        at = fields.index("pubsub")
        limit = BufferLimit(*(int(field) for field in fields[at + 1 : at + 4]))
    return {
        "pubsub_limit": limit,
        "idle_timeout_s": int(known["timeout"]) if "timeout" in known else None,
        "keepalive_s": int(known["tcp-keepalive"]) if "tcp-keepalive" in known else None,
        "has_snapshots": bool(known["save"]) if "save" in known else None,
    }


async def _time(redis: Redis) -> tuple[float, float]:
    """The median round trip, and how far Redis's clock is ahead of ours, both in milliseconds."""
    trips: list[float] = []
    ahead: list[float] = []
    for _ in range(PINGS):
        began = time.time()
        seconds, micros = await redis.time()
        ended = time.time()
        trips.append((ended - began) * 1000)
        ahead.append((seconds + micros / 1e6 - (began + ended) / 2) * 1000)
    return statistics.median(trips), statistics.median(ahead)


class _PushListener:
    """Listens to the probe's channel; see Listener."""

    def __init__(self) -> None:
        self.received = asyncio.Event()

    def push(self, payload: bytes) -> None:
        self.received.set()

    def subscribed(self) -> None:
        """``SubscriberSession.opened`` reports it."""

    def lost(self) -> None:
        """``SubscriberSession.closed`` reports it."""


async def _probe(connection: LogConnection, server: str) -> tuple[str | None, str | None]:
    """Subscribe as a tail does and publish as an append does. Returns the faults of the script and of the push."""
    channel = connection.keys.draw_probe(
        lambda each: connection.server_of(each) == server, draws=DRAWS, purpose="doctor-"
    )
    if channel is None:
        return None, "it serves no channel that we know of"
    listener = _PushListener()
    address = _address_of(connection, server)
    session: SubscriberSession | None = None
    script_fault = None
    try:
        async with asyncio.timeout(PUSH_S):
            session = await address.dial(
                lambda: SubscriberSession({channel.encode(): listener}, reply_bytes=_REPLY_BYTES)
            )
            session.start(address.greeting())
            await session.opened.wait()
            try:
                await SCRIPTS["probe"].run(connection.redis, [channel], "probe")
            except (ResponseError, NoPermissionError) as error:
                if later(error):
                    raise
                script_fault = str(error)
                await _allowed(connection.redis.spublish(channel, "probe"))
            return script_fault, await _fault_of(session, listener)
    except TimeoutError:
        return script_fault, f"nothing came within {PUSH_S:g} s"
    except OSError as error:
        return script_fault, f"no second connection: {error}"
    finally:
        if session is not None:
            session.drop("the inspection is over")


def _address_of(connection: LogConnection, server: str) -> NodeAddress:
    if connection.address.kind is RedisKind.SINGLE:
        return NodeAddress.from_url(connection.url)
    return connection.address.node(*address_of(server))


async def _fault_of(session: SubscriberSession, listener: _PushListener) -> str | None:
    """Wait until the push arrives (None), or the session ends (its reason)."""
    waits = [asyncio.create_task(each.wait()) for each in (listener.received, session.closed)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return None if listener.received.is_set() else session.reason


async def _count_streams(connection: LogConnection, servers: Iterable[Redis]) -> tuple[int, bool]:
    """The number of streams under our prefix, and whether the whole keyspace was scanned."""
    counts = [await _count_streams_of(connection.keys.meta("*"), server) for server in servers]
    return sum(count for count, _ in counts), all(is_all for _, is_all in counts)


async def _count_streams_of(pattern: str, redis: Redis) -> tuple[int, bool]:
    count = cursor = 0
    for _ in range(SCAN_STEPS):
        answer = await _allowed(redis.scan(cursor, match=pattern, count=SCANNED_AT_ONCE))
        if answer is None:
            return count, False
        cursor, found = answer
        count += len(found)
        if cursor == 0:
            return count, True
    return count, False


async def _count_generations(connection: LogConnection) -> tuple[int, int, int, int]:
    """Open generations, waiting ones, live workers, dead letters of the last day."""
    keys = connection.keys
    pipeline = connection.pipeline()
    pipeline.clock(keys.workers)
    await pipeline.execute()
    now_ms = pipeline.now_ms(keys.workers)
    pipeline = connection.pipeline()
    pipeline.zcard(keys.open)
    pipeline.zcard(keys.waiting)
    pipeline.zcard(keys.delayed)
    pipeline.zcount(keys.workers, f"({now_ms}", "+inf")
    pipeline.xrange(keys.dead, min=now_ms - DAY_MS, count=LETTERS_COUNTED)
    open_count, waiting, delayed, workers, dead = await pipeline.execute()
    return open_count, waiting + delayed, workers, len(dead)
