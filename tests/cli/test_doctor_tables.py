"""The doctor's tables: a row here for every rule there, and a healthy set-up that no rule applies to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broadcaster import __version__
from broadcaster.cli.doctor import machine, network, redis
from broadcaster.cli.doctor.table import Check, Grade, fail, judge_all, warn
from broadcaster.log.inspection.redis_facts import RedisFacts
from broadcaster.log.inspection.worst import BufferLimit
from broadcaster.log.redis.url import RedisKind

OK, WARN, FAIL, SKIP = Grade.OK, Grade.WARN, Grade.FAIL, Grade.SKIP
MIB = 2**20

FACTS = RedisFacts(
    round_trip_ms=0.4,
    clock_ahead_ms=-3.0,
    engine="valkey",
    version=(9, 1, 2),
    role="master",
    used_bytes=MIB,
    max_bytes=0,
    system_bytes=1000 * MIB,
    policy="noeviction",
    has_append_file=True,
    has_snapshots=False,
    write_fault=None,
    pubsub_limit=BufferLimit(32 * MIB, 8 * MIB, 60),
    idle_timeout_s=0,
    keepalive_s=300,
    script_fault=None,
    push_fault=None,
    streams=2,
    streams_are_all=True,
    open_generations=1,
    waiting=1,
    workers=1,
    dead_today=0,
    caller_keys=1,
)
REDIS = redis.Seen(facts=FACTS, url="redis://h", prefix="bc", concurrency=100, max_queue=100, needs_keys=True)

MACHINE = machine.Machine(
    named=("BROADCASTER_PORT",),
    unknown=(),
    keys=3,
    tenants=1,
    key_fault=None,
    has_keys_of_redis=True,
    default_model="local",
    default_provider="local",
    descriptors=20_000,
    descriptors_needed=10_096,
    has_redis=False,
    server="/bin/valkey-server",
    server_fault=None,
    has_local_model=True,
)

FRONT_END = network.FrontEnd(url="http://h", is_named=True, is_one=True, version=__version__)

TARGET = network.ProviderEndpoint(
    name="anthropic",
    wire="anthropic",
    base_url="https://h",
    key_variable="ANTHROPIC_API_KEY",
    headers={"x-api-key": "k"},
    is_needed=False,
)
ANSWER = network.ProviderReply(target=TARGET, status=200, models=3)
PROVIDER_CHECK = network.provider_check(TARGET)


def seen_redis(**changes: Any) -> redis.Seen:
    return replace(REDIS, facts=replace(FACTS, **changes))


def seen_machine(**changes: Any) -> machine.Machine:
    return replace(MACHINE, **changes)


def seen_front_end(**changes: Any) -> network.FrontEnd:
    return replace(FRONT_END, **changes)


Row = tuple[str, dict[str, Any], Grade, str]

REDIS_ROWS: list[Row] = [
    ("connection", {"round_trip_ms": 51.0}, WARN, "near"),
    ("version", {"engine": None}, WARN, "is needed"),
    ("version", {"engine": "redis", "version": (6, 2, 14)}, FAIL, "update"),
    ("version", {"engine": "valkey", "version": (7, 2, 5)}, FAIL, "update"),
    ("version", {"engine": "dragonfly", "version": (1, 2, 3)}, WARN, "tested"),
    ("topology", {"kind": RedisKind.CLUSTER, "primaries": ("a:1", "b:1"), "replicas": 0}, WARN, "replica"),
    ("role", {"role": "slave"}, FAIL, "primary"),
    ("scripts", {"script_fault": "unknown command"}, FAIL, "EVALSHA"),
    ("sharded pub/sub", {"push_fault": "nothing came"}, FAIL, "SSUBSCRIBE"),
    ("eviction", {"policy": None}, WARN, "allow CONFIG"),
    ("eviction", {"policy": "allkeys-lru", "max_bytes": 100 * MIB}, FAIL, "noeviction"),
    ("eviction", {"policy": "volatile-lru"}, WARN, "noeviction"),
    ("memory", {"used_bytes": None}, WARN, "allow CONFIG"),
    ("memory", {"max_bytes": None}, WARN, "allow CONFIG"),
    ("memory", {"used_bytes": 81 * MIB, "max_bytes": 100 * MIB}, WARN, "RETENTION_S"),
    ("memory", {"used_bytes": 801 * MIB}, WARN, "RETENTION_S"),
    ("persistence", {"has_append_file": None}, WARN, "allow CONFIG"),
    ("persistence", {"has_append_file": False, "has_snapshots": None}, WARN, "allow CONFIG"),
    ("persistence", {"has_append_file": False}, WARN, "appendonly yes"),
    ("disk", {"write_fault": "the last snapshot failed"}, FAIL, "disk"),
    ("pub/sub buffer", {"pubsub_limit": None}, WARN, "allow CONFIG"),
    ("pub/sub buffer", {"pubsub_limit": BufferLimit(0, 0, 0)}, WARN, "set a bound"),
    ("pub/sub buffer", {"workers": 10}, WARN, "reads all its streams"),
    ("idle connections", {"idle_timeout_s": None}, WARN, "allow CONFIG"),
    ("idle connections", {"idle_timeout_s": 60}, WARN, "timeout 0"),
    ("keep-alive", {"keepalive_s": None}, WARN, "allow CONFIG"),
    ("keep-alive", {"keepalive_s": 0}, WARN, "tcp-keepalive"),
    ("clock", {"clock_ahead_ms": 1001.0}, WARN, "NTP"),
    ("clock", {"clock_ahead_ms": -1001.0}, WARN, "NTP"),
    ("workers", {"workers": 0}, FAIL, "without a worker"),
    ("workers", {"workers": 0, "open_generations": 0}, WARN, "broadcaster worker"),
    ("queue", {"waiting": 100}, FAIL, "refused"),
    ("queue", {"waiting": 81}, WARN, "more workers"),
    ("callers' keys", {"caller_keys": 0}, WARN, "key add"),
    ("dead letters", {"dead_today": 1}, WARN, "dead requeue"),
]
MACHINE_ROWS: list[Row] = [
    ("callers", {"key_fault": "BROADCASTER_API_KEYS_FILE: no such file"}, FAIL, "does not start"),
    ("unknown settings", {"unknown": ("BROADCASTER_PROT (is BROADCASTER_PORT meant?)",)}, WARN, "--settings"),
    ("default model", {"default_provider": None}, FAIL, "BROADCASTER_ROUTES"),
    ("local model", {"has_local_model": False}, WARN, "install"),
    ("local model", {"has_local_model": False, "default_provider": "anthropic"}, SKIP, ""),
    ("open files", {"descriptors": 1024}, WARN, "ulimit"),
    ("embedded server", {"server": None, "server_fault": "none"}, FAIL, "broadcaster up"),
    ("embedded server", {"server": None, "server_fault": "none", "has_redis": True}, SKIP, ""),
]
FRONT_END_ROWS: list[Row] = [
    ("answer", {"is_one": False, "fault": "refused"}, FAIL, "broadcaster serve"),
    ("answer", {"is_one": False, "fault": "refused", "is_named": False}, WARN, "--url"),
    ("answer", {"is_one": False}, FAIL, "BROADCASTER_URL"),
    ("answer", {"unready": "log: Redis does not answer"}, FAIL, "Redis"),
    ("version", {"is_one": False}, SKIP, ""),
    ("version", {"version": "0.0.1"}, WARN, "same version"),
    ("key", {"is_one": False}, SKIP, ""),
    ("key", {"is_refused": True, "has_key": True}, FAIL, "correct BROADCASTER_API_KEY"),
    ("key", {"is_refused": True}, WARN, "commands"),
]
_SNAPSHOTS = "snapshots alone: a crash loses what came after the last one"
UNASKED = replace(ANSWER, status=None, models=None)
PROVIDER_ROWS = [
    (replace(UNASKED, target=replace(TARGET, is_needed=True)), WARN, "ANTHROPIC_API_KEY"),
    (UNASKED, SKIP, ""),
    (replace(UNASKED, fault="ConnectError"), FAIL, "base URL"),
    (replace(ANSWER, status=401), FAIL, "correct ANTHROPIC_API_KEY"),
    (replace(ANSWER, status=403), FAIL, "refused"),
    (replace(ANSWER, status=404), WARN, "base URL"),
    (replace(ANSWER, status=401, target=replace(TARGET, key_variable="")), FAIL, "api_key_env"),
    (replace(ANSWER, status=529), WARN, "later"),
]


def row_of(checks: tuple[Check, ...], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_healthy_set_up_is_ok_everywhere() -> None:
    findings = [
        *judge_all(redis.CHECKS, REDIS),
        *judge_all(machine.CHECKS, MACHINE),
        *judge_all(network.FRONT_END_CHECKS, FRONT_END),
        PROVIDER_CHECK.judge(ANSWER),
    ]
    assert [finding for finding in findings if finding.grade is not OK] == []
    assert all(finding.detail and not finding.remedy for finding in findings)


@pytest.mark.parametrize(("name", "changes", "verdict", "remedy"), REDIS_ROWS)
def test_each_fact_of_a_redis_gets_its_verdict_and_remedy(name, changes, verdict, remedy) -> None:
    finding = row_of(redis.CHECKS, name).judge(seen_redis(**changes))
    assert finding.grade is verdict
    assert remedy in finding.remedy


@pytest.mark.parametrize(("name", "changes", "verdict", "remedy"), MACHINE_ROWS)
def test_each_fact_of_a_machine_gets_its_verdict_and_remedy(name, changes, verdict, remedy) -> None:
    finding = row_of(machine.CHECKS, name).judge(seen_machine(**changes))
    assert finding.grade is verdict
    assert remedy in finding.remedy


@pytest.mark.parametrize(("name", "changes", "verdict", "remedy"), FRONT_END_ROWS)
def test_each_fact_of_a_front_end_gets_its_verdict_and_remedy(name, changes, verdict, remedy) -> None:
    finding = row_of(network.FRONT_END_CHECKS, name).judge(seen_front_end(**changes))
    assert finding.grade is verdict
    assert remedy in finding.remedy


@pytest.mark.parametrize(("answer", "verdict", "remedy"), PROVIDER_ROWS)
def test_each_answer_of_a_provider_gets_its_verdict_and_remedy(answer, verdict, remedy) -> None:
    finding = network.provider_check(answer.target).judge(answer)
    assert finding.grade is verdict
    assert remedy in finding.remedy


def test_every_rule_has_a_row_here() -> None:
    def unused(checks: tuple[Check, ...], seen: list[tuple[str, Any]]) -> list[str]:
        used: set[int] = set()
        for name, each in seen:
            rules = row_of(checks, name).rules
            used.add(id(next(rule for rule in rules if rule.applies(each))))
        return [f"{check.name}: {rule}" for check in checks for rule in check.rules if id(rule) not in used]

    assert unused(redis.CHECKS, [(name, seen_redis(**changes)) for name, changes, *_ in REDIS_ROWS]) == []
    assert unused(machine.CHECKS, [(name, seen_machine(**changes)) for name, changes, *_ in MACHINE_ROWS]) == []
    fronts = [(name, seen_front_end(**changes)) for name, changes, *_ in FRONT_END_ROWS]
    assert unused(network.FRONT_END_CHECKS, fronts) == []
    assert unused((PROVIDER_CHECK,), [(TARGET.name, answer) for answer, *_ in PROVIDER_ROWS]) == []


def test_the_first_rule_that_applies_gives_the_verdict() -> None:
    check: Check[int] = Check("n", str, fail(lambda n: n > 2, "a"), warn(lambda n: n > 1, "b"))
    assert [(check.judge(n).grade, check.judge(n).remedy) for n in (1, 2, 3)] == [(OK, ""), (WARN, "b"), (FAIL, "a")]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"max_bytes": 64 * MIB}, "1 MiB used, maxmemory 64 MiB"),
        ({"streams": 1, "streams_are_all": False}, "at least 1 stream under bc:"),
        ({"clock_ahead_ms": 12.4}, "Redis is 12 ms ahead of this machine"),
        ({"has_append_file": False, "has_snapshots": True}, _SNAPSHOTS),
        ({"pubsub_limit": BufferLimit(0, 8 * MIB, 60)}, "8 MiB for 60 s"),
        ({"engine": None}, "unknown (CONFIG and INFO are not allowed here)"),
        ({"keepalive_s": 0}, "off"),
        ({"idle_timeout_s": 5}, "closed after 5 s"),
    ],
)  # fmt: skip
def test_the_facts_are_described_in_a_line(changes, detail) -> None:
    assert detail in [finding.detail for finding in judge_all(redis.CHECKS, seen_redis(**changes))]
