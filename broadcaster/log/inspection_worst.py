"""Of what several servers tell: the worst, which is what an operator must know. One server's word is left as it is.

What one of them does not let us see is not known of all (see inspection.py, rule 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple


class BufferLimit(NamedTuple):
    """How much may wait for a subscriber before Redis cuts its connection; 0: no such limit."""

    hard_bytes: int
    soft_bytes: int
    soft_s: int


def _least_room(looks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    def used_share(look: Mapping[str, Any]) -> float:
        most = look["max_bytes"] or look["system_bytes"] or math.inf
        return (look["used_bytes"] or 0) / most

    return max(looks, key=used_share)


def _tightest(limits: Sequence[BufferLimit]) -> BufferLimit:
    """None at all is the worst: then one subscriber fills the server's memory."""
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


def worst_of(looks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One look, made of the worst of each value; ``looks`` are of at least one server."""
    worst: dict[str, Any] = {}
    for name, pick in _WORST.items():
        values = [look[name] for look in looks]
        worst[name] = None if None in values else pick(values)
    for name in _FAULTS:
        worst[name] = next((look[name] for look in looks if look[name] is not None), None)
    fullest = _least_room(looks)
    return {**worst, **{name: fullest[name] for name in _ROOM}}
