"""Of several servers the worst is reported, and of one exactly what it is."""

from __future__ import annotations

from typing import Any

from broadcaster.log.inspection.worst import BufferLimit, worst_of

GOOD: dict[str, Any] = {
    "round_trip_ms": 1.0,
    "clock_ahead_ms": 1.0,
    "engine": "valkey",
    "version": (9, 1, 2),
    "role": "master",
    "replicas": 1,
    "used_bytes": 10,
    "max_bytes": 100,
    "system_bytes": 1000,
    "policy": "noeviction",
    "has_append_file": True,
    "has_snapshots": True,
    "write_fault": None,
    "script_fault": None,
    "push_fault": None,
    "pubsub_limit": BufferLimit(32, 8, 60),
    "idle_timeout_s": 0,
    "keepalive_s": 300,
}
BAD: dict[str, Any] = {
    "round_trip_ms": 9.0,
    "clock_ahead_ms": -5.0,
    "engine": "valkey",
    "version": (8, 0, 1),
    "role": "slave",
    "replicas": 0,
    "used_bytes": 50,
    "max_bytes": 60,
    "system_bytes": 1000,
    "policy": "allkeys-lru",
    "has_append_file": False,
    "has_snapshots": False,
    "write_fault": "w",
    "script_fault": "s",
    "push_fault": "p",
    "pubsub_limit": BufferLimit(0, 0, 0),
    "idle_timeout_s": 60,
    "keepalive_s": 0,
}


def test_one_server_is_reported_as_it_is() -> None:
    assert worst_of([GOOD]) == GOOD
    assert worst_of([BAD]) == BAD


def test_a_fault_of_any_server_is_reported() -> None:
    assert worst_of([GOOD, BAD, GOOD]) == BAD


def test_a_fact_that_one_server_does_not_show_is_unknown() -> None:
    worst = worst_of([GOOD, {**GOOD, "policy": None, "keepalive_s": None}])

    assert (worst["policy"], worst["keepalive_s"]) == (None, None)
