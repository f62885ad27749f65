"""A capacity model: from measured costs to machines, Redis memory and cost per million tokens streamed.

    python -m bench.capacity                              with the costs of build/bench/results.json
    python -m bench.capacity --viewers 1000000 --generations 100000 --routing stream

Assumptions
1. A delivery costs a write (W1: all is shared by 1 000 viewers), and its part of what an event costs a front-end
   process once (the rest of 1 000 streams with one viewer each, at a quarter of a core). A process that is busier
   shares reads and writes among events, so that the model overstates it; a process that is nearly idle costs more for
   each delivery, which does not matter to a plan. A worker's CPU is that of its events:
   ``BROADCASTER_CONCURRENCY`` is set to as many generations as that allows.
2. A stream's viewers are dealt out to all front-end processes by chance (``--routing chance``), or the load balancer
   sends all of one stream to one process (``--routing stream``). What they share they share within a process.
3. Redis pays for each append once, and for a push once for each process that watches the stream. The push is what W2
   costs it beyond the append. Cost does not change with the number of primaries (the curve of ``primaries``).
4. A core does the same work in every machine. It is planned at ``--busy`` of its time; a primary of Redis is one core.
5. Viewers stay for ``--stay-s`` and connect evenly over that time. A reconnect storm is not planned for: see the
   scenario ``reconnect``.
6. An event of a running or kept answer takes ``--event-bytes`` of Redis (143 measured, of events of 120 bytes); answers
   are kept for ``--keep-s``. Replicas, the 3 KB of each stream besides its events, the workers' memory,
   and the memory that Redis needs while it rewrites its file, are not included.
7. The network is not planned: 10 000 viewers at 20 events a second of 200 bytes are 40 MB/s.

``check`` compares the model with two points that it was not made from: W2, and 1 000 viewers in the curve of viewers.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from rich.console import Console
from rich.table import Table as RichTable

from bench.figures import Key, Row, Table
from bench.programs import ROOT
from bench.scenarios.fan_out import W2_RATE, case_of
from bench.targets import CPU

Routing = Literal["chance", "stream"]

_US: Final = 1e-6
_MILLION: Final = 1e6
_KB_PER_GB: Final = 2.0**20
_BYTES_PER_GB: Final = 2.0**30
_S_PER_HOUR: Final = 3600.0
_W1_VIEWERS: Final = 1000
_ONE_EACH: Final = ("streams", "1000")
_ROUNDS: Final = 100
_VIEWERS: Final = 1e6
_GENERATIONS: Final = 1e5
_SAME: Final = 1e-6


class NotMeasured(Exception):
    """A cost that neither the results nor an argument gives."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured. Microseconds are of CPU."""

    write_us: float
    event_us: float
    connect_us: float
    viewer_kb: float
    append_us: float
    push_us: float
    worker_us: float

    def delivery_us(self, viewers_of_a_process: float) -> float:
        """Of one delivery, where so many viewers of the stream are on the same process (assumption 1)."""
        return self.write_us + self.event_us / viewers_of_a_process


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for. ``rate``: events a second of one generation; ``answer_s``: how long one lasts."""

    viewers: float
    generations: float
    rate: float = 20.0
    tokens_per_event: float = 1.0
    answer_s: float = 30.0
    keep_s: float = 3600.0
    stay_s: float = 300.0
    event_bytes: float = 145.0
    routing: Routing = "chance"

    @property
    def events_per_s(self) -> float:
        """Of all generations."""
        return self.generations * self.rate

    @property
    def deliveries_per_s(self) -> float:
        """To all viewers."""
        return self.viewers * self.rate


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine; ``busy``: which part of a core's time is planned; ``max_viewers`` of one front-end process."""

    cores: float = 8.0
    memory_gb: float = 32.0
    busy: float = 0.5
    max_viewers: float = 10_000.0
    core_hour: float = 0.04
    gb_hour: float = 0.005


@dataclass(frozen=True, slots=True)
class Plan:
    """What the load needs; processes are cores, one each."""

    front_ends: int
    workers: int
    primaries: int
    front_end_machines: int
    worker_machines: int
    redis_gb: float
    delivery_us: float
    watching: float
    per_million_tokens: float


def plan(costs: Costs, load: Load, machine: Machine) -> Plan:
    """The least of everything that carries the load."""
    front_ends, per_stream = _front_ends(costs, load, machine)
    redis_us = costs.append_us + costs.push_us * per_stream
    primaries = _cores(load.events_per_s * redis_us * _US, machine)
    workers = _cores(load.events_per_s * costs.worker_us * _US, machine)
    # Answers follow each other: kept are those that ended within ``keep_s``, and the running ones half written.
    kept_s = load.keep_s + load.answer_s / 2
    redis_gb = load.events_per_s * kept_s * load.event_bytes / _BYTES_PER_GB
    viewers_gb = load.viewers * costs.viewer_kb / _KB_PER_GB
    machines = max(math.ceil(front_ends / machine.cores), math.ceil(viewers_gb / machine.memory_gb))
    worker_machines = math.ceil(workers / machine.cores)
    cores = (machines + worker_machines) * machine.cores + primaries
    hourly = cores * machine.core_hour + redis_gb * machine.gb_hour
    tokens_per_hour = load.events_per_s * load.tokens_per_event * _S_PER_HOUR
    delivery_us = costs.delivery_us(max(1.0, _viewers_of_a_stream(load) / per_stream)) if per_stream else 0.0
    return Plan(
        front_ends=front_ends,
        workers=workers,
        primaries=primaries,
        front_end_machines=machines,
        worker_machines=worker_machines,
        redis_gb=redis_gb,
        delivery_us=delivery_us,
        watching=per_stream,
        per_million_tokens=hourly / tokens_per_hour * _MILLION if tokens_per_hour else 0.0,
    )


def watching_processes(viewers: float, processes: int) -> float:
    """How many of the processes have a viewer of a stream, when chance deals the stream's viewers out."""
    return processes * (1.0 - math.pow(1.0 - 1.0 / processes, viewers))


def _viewers_of_a_stream(load: Load) -> float:
    return load.viewers / load.generations


def _front_ends(costs: Costs, load: Load, machine: Machine) -> tuple[int, float]:
    """Processes, and how many of them watch one stream: each depends on the other."""
    viewers = _viewers_of_a_stream(load)
    connecting_s = load.viewers / load.stay_s * costs.connect_us * _US
    # A stream without a viewer is watched by no process.
    count, watching = max(1, math.ceil(load.viewers / machine.max_viewers)), min(1.0, viewers)
    for _ in range(_ROUNDS):
        if load.routing == "chance":
            watching = watching_processes(viewers, count)
        streams_us = load.events_per_s * watching * costs.event_us
        used_s = (load.deliveries_per_s * costs.write_us + streams_us) * _US + connecting_s
        needed = _cores(used_s, machine)
        if needed <= count:  # it grows with ``watching``, which grows with it, up to one process for each viewer
            break
        count = needed
    return count, watching


def _cores(used_s: float, machine: Machine) -> int:
    """Cores for so many seconds of CPU a second."""
    return max(1, math.ceil(used_s / machine.busy - _SAME))


def costs_of(table: Table, given: Mapping[str, float]) -> Costs:
    """From what a run measured; a given cost comes first. Raises NotMeasured with the names of what is missing."""
    case = case_of(W2_RATE)
    w1, alone, append = _median(table, ("w1", case), CPU), _median(table, _ONE_EACH, CPU), _append_us(table)
    w2_redis = _median(table, ("w2", case), "redis_us_per_event")
    measured: dict[str, float | None] = {
        "connect_us": _median(table, ("memory", "idle"), "cpu_us_per_connect"),
        "viewer_kb": _median(table, ("memory", "idle"), "kb_per_viewer"),
        "append_us": append,
        "push_us": max(0.0, w2_redis - append) if w2_redis is not None and append is not None else None,
        "worker_us": _first(table, "worker", "worker_us_per_event"),
    }
    if w1 is not None and alone is not None:
        # w1 = write + event / 1000; alone = write + event
        event_us = max(0.0, (alone - w1) / (1 - 1 / _W1_VIEWERS))
        measured |= {"event_us": event_us, "write_us": w1 - event_us / _W1_VIEWERS}
    found = {name: value for name, value in {**measured, **given}.items() if value is not None}
    if missing := [field.name for field in fields(Costs) if field.name not in found]:
        raise NotMeasured(f"not measured: {', '.join(missing)}; run `make bench`, or give them as arguments")
    return Costs(**found)


@dataclass(frozen=True, slots=True)
class Checked:
    """A measured point that the model was not made from, and what the model says of it."""

    point: str
    measured_us: float
    model_us: float

    @property
    def error(self) -> float:
        """By how much the model is above (or below) what was measured, as a share of it."""
        return self.model_us / self.measured_us - 1


def check(costs: Costs, table: Table) -> list[Checked]:
    """CPU per delivery at two viewers of each stream, and at 1 000 viewers of one stream."""
    points = (("w2", case_of(W2_RATE), 2.0), ("viewers", "1000", 1000.0))
    return [
        Checked(f"{scenario}, {case}", found, costs.delivery_us(shared))
        for scenario, case, shared in points
        if (found := _median(table, (scenario, case), CPU)) is not None
    ]


def read_table(path: Path) -> Table:
    """What ``make bench`` has written. A file that is not there is a run that measured nothing."""
    if not path.exists():
        return Table()
    rows: Iterable[dict[str, Any]] = json.loads(path.read_text("utf-8"))["rows"]
    return Table([Row(**{**row, "faults": tuple(row["faults"])}) for row in rows])


def _median(table: Table, place: tuple[str, str], name: str) -> float | None:
    return table.value((*place, "ours"), name)


def _append_us(table: Table) -> float | None:
    return _median(table, ("appends", "1 per append"), "redis_us_per_event")


def _first(table: Table, scenario: str, name: str) -> float | None:
    keys: list[Key] = [key for key in table.cells() if key[0] == scenario and key[2] == "ours"]
    return table.value(keys[0], name) if keys else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the plan. 0; 1: a cost is missing."""
    chosen = vars(_parser().parse_args(arguments))
    table, console = read_table(chosen["results"]), Console(width=None if sys.stdout.isatty() else 120)

    def part(kind: type[Any]) -> dict[str, Any]:
        names = {field.name for field in fields(kind)}
        return {name: value for name, value in chosen.items() if name in names and value is not None}

    try:
        costs = costs_of(table, part(Costs))
    except NotMeasured as error:
        console.print(f"capacity: {error}")
        return 1
    load, machine = Load(**part(Load)), Machine(**part(Machine))
    for title, each in (("costs", costs), ("load", load), ("machine", machine), ("plan", plan(costs, load, machine))):
        shown = RichTable(title=title, title_justify="left", show_header=False)
        for field in fields(each):
            shown.add_row(field.name, _figure(getattr(each, field.name)))
        console.print(shown)
    for found in check(costs, table):
        measured, model = _figure(found.measured_us), _figure(found.model_us)
        console.print(f"check: {found.point}: measured {measured} us/delivery, model {model} ({found.error:+.0%})")
    return 0


def _figure(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}".replace(",", " ")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "bench" / "results.json")
    parser.add_argument("--routing", choices=("chance", "stream"))
    wanted = {"viewers": _VIEWERS, "generations": _GENERATIONS}
    for kind in (Costs, Load, Machine):
        for field in fields(kind):
            if field.name != "routing":
                parser.add_argument(f"--{field.name.replace('_', '-')}", type=float, default=wanted.get(field.name))
    return parser


if __name__ == "__main__":
    sys.exit(main())
