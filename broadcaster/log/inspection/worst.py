"""The worst of the findings of several servers, which is what an operator must know. One server's stay as they are.

A value that one server hides is unknown for all (``redis_facts.py``, rule 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple


class BufferLimit(NamedTuple):
    """How much output may wait for a subscriber before Redis closes its connection; 0: unlimited."""

    hard_bytes: int
    soft_bytes: int
    soft_s: int


def _least_room(findings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    def used_share(finding: Mapping[str, Any]) -> float:
        most = finding["max_bytes"] or finding["system_bytes"] or math.inf
        return (finding["used_bytes"] or 0) / most

    return max(findings, key=used_share)


def _tightest(limits: Sequence[BufferLimit]) -> BufferLimit:
    """No limit is the worst: then one subscriber can fill the server's memory."""
    return min(limits, key=lambda limit: (any(limit), limit.hard_bytes or math.inf))


_FAULTS: Final = ("write_fault", "script_fault", "push_fault")
_WORST: Final[Mapping[str, Callable[[Sequence[Any]], Any]]] = {
    "round_trip_ms": max,
    "clock_ahead_ms": lambda values: max(values, key=abs),
    "engine": lambda values: values[0],
    "version": min,
    "role": lambda values: "slave" if "slave" in values else values[0],
    "replicas": min,
    "policy": lambda values: next((each for each in values if each != "noeviction"), values[0]),
    "has_append_file": all,
    "has_snapshots": all,
    "pubsub_limit": _tightest,
    "idle_timeout_s": max,
    "keepalive_s": min,
}
_ROOM: Final = ("used_bytes", "max_bytes", "system_bytes")


def worst_of(findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The worst value of each kind; ``findings`` are those of at least one server."""
    worst: dict[str, Any] = {}
    for name, pick in _WORST.items():
        values = [finding[name] for finding in findings]
        worst[name] = None if None in values else pick(values)
    for name in _FAULTS:
        worst[name] = next((finding[name] for finding in findings if finding[name] is not None), None)
    fullest = _least_room(findings)
    return {**worst, **{name: fullest[name] for name in _ROOM}}
