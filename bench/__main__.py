"""``python -m bench``: measure everything, show it, judge it. ``make bench`` is this with its tools fetched."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench import report
from bench.cluster import OursOnCluster
from bench.figures import Row, Table
from bench.measuring import Bench
from bench.node_servers import BetterSse, ResumableStream
from bench.plan import FULL, ON_PRIMARIES, QUICK, Scenario, Site, Step, Yard, fit
from bench.processes import ProcessEnded
from bench.programs import ROOT, CannotRun, Programs, build, raise_file_limit
from bench.scenarios import ALL
from bench.servers import Centrifugo, Floor, Naive, Nchan, Ours, Server
from bench.targets import judge
from bench.yardstick import NAME as YARDSTICK
from bench.yardstick import Yardstick

_MOST_FAULT_CHARS: Final = 160
_WIDTH: Final = 150
_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run. 0: all was measured, whatever the figures; 1: something could not be; 2: no compiler; 130: interrupted."""
    chosen = _parser().parse_args(arguments)
    console, size = _console(), QUICK if chosen.quick else FULL
    size = fit(replace(size, rounds=chosen.rounds or size.rounds), raise_file_limit())
    chosen.results.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            bench = Bench(build(Path(folder)), Path(folder))
        except CannotRun as error:
            console.print(f"bench: {error}")
            return 2
        site = Site(bench, size, Yard(bench, _makers(bench.programs, wanted=_words(chosen.servers) or size.servers)))
        table, was_interrupted = Table(), False
        try:
            _run_all(site, _wanted(chosen.only), console=console, table=table)
        except KeyboardInterrupt:  # what has been measured is shown all the same
            was_interrupted = True
        finally:
            site.yard.close()
    verdicts = [each for each in judge(table, size) if each.value is not None or not chosen.only]
    run = report.Run(table, verdicts, "QUICK" if chosen.quick else "full", time.monotonic() - begun, site.yard.left_out)
    report.show(console, run)
    report.write(chosen.results, run)
    plots = report.plot(chosen.plots or chosen.results, table)
    console.print(f"results: {', '.join(str(path) for path in [chosen.results / 'results.json', *plots])}")
    if was_interrupted:
        console.print("bench: interrupted, the rest was not measured")
        return _INTERRUPTED
    return 1 if any(not row.values for row in table.rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything small: that it works, not how fast")
    parser.add_argument(
        "--only", default="", help=f"scenarios, parted by commas: {', '.join(each.name for each in ALL)}"
    )
    parser.add_argument("--servers", default="", help="servers, parted by commas; all when empty")
    parser.add_argument("--rounds", type=int, help="how often each is measured; the median counts")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "bench", help="folder of results.json")
    parser.add_argument("--plots", type=Path, help="folder of the plots; the results' when left out")
    return parser


def _console() -> Console:
    """A terminal as wide as it is; a file or a pipe wide enough for the tables."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDTH)


def _makers(programs: Programs, *, wanted: Sequence[str]) -> dict[str, Callable[[], Server]]:
    makers: dict[str, Callable[[], Server]] = {
        "floor": lambda: Floor(programs),
        "ours": Ours,
        "nchan": Nchan,
        "centrifugo": Centrifugo,
        "naive": Naive,
        "better-sse": BetterSse,
        "resumable-stream": ResumableStream,
    }
    makers |= {f"ours-{count}": partial(Ours, processes=count, name=f"ours-{count}") for count in (2, 3, 4)}
    makers |= {name: partial(OursOnCluster, number) for number, name in enumerate(ON_PRIMARIES, start=1)}
    return {name: make for name, make in makers.items() if name in wanted}


def _wanted(only: str) -> list[Scenario]:
    names = _words(only)
    known = {each.name for each in ALL}
    if unknown := sorted(set(names) - known):
        raise SystemExit(f"bench: no scenario is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [each for each in ALL if not names or each.name in names]


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _run_all(site: Site, scenarios: Sequence[Scenario], *, console: Console, table: Table) -> None:
    """Every step of every scenario into the table; a step that cannot be measured has its output and no values."""
    planned = [(scenario, scenario.steps(site)) for scenario in scenarios]
    columns = (TextColumn("{task.description:44}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # Twice a second: what draws the bar takes CPU from what is measured.
    with Yardstick() as yardstick, Progress(*columns, console=console, refresh_per_second=2) as progress:
        bar = progress.add_task("", total=sum(step.expects_s for _, steps in planned for step in steps))
        for _, steps in planned:
            try:
                for step in steps:
                    name = f"{step.scenario}: {step.server}, {step.case}"
                    progress.update(bar, description=name)
                    table.add(_measure(step, yardstick))
                    progress.advance(bar, step.expects_s)
            finally:
                if not site.size.keeps_servers:
                    site.yard.close()


def _measure(step: Step, yardstick: Yardstick) -> Row:
    yardstick.lap()
    try:
        values, faults = step.run()
    except (ProcessEnded, OSError, RuntimeError, ValueError) as error:
        fault = f"not measured: {error}"[:_MOST_FAULT_CHARS]
        return Row(step.scenario, step.case, step.server, step.round, {}, (fault,))
    return Row(step.scenario, step.case, step.server, step.round, {**values, YARDSTICK: yardstick.lap()}, tuple(faults))


if __name__ == "__main__":
    sys.exit(main())
