"""The checks of a Redis: a table over ``RedisFacts`` (log/inspection/redis_facts.py)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broadcaster.cli.doctor.table import Check, Rule, fail, warn
from broadcaster.cli.terminal.formats import number, size
from broadcaster.log.inspection.redis_facts import RedisFacts
from broadcaster.log.inspection.worst import BufferLimit
from broadcaster.log.redis.url import RedisKind

OLDEST: Final = {"redis": (7, 0), "valkey": (8, 0)}
# Every append is a round trip: beyond this, answers appear more slowly than people read.
SLOW_MS: Final = 50.0
# Ages and deadlines that people compare across machines are off by this much.
CLOCKS_APART_MS: Final = 1000.0
FULL_SHARE: Final = 0.8
# One answer: about a hundred tokens a second, a hundred bytes of event each.
ANSWER_BYTES_PER_S: Final = 10_000
# A front-end may stall this long (a pause of its machine, a long collection) without losing its subscriptions.
STANDS_STILL_S: Final = 5.0

_UNSEEN: Final = "unknown (CONFIG and INFO are not allowed here)"
_SEE: Final = "check it where this Redis is managed, or allow CONFIG GET and INFO"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The facts, and the settings to judge them by."""

    facts: RedisFacts
    url: str
    prefix: str
    concurrency: int
    max_queue: int
    needs_keys: bool = False
    """Whether front-ends with these settings admit callers by the keys in Redis alone."""

    @property
    def push_bytes_per_s(self) -> int:
        """The pushes of one front-end if every worker is full and the front-end watches everything."""
        return max(1, self.facts.workers) * self.concurrency * ANSWER_BYTES_PER_S

    @property
    def cut_after_s(self) -> float:
        """How long a front-end may stall before Redis disconnects its subscriptions."""
        limit = self.facts.pubsub_limit
        if limit is None or not limit.hard_bytes:
            return math.inf
        return limit.hard_bytes / self.push_bytes_per_s

    @property
    def can_evict(self) -> bool:
        """Whether this Redis evicts keys when it is full."""
        return self.facts.policy not in (None, "noeviction")


def _round_trip(seen: Seen) -> str:
    return f"{seen.url} answers in {seen.facts.round_trip_ms:.1f} ms"


def _topology(seen: Seen) -> str:
    facts = seen.facts
    replicas = "" if facts.replicas is None else f", {number(facts.replicas, 'replica')}"
    names = ", ".join(facts.primaries)
    match facts.kind:
        case RedisKind.SINGLE:
            return f"one server{replicas}"
        case RedisKind.SENTINEL:
            return f"Sentinels name the primary {names}{replicas}"
        case RedisKind.CLUSTER:
            return f"a cluster with {len(facts.primaries)} primaries{replicas and f'{replicas} each at least'}: {names}"


def _version(seen: Seen) -> str:
    version = ".".join(map(str, seen.facts.version))
    return f"{seen.facts.engine} {version}" if seen.facts.engine else _UNSEEN


def _is_too_old(seen: Seen) -> bool:
    oldest = OLDEST.get(seen.facts.engine or "")
    return oldest is not None and seen.facts.version < oldest


def _memory(seen: Seen) -> str | None:
    used, most = seen.facts.used_bytes, seen.facts.max_bytes
    if used is None or most is None:
        return None
    return f"{size(used)} used, " + (f"maxmemory {size(most)}" if most else "no maxmemory")


def _is_nearly_full(seen: Seen) -> bool:
    most = seen.facts.max_bytes or seen.facts.system_bytes
    return bool(most) and (seen.facts.used_bytes or 0) > FULL_SHARE * (most or 0)


def _persistence(seen: Seen) -> str | None:
    facts = seen.facts
    if facts.has_append_file:
        return "an append-only file"
    if facts.has_append_file is None or facts.has_snapshots is None:
        return None
    return "snapshots alone: a crash loses what came after the last one" if facts.has_snapshots else "none"


def _limit(seen: Seen) -> str | None:
    limit = seen.facts.pubsub_limit
    if limit is None:
        return None
    if not any(limit):
        return "none: one stalled front-end may fill Redis's memory"
    if math.isinf(seen.cut_after_s):
        return _limit_text(limit)
    return f"{_limit_text(limit)}: a stalled front-end is cut after {seen.cut_after_s:.0f} s under full load"


def _limit_text(limit: BufferLimit) -> str:
    hard = size(limit.hard_bytes) if limit.hard_bytes else ""
    soft = f"{size(limit.soft_bytes)} for {limit.soft_s} s" if limit.soft_bytes else ""
    return " or ".join(filter(None, (hard, soft)))


def _idle_connections(seen: Seen) -> str | None:
    timeout_s = seen.facts.idle_timeout_s
    return timeout_s if timeout_s is None else f"closed after {timeout_s} s" if timeout_s else "kept open"


def _keep_alive(seen: Seen) -> str | None:
    every_s = seen.facts.keepalive_s
    return every_s if every_s is None else f"every {every_s} s" if every_s else "off"


def _streams(seen: Seen) -> str:
    at_least = "" if seen.facts.streams_are_all else "at least "
    return f"{at_least}{number(seen.facts.streams, 'stream')} under {seen.prefix}:"


def _clock(seen: Seen) -> str:
    ahead = seen.facts.clock_ahead_ms
    return f"Redis is {abs(ahead):.0f} ms {'ahead of' if ahead > 0 else 'behind'} this machine"


def _queue(seen: Seen) -> str:
    waiting = number(seen.facts.waiting, "generation")
    return f"{waiting} waiting of {seen.max_queue} at most, {seen.facts.open_generations} open"


def _readable(name: str, describe: Callable[[Seen], str | None], *rules: Rule[Seen]) -> Check[Seen]:
    """A check of what CONFIG and INFO report; ``describe`` returns None, and a rule warns, where they are refused."""

    def text(seen: Seen) -> str:
        return _UNSEEN if (described := describe(seen)) is None else described

    return Check(name, text, warn(lambda seen: describe(seen) is None, _SEE), *rules)


def _faultless(name: str, fault: Callable[[Seen], str | None], *, fine: str, remedy: str) -> Check[Seen]:
    """A check that fails, with the text of the fault, if there is one."""
    return Check(name, lambda seen: fault(seen) or fine, fail(lambda seen: fault(seen) is not None, remedy))


CHECKS: Final[tuple[Check[Seen], ...]] = (
    Check(
        "connection",
        _round_trip,
        warn(lambda seen: seen.facts.round_trip_ms > SLOW_MS, "run workers and front-ends near it"),
    ),
    Check(
        "version",
        _version,
        warn(lambda seen: seen.facts.engine is None, "Redis >= 7.0 or Valkey >= 8 is needed"),
        fail(_is_too_old, "update it: Redis >= 7.0 or Valkey >= 8 is needed"),
        warn(lambda seen: seen.facts.engine not in OLDEST, "only Redis and Valkey are tested"),
    ),
    Check(
        "topology",
        _topology,
        warn(
            lambda seen: seen.facts.kind is not RedisKind.SINGLE and seen.facts.replicas == 0,
            "a primary that dies without a replica takes its streams with it: give each one at least",
        ),
    ),
    Check(
        "role",
        lambda seen: seen.facts.role or _UNSEEN,
        fail(lambda seen: seen.facts.role == "slave", "name the primary: a replica takes no writes"),
    ),
    _faultless(
        "scripts",
        lambda seen: seen.facts.script_fault,
        fine="run",
        remedy="allow EVAL, EVALSHA, SCRIPT and SPUBLISH on the keys and channels of the prefix",
    ),
    _faultless(
        "sharded pub/sub",
        lambda seen: seen.facts.push_fault,
        fine="a push arrives",
        remedy="allow SSUBSCRIBE and SPUBLISH on the channels of the prefix; a proxy between must pass them",
    ),
    _readable(
        "eviction",
        lambda seen: seen.facts.policy and f"maxmemory-policy {seen.facts.policy}",
        fail(
            lambda seen: seen.can_evict and bool(seen.facts.max_bytes),
            "a full Redis would evict answers: set maxmemory-policy noeviction",
        ),
        warn(lambda seen: seen.can_evict, "set maxmemory-policy noeviction, before maxmemory is set"),
    ),
    _readable(
        "memory",
        _memory,
        warn(
            _is_nearly_full,
            "give it more (BROADCASTER_EMBEDDED_MAX_MEMORY_BYTES for the server of `up`), or keep answers for "
            "less long (BROADCASTER_RETENTION_S): a full Redis takes no events",
        ),
    ),
    _readable(
        "persistence",
        _persistence,
        warn(
            lambda seen: not seen.facts.has_append_file and not seen.facts.has_snapshots,
            "answers do not survive a restart of Redis: set appendonly yes",
        ),
    ),
    _faultless(
        "disk",
        lambda seen: seen.facts.write_fault,
        fine="nothing failed",
        remedy="Redis refuses writes while it cannot save: check its log, and the space on its disk",
    ),
    _readable(
        "pub/sub buffer",
        _limit,
        warn(
            lambda seen: seen.facts.pubsub_limit is not None and not any(seen.facts.pubsub_limit),
            'set a bound: CONFIG SET client-output-buffer-limit "pubsub 256mb 64mb 60"',
        ),
        warn(
            lambda seen: seen.cut_after_s < STANDS_STILL_S,
            "no event is lost then, but the front-end reads all its streams from the log: "
            'CONFIG SET client-output-buffer-limit "pubsub 256mb 64mb 60"',
        ),
    ),
    _readable(
        "idle connections",
        _idle_connections,
        warn(
            lambda seen: seen.facts.idle_timeout_s != 0,
            "the first call after a quiet time must reconnect: CONFIG SET timeout 0",
        ),
    ),
    _readable(
        "keep-alive",
        _keep_alive,
        warn(
            lambda seen: seen.facts.keepalive_s == 0,
            "front-ends that vanished stay subscribed: CONFIG SET tcp-keepalive 60",
        ),
    ),
    Check(
        "clock",
        _clock,
        warn(
            lambda seen: abs(seen.facts.clock_ahead_ms) > CLOCKS_APART_MS,
            "ages and times are displayed wrong here (no decision uses this clock): set both by NTP",
        ),
    ),
    Check("keys", _streams),
    Check(
        "callers' keys",
        lambda seen: number(seen.facts.caller_keys, "key"),
        warn(
            lambda seen: seen.needs_keys and not seen.facts.caller_keys,
            "AUTH=keys, and no caller has a key: make one with broadcaster key add",
        ),
    ),
    Check(
        "workers",
        lambda seen: f"{number(seen.facts.workers, 'worker')} alive",
        fail(
            lambda seen: seen.facts.workers == 0 and seen.facts.open_generations > 0,
            "generations are waiting without a worker: start one with broadcaster worker",
        ),
        warn(lambda seen: seen.facts.workers == 0, "start one with: broadcaster worker"),
    ),
    Check(
        "queue",
        _queue,
        fail(
            lambda seen: seen.facts.waiting >= seen.max_queue,
            "new generations are refused: start more workers, or raise BROADCASTER_MAX_QUEUE",
        ),
        warn(
            lambda seen: seen.facts.waiting > FULL_SHARE * seen.max_queue,
            "start more workers, or raise BROADCASTER_MAX_QUEUE",
        ),
    ),
    Check(
        "dead letters",
        lambda seen: f"{seen.facts.dead_today} within the last day",
        warn(
            lambda seen: seen.facts.dead_today > 0,
            "workers were lost with them: broadcaster dead ls, then broadcaster dead requeue",
        ),
    ),
)
