"""What a run leaves behind: tables in the terminal, everything as JSON, a report in Markdown, plots."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable

from bench.figures import Cell, Key, Table
from bench.interpreter import is_optimized
from bench.programs import ROOT
from bench.scenarios.curves import NAMES
from bench.svg import Axis, Line, Plot, draw, draw_bars
from bench.targets import CPU, Verdict, count
from bench.yardstick import NAME as YARDSTICK
from broadcaster.hub.live.writes import IS_COMPILED

_COLOURS: Final = {"kept": "green", "missed": "red", "not measured": "yellow"}
_DIGITS: Final = 3

# Beside the goals a terminal has room for these; results.json and report.md hold the rest too.
HEADINGS: Final = {
    CPU: "CPU us/delivery",
    "redis_us_per_event": "Redis us/event",
    "deliveries_per_s": "deliveries/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "rate_per_stream": "events/s",
    "server_mb": "MB",
    "cpu_s": "CPU s",
    "redis_cpu_s": "Redis s",
    "done_s": "done s",
    "viewers": "viewers",
    "kb_per_viewer": "KB/viewer",
    "base_mb": "base MB",
    "cpu_us_per_connect": "CPU us/connect",
    "idle_cpu_share": "idle CPU",
    "stalled_kb": "KB/stalled",
    "process_kb": "process KB",
    "kernel_kb": "kernel KB",
    "p99_ms_without": "p99 ms without",
    "p99_ms_with": "p99 ms with",
    "back_s": "all back s",
    "best_s": "best s",
    "median_s": "median s",
    "took_s": "took s",
    "lease_s": "lease s",
    "beyond_lease_s": "beyond lease s",
    "log_reads_per_stream": "log reads/stream",
    "meta_reads_per_viewer": "meta reads/viewer",
    "spread": "off even",
    "events_per_s": "events/s",
    "worker_us_per_event": "worker us/event",
    "worker_share": "worker CPU",
    "lag_p99_ms": "loop lag p99 ms",
    YARDSTICK: "yardstick us",
    "first_p50_ms": "first p50 ms",
    "first_p99_ms": "first p99 ms",
    "later_p50_ms": "later p50 ms",
    "later_p99_ms": "later p99 ms",
}

_BARS: Final = (
    ("w1", "One stream, 1 000 viewers, 20 events/s: CPU us per delivery"),
    ("w2", "1 000 streams, 2 viewers each, 20 events/s: CPU us per delivery"),
)
_CURVES: Final = (
    ("viewers", "one stream", Axis("viewers", log=True)),
    ("streams", "one viewer each", Axis("streams", log=True)),
    ("processes", "one stream, all processes together", Axis("processes")),
    ("primaries", "two viewers of each stream", Axis("primaries of a cluster")),
    ("rate", "one stream with 200 viewers", Axis("events a second", log=True)),
)
_CURVED: Final = (
    ("", CPU, "CPU per delivery", Axis("CPU us per delivery")),
    ("-p99", "p99_ms", "p99", Axis("ms", log=True)),
    ("-memory", "server_mb", "memory", Axis("MB with all viewers connected")),
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is over: what was measured, what the goals say of it, and what there is to say besides."""

    table: Table
    verdicts: Sequence[Verdict]
    size: str
    seconds: float
    left_out: Mapping[str, str]


def show(console: Console, run: Run) -> None:
    """Everything measured, then the goals."""
    for scenario, cells in _by_scenario(run.table).items():
        console.print(_measured(scenario, cells))
    console.print(_goals(run.verdicts))
    console.print(f"goals: {count(run.verdicts)}; {run.size}, {run.seconds:.0f} s, {_machine()}")
    if run.size == "QUICK":
        console.print("QUICK shows that everything works: its figures are too small to say anything of speed.")
    for words in run.left_out.values():
        console.print(words)


def write(folder: Path, run: Run) -> None:
    """``results.json`` and ``report.md`` into ``folder``."""
    found = {
        "made": {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine(), "commit": _commit()},
        "run": {"size": run.size, "seconds": run.seconds, "left_out": dict(run.left_out)},
        "goals": [
            {
                "about": verdict.target.about,
                "compared": verdict.target.compared,
                "sense": verdict.target.sense,
                "limit": verdict.target.limit,
                "unit": verdict.target.unit,
                "value": verdict.value,
                "word": verdict.word,
            }
            for verdict in run.verdicts
        ],
        "rows": [asdict(row) for row in run.table.rows],
    }
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (folder / "report.md").write_text(_markdown(run), "utf-8")


def plot(folder: Path, table: Table) -> list[Path]:
    """What was measured of the curves, and of W1 and W2 all servers beside each other, as ``bench-*.svg``."""
    written = []
    for scenario, title in _BARS:
        values = _beside(table, scenario)
        if len(values) > 1:
            path = folder / f"bench-{scenario}.svg"
            path.write_text(draw_bars(title, values), "utf-8")
            written.append(path)
    for scenario, title, x in _CURVES:
        for suffix, value, what, y in _CURVED:
            lines = [Line(name, _points(table, scenario, name, value=value)) for name in NAMES]
            if any(len(line.points) > 1 for line in lines):
                path = folder / f"bench-{scenario}{suffix}.svg"
                path.write_text(draw(Plot(f"{what}, {title}", x, y, lines)), "utf-8")
                written.append(path)
    return written


def _beside(table: Table, scenario: str) -> dict[str, float]:
    """CPU per delivery of every server in the scenario's first case, the least first."""
    cells = {key: cell for key, cell in table.cells().items() if key[0] == scenario and cell.values.get(CPU)}
    first = next((case for _, case, _ in cells), "")
    values = {server: cell.values[CPU] for (_, case, server), cell in cells.items() if case == first}
    return dict(sorted(values.items(), key=lambda each: each[1]))


def _points(table: Table, scenario: str, server: str, *, value: str) -> list[tuple[float, float]]:
    """Of a server and of its larger ones (``ours-2``): the first of each value of x."""
    found: dict[float, float] = {}
    for (of, _, name), cell in table.cells().items():
        if of == scenario and (name == server or name.startswith(f"{server}-")) and cell.values.get(value):
            found.setdefault(cell.values["at"], cell.values[value])
    return sorted(found.items())


def _by_scenario(table: Table) -> dict[str, dict[Key, Cell]]:
    found: dict[str, dict[Key, Cell]] = {}
    for key, cell in table.cells().items():
        found.setdefault(key[0], {})[key] = cell
    return found


def _measured(scenario: str, cells: Mapping[Key, Cell]) -> RichTable:
    shown = RichTable(title=scenario, title_justify="left", header_style="bold")
    names = [name for name in _names(cells.values()) if name in HEADINGS]
    for title in ("case", "server"):
        shown.add_column(title)
    for name in names:
        shown.add_column(HEADINGS[name], justify="right")
    shown.add_column("wrong", style="red")
    for (_, case, server), cell in cells.items():
        shown.add_row(case, server, *(_figure(cell, name) for name in names), "; ".join(cell.faults))
    return shown


def _goals(verdicts: Iterable[Verdict]) -> RichTable:
    shown = RichTable(title="goals (ours)", title_justify="left", header_style="bold")
    for title in ("what", "compared", "goal", "measured", ""):
        shown.add_column(title)
    for verdict in verdicts:
        shown.add_row(*_goal(verdict), f"[{_COLOURS[verdict.word]}]{verdict.word}[/]")
    return shown


def _goal(verdict: Verdict) -> tuple[str, str, str, str]:
    target = verdict.target
    sign = "≤" if target.sense == "at most" else "≥"
    value = "–" if verdict.value is None else f"{_short(verdict.value)} {target.unit}".strip()
    return target.about, target.compared, f"{sign} {_short(target.limit)} {target.unit}".strip(), value


def _markdown(run: Run) -> str:
    lines = [f"Measured on {_machine()}, {run.size}, in {run.seconds:.0f} s. Goals: {count(run.verdicts)}.", ""]
    lines += ["| What | Compared | Goal | Measured | |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(_goal(verdict))} | {verdict.word} |" for verdict in run.verdicts]
    for scenario, cells in _by_scenario(run.table).items():
        names = _names(cells.values())
        lines += ["", f"## {scenario}", "", f"| case | server | {' | '.join(names)} | wrong |"]
        lines.append("| --- " * (len(names) + 3) + "|")
        for (_, case, server), cell in cells.items():
            figures = " | ".join(_figure(cell, name) for name in names)
            lines.append(f"| {case} | {server} | {figures} | {'; '.join(cell.faults)} |")
    lines += ["", *run.left_out.values()]
    return "\n".join(lines).rstrip() + "\n"


def _names(cells: Iterable[Cell]) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell.values if name != "at"))


def _figure(cell: Cell, name: str) -> str:
    """The median, with the least and the most where there were several rounds."""
    if name not in cell.values:
        return "–"
    median, least, most = (_short(each[name]) for each in (cell.values, cell.least, cell.most))
    return median if least == most else f"{median} ({least}–{most})"


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{float(f'{value:.{_DIGITS}g}'):g}"


def _machine() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    writes = "in C" if IS_COMPILED else "in Python: `make compiled` is missing, figures of ours are not comparable"
    python = f"Python {platform.python_version()} built {'with' if is_optimized() else 'WITHOUT'} optimizations"
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, {python}, writes {writes}"


def _commit() -> str:
    ran = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout.strip()
