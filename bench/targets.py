"""The goals of the fan-out, as data: what is compared with what, and how far it may go.

A goal is measured in one run, side by side; one whose servers were not measured is neither kept nor missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.figures import Key, Table
from bench.plan import Size
from bench.scenarios import dialects, holding, replay, startup
from bench.scenarios.fan_out import W2_RATE, case_of
from bench.scenarios.processes import MORE

CPU: Final = "cpu_us_per_delivery"

Measure = Callable[[Table], float | None]


@dataclass(frozen=True, slots=True)
class Target:
    """One goal. ``unit`` follows the number; a ratio's is ``x``."""

    about: str
    compared: str
    limit: float
    measure: Measure
    unit: str = "x"
    sense: Literal["at most", "at least"] = "at most"

    def is_kept(self, value: float) -> bool:
        """Whether a measured value keeps it."""
        return value <= self.limit if self.sense == "at most" else value >= self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and what was measured; None: it was not."""

    target: Target
    value: float | None

    @property
    def word(self) -> str:
        """``kept``, ``missed`` or ``not measured``."""
        if self.value is None:
            return "not measured"
        return "kept" if self.target.is_kept(self.value) else "missed"


def judge(table: Table, size: Size) -> list[Verdict]:
    """Every goal, in the order of the table."""
    return [Verdict(target, target.measure(table)) for target in targets(size)]


def targets(size: Size) -> list[Target]:
    """The goals, for the cases that a run of this size has."""
    return [
        *_w1(size),
        *_w2_and_w3(),
        *_viewers(),
        *_returns(size),
        *_dialects(),
        *_writing(size),
        *_starts(),
    ]


def _w1(size: Size) -> list[Target]:
    first, *_, high = (case_of(rate) for rate in size.rates)
    over = case_of(size.overload_rate)
    found = []
    for rate in size.rates[:-1]:
        case = case_of(rate)
        found.append(Target(f"W1, {case}", "CPU / floor", 1.2, _ratio("w1", case, "floor")))
        found.append(Target(f"W1, {case}", "CPU / nchan", 0.8, _ratio("w1", case, "nchan")))
    return [
        *found,
        Target(f"W1, {first}", "CPU / naive", 1 / 8, _ratio("w1", first, "naive")),
        Target(f"W1, {high}", "CPU / nchan", 1.05, _ratio("w1", high, "nchan")),
        Target(f"W1, {high}", "p99 / nchan's", 0.5, _ratio("w1", high, "nchan", name="p99_ms")),
        Target(
            f"W1 overload, {over}", "deliveries a second", 1e6, _own("w1", over, "deliveries_per_s"), "/s", "at least"
        ),
        Target(f"W1 overload, {over}", "p99", 200.0, _own("w1", over, "p99_ms"), "ms"),
    ]


def _w2_and_w3() -> list[Target]:
    case = case_of(W2_RATE)
    return [
        Target(f"W2, {case}", "CPU / floor", 1.3, _ratio("w2", case, "floor")),
        Target(f"W2, {case}", "CPU / nchan", 0.6, _ratio("w2", case, "nchan")),
        Target("W3 replay, cold", "time / nchan's", 1 / 20, _ratio("w3", "cold", "nchan", name="done_s")),
        Target("W3 replay, cold", "CPU / nchan", 1 / 20, _ratio("w3", "cold", "nchan", name="cpu_s")),
    ]


def _viewers() -> list[Target]:
    stall = ("stalled", "a fifth stalled", "ours")
    pair = ("processes", case_of(20.0))

    def together(table: Table) -> float | None:
        ratios = [table.ratio(CPU, (*pair, name), to=(*pair, "ours")) for name in MORE]
        return max((ratio for ratio in ratios if ratio is not None), default=None)

    def disturbed(table: Table) -> float | None:
        without, with_stalled = table.value(stall, "p99_ms_without"), table.value(stall, "p99_ms_with")
        return with_stalled / without if without and with_stalled is not None else None

    return [
        Target("idle viewer", "process memory", 3.0, _own("memory", "idle", "kb_per_viewer"), "KB"),
        Target("connecting", "CPU", 100.0, _cpu("memory", "idle", "cpu_us_per_connect"), "us"),
        Target(
            "quiet streams, one viewer each", "CPU", 0.02, _own("memory", holding.QUIET, "idle_cpu_share"), "of a core"
        ),
        Target("stalled viewer", "kernel + process", 512.0, _own(*stall[:2], "stalled_kb"), "KB"),
        # Unchanged, as far as one run on a shared machine can tell.
        Target("stalled viewer", "others' p99, with / without", 1.5, disturbed),
        Target("two to four processes", "CPU / one", 1.1, together),
        Target("two processes", "viewers off an even share", 0.2, _own(*pair, "spread", server="ours-2"), ""),
    ]


def _returns(size: Size) -> list[Target]:
    cases = [replay.case_of(size.idle_viewers, streams=streams) for streams in (1, size.streams)]
    return [
        *(
            Target(f"return of {case}", "CPU", 100.0, _cpu("reconnect", case, "cpu_us_per_connect"), "us")
            for case in cases
        ),
        *(Target(f"return of {case}", "others' p99", 250.0, _own("reconnect", case, "p99_ms"), "ms") for case in cases),
    ]


def _dialects() -> list[Target]:
    limit, about = 1.3, "every dialect"
    few, many, idle, stalled = (
        (dialects.CPU_OF, dialects.FEW),
        (dialects.CPU_OF, dialects.MANY),
        (dialects.IDLE, dialects.FEW),
        (dialects.STALLED, dialects.A_FIFTH),
    )
    return [
        Target(f"{about}, {dialects.FEW}", "CPU / native", limit, _highest(*few, CPU)),
        Target(f"{about}, {dialects.MANY}", "CPU / native", limit, _highest(*many, CPU)),
        Target(f"{about}, idle viewer", "memory / native", limit, _highest(*idle, "kb_per_viewer")),
        Target(f"{about}, stalled viewer", "memory / native", limit, _highest(*stalled, "stalled_kb")),
    ]


def _highest(scenario: str, case: str, name: str) -> Measure:
    """Of the dialect that is the furthest from ``native``; None unless all were measured."""

    def measure(table: Table) -> float | None:
        native: Key = (scenario, case, dialects.NATIVE)
        ratios = [table.ratio(name, (scenario, case, other), to=native) for other in dialects.OTHERS]
        found = [ratio for ratio in ratios if ratio is not None]
        return max(found) if len(found) == len(ratios) else None

    return measure


def _writing(size: Size) -> list[Target]:
    case = f"{size.generations} x 50 events/s"
    return [
        Target("worker", "CPU per event", 45.0, _cpu("worker", case, "worker_us_per_event"), "us"),
        Target("Redis under that worker", "CPU per event", 25.0, _cpu("worker", case, "redis_us_per_event"), "us"),
        Target("worker", "p99 loop lag", 20.0, _own("worker", case, "lag_p99_ms"), "ms"),
        Target("Redis, 1 event per append", "CPU per event", 15.0, _redis("1 per append"), "us"),
        Target("Redis, 4 events per append", "CPU per event", 8.0, _redis("4 per append"), "us"),
        Target("end to end, first event", "p50", 5.0, _own("e2e", "idle", "first_p50_ms"), "ms"),
        Target("end to end, later events", "p50", 3.0, _own("e2e", "idle", "later_p50_ms"), "ms"),
    ]


def _starts() -> list[Target]:
    limits = {startup.HELP: 0.3, startup.SERVE: 0.7, startup.WORKER: 1.0}
    return [
        *(
            Target(case, "start, best of five", limit, _own(startup.SCENARIO, case, "best_s"), "s")
            for case, limit in limits.items()
        ),
        Target(
            startup.TAKE_OVER, "beyond the lease", 1.5, _own(startup.SCENARIO, startup.TAKE_OVER, "beyond_lease_s"), "s"
        ),
    ]


def _redis(case: str) -> Measure:
    return _cpu("appends", case, "redis_us_per_event")


def _ratio(scenario: str, case: str, to: str, *, name: str = CPU) -> Measure:
    ours, other = (scenario, case, "ours"), (scenario, case, to)
    return lambda table: table.ratio(name, ours, to=other)


def _cpu(scenario: str, case: str, name: str) -> Measure:
    """Of ours, at the best speed of the run (yardstick.py)."""
    return lambda table: table.at_best_speed((scenario, case, "ours"), name)


def _own(scenario: str, case: str, name: str, *, server: str = "ours") -> Measure:
    key: Key = (scenario, case, server)
    return lambda table: table.value(key, name)


def count(verdicts: Sequence[Verdict]) -> str:
    """How many of each word, in one line."""
    words = [verdict.word for verdict in verdicts]
    return ", ".join(f"{words.count(word)} {word}" for word in ("kept", "missed", "not measured"))
