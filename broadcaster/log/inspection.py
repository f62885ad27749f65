"""The inspection: what a Redis is and how it is set, as plain values that somebody else judges (cli/doctor_redis.py).

Rules
1. What a managed Redis does not let us see is None, never a guess: CONFIG and INFO may be renamed or forbidden.
2. Nothing is written: the only push goes to a channel of its own that nobody else hears.
3. Of several servers the worst is told: what is wrong with one of them is wrong.
4. The keyspace may be anybody's: it is scanned for a bounded number of steps, and the answer says whether that was all.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from broadcaster.errors import SetupError
from broadcaster.log.connect import LogConnection, later, log_errors
from broadcaster.log.feed_address import NodeAddress
from broadcaster.log.feed_session import Session
from broadcaster.log.inspection_worst import BufferLimit, worst_of
from broadcaster.log.redis_url import Kind
from broadcaster.log.routed import DRAWS
from broadcaster.log.scripts import PROBE

PINGS: Final = 5
SCAN_STEPS: Final = 50
SCANNED_AT_ONCE: Final = 1000
PUSH_S: Final = 2.0
DAY_MS: Final = 86_400_000
# Beyond this many the number of letters says nothing more.
LETTERS_COUNTED: Final = 1000

_CONFIG: Final = ("client-output-buffer-limit", "timeout", "tcp-keepalive", "save")
_REPLY_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """See rule 1 for None. ``*_fault`` says in a few words why something does not work, None that it does."""

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
    kind: Kind = Kind.SINGLE
    primaries: tuple[str, ...] = ()
    replicas: int | None = None  # of the primary that has fewest


async def inspect(connection: LogConnection) -> RedisFacts:
    """Look at everything, in about a dozen round trips. Raises LogUnavailable, and SetupError when Redis refuses us."""
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
        looks = [await _look_at(connection, name, client) for name, client in primaries.items()]
        streams, streams_are_all = await _count_streams(connection, primaries.values())
        open_generations, waiting, workers, dead_today = await _count_generations(connection)
    return RedisFacts(
        streams=streams,
        streams_are_all=streams_are_all,
        open_generations=open_generations,
        waiting=waiting,
        workers=workers,
        dead_today=dead_today,
        kind=connection.address.kind,
        primaries=tuple(filter(None, primaries)),
        **worst_of(looks),
    )


async def _look_at(connection: LogConnection, name: str, redis: Redis) -> dict[str, Any]:
    """One server that serves."""
    info = await _allowed(redis.info()) or {}
    settings = await _allowed(redis.config_get(*_CONFIG))
    round_trip_ms, clock_ahead_ms = await _time(redis)
    script_fault, push_fault = await _probe(connection, name)
    return {
        "round_trip_ms": round_trip_ms,
        "clock_ahead_ms": clock_ahead_ms,
        "script_fault": script_fault,
        "push_fault": push_fault,
        **_of_info(info),
        **_of_config(settings),
    }


async def _allowed(command: Awaitable[Any]) -> Any:
    """The command's answer, or None when we may not give it."""
    try:
        return await command
    except (ResponseError, NoPermissionError) as error:
        if later(error):
            raise
        return None


def _of_info(info: Mapping[str, Any]) -> dict[str, Any]:
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
    """Valkey and others also tell a ``redis_version``: the one they are compatible with."""
    for name in ("valkey", "dragonfly", "redis"):
        if told := info.get(f"{name}_version"):
            words = str(told).removeprefix("df-v").split(".")[:3]
            return name, tuple(int(word) for word in words if word.isdecimal())
    return None, ()


def _of_config(settings: Mapping[str, str] | None) -> dict[str, Any]:
    told = settings or {}
    limit = None
    words = told.get("client-output-buffer-limit", "").split()
    if "pubsub" in words:
        at = words.index("pubsub")
        limit = BufferLimit(*(int(word) for word in words[at + 1 : at + 4]))
    return {
        "pubsub_limit": limit,
        "idle_timeout_s": int(told["timeout"]) if "timeout" in told else None,
        "keepalive_s": int(told["tcp-keepalive"]) if "tcp-keepalive" in told else None,
        "has_snapshots": bool(told["save"]) if "save" in told else None,
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


class _Ear:
    """Hears the probe's own channel; see Listener."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    def push(self, payload: bytes) -> None:
        self.heard.set()

    def subscribed(self) -> None:
        """``Session.greeted`` says it, too."""

    def lost(self) -> None:
        """``Session.closed`` says it, too."""


async def _probe(connection: LogConnection, server: str) -> tuple[str | None, str | None]:
    """Subscribe as the feed does and push as append does; what is wrong with the script, and with the push."""
    channel = _channel_at(connection, server)
    if channel is None:
        return None, "it serves no channel that we know of"
    ear = _Ear()
    address = _address_of(connection, server)
    session: Session | None = None
    script_fault = None
    try:
        async with asyncio.timeout(PUSH_S):
            session = await address.dial(lambda: Session({channel.encode(): ear}, reply_bytes=_REPLY_BYTES))
            session.start(address.greeting())
            await session.greeted.wait()
            try:
                await PROBE.run(connection.redis, [channel], "probe")
            except (ResponseError, NoPermissionError) as error:
                if later(error):
                    raise
                script_fault = str(error)
                await _allowed(connection.redis.spublish(channel, "probe"))
            return script_fault, await _fault_of(session, ear)
    except TimeoutError:
        return script_fault, f"nothing came within {PUSH_S:g} s"
    except OSError as error:
        return script_fault, f"no second connection: {error}"
    finally:
        if session is not None:
            session.drop("the inspection is over")


def _channel_at(connection: LogConnection, server: str) -> str | None:
    """A channel that nobody else hears, in a slot of this server; None: it has none any more."""
    for _ in range(DRAWS):
        channel = connection.keys.probe(f"doctor-{secrets.token_hex(4)}")
        if connection.server_of(channel) == server:
            return channel
    return None


def _address_of(connection: LogConnection, server: str) -> NodeAddress:
    if connection.address.kind is Kind.SINGLE:
        return NodeAddress.from_url(connection.url)
    host, _, port = server.rpartition(":")
    return connection.address.node(host, int(port))


async def _fault_of(session: Session, ear: _Ear) -> str | None:
    """Wait until the push was heard, or the session has ended: then its reason."""
    waits = [asyncio.create_task(each.wait()) for each in (ear.heard, session.closed)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return None if ear.heard.is_set() else session.reason


async def _count_streams(connection: LogConnection, servers: Iterable[Redis]) -> tuple[int, bool]:
    """Streams under our prefix, and whether the whole keyspace was looked at."""
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
    """Open generations, those that wait, living workers, dead letters of the last day."""
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
