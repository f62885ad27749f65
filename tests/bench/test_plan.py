"""What a run goes through: every goal is measured by some step, rounds are interleaved, what is missing is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.figures import Row, Table
from bench.measuring import Bench
from bench.plan import FULL, ON_PRIMARIES, QUICK, Site, Size, Step, Yard
from bench.programs import CannotRun, Programs
from bench.report import HEADINGS
from bench.scenarios import ALL
from bench.servers import Floor, Ours, Server
from bench.targets import judge

PROGRAMS = Programs(Path("load"), Path("floor"), Path("publish"))
# A server that is only planned for: nothing starts it.
PLANNED = ("ours", "nchan", "centrifugo", "naive", "better-sse", "resumable-stream", "ours-2", *ON_PRIMARIES)


def refuse() -> Server:
    raise CannotRun("nchan is left out: there is none")


def site_of(size: Size, *, missing: str = "") -> Site:
    makers = {name: refuse if name == missing else Ours for name in PLANNED}
    bench = Bench(PROGRAMS, Path("nowhere"))
    return Site(bench, size, Yard(bench, {"floor": lambda: Floor(PROGRAMS), **makers}))


def steps_of(site: Site, *names: str) -> list[Step]:
    return [step for scenario in ALL if not names or scenario.name in names for step in scenario.steps(site)]


@pytest.mark.parametrize("size", [FULL, QUICK])
def test_every_goal_is_measured_by_a_step(size: Size) -> None:
    site = site_of(size)
    everything = dict.fromkeys(HEADINGS, 1.0)
    rows = [Row(step.scenario, step.case, step.server, step.round, everything) for step in steps_of(site)]
    unmeasured = {verdict.target.about for verdict in judge(Table(rows), size) if verdict.value is None}
    assert unmeasured <= ({"two processes", "two to four processes"} if "ours-2" in site.yard.left_out else set())


def test_rounds_are_interleaved_and_what_is_optional_is_in_the_first_alone() -> None:
    steps = [step for step in steps_of(site_of(FULL), "w1") if step.case == "20 events/s"]
    once = ["floor", "ours", "nchan", "centrifugo", "naive", "better-sse"]
    assert [step.server for step in steps] == [*once, *once[:-1], *once[:-1]]
    assert [step.round for step in steps] == [0] * 6 + [1] * 5 + [2] * 5


def test_no_two_steps_measure_the_same() -> None:
    keys = [(step.scenario, step.case, step.server, step.round) for step in steps_of(site_of(FULL))]
    assert len(keys) == len(set(keys))


def test_a_peer_that_this_machine_cannot_run_is_left_out_and_reported_once() -> None:
    site = site_of(QUICK, missing="nchan")
    assert "nchan" not in {step.server for step in steps_of(site)}
    assert site.yard.left_out["nchan"] == "nchan is left out: there is none"


def test_a_quick_run_has_every_scenario() -> None:
    site = site_of(QUICK)
    missing = {scenario.name for scenario in ALL} - {step.scenario for step in steps_of(site)}
    assert missing <= ({"processes"} if "ours-2" in site.yard.left_out else set())
