"""The benchmark itself, small: what CI proves of it. No test asserts how fast anything is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from bench.figures import Row, Table
from bench.plan import QUICK
from bench.processes import Child, cpu_s, pss_bytes, tree
from bench.programs import ROOT
from bench.report import Run, plot, write
from bench.targets import CPU, judge
from tests.bench.answering import needs_a_compiler, until

RUN_S = 100


def test_a_quick_run_measures_the_floor_and_us_side_by_side(tmp_path: Path) -> None:
    needs_a_compiler()
    arguments = ["--quick", "--only", "w1,rate", "--servers", "floor,ours", "--results", str(tmp_path)]
    result = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    measured = {(row["case"], row["server"]) for row in found["rows"] if row["scenario"] == "w1"}
    assert {("20 events/s", "floor"), ("20 events/s", "ours")} <= measured
    assert all(row["values"][CPU] > 0 for row in found["rows"])
    assert [row["faults"] for row in found["rows"] if row["faults"]] == []
    assert next(goal for goal in found["goals"] if goal["compared"] == "CPU / floor")["value"] > 0
    ElementTree.parse(tmp_path / "bench-rate.svg")
    assert "kept" in result.stdout


def test_cpu_and_memory_are_those_of_a_process_and_its_children(tmp_path: Path) -> None:
    burn = "import os, time\nwhile time.process_time() < 0.2: pass\nprint('burnt', flush=True)\ntime.sleep(60)"
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])"
    log = tmp_path / "log"
    child = Child([sys.executable, "-c", script], log=log)
    try:
        until(lambda: b"burnt" in log.read_bytes())
        assert len(tree(child.pid)) == 2
        assert cpu_s([child.pid]) >= 0.2
        assert pss_bytes([child.pid]) > 2**20
    finally:
        family = tree(child.pid)
        child.stop()
    until(lambda: not any(Path(f"/proc/{pid}/schedstat").exists() for pid in family[1:]))


def test_a_report_names_what_was_wrong_and_what_was_left_out(tmp_path: Path) -> None:
    table = Table(
        [
            Row("w1", "20 events/s", "ours", 0, {CPU: 12.0}, ("3 gaps",)),
            Row("w1", "20 events/s", "floor", 0, {CPU: 10.0}),
            Row("viewers", "10", "ours", 0, {CPU: 12.0, "at": 10.0}),
            Row("viewers", "100", "ours", 0, {CPU: 11.0, "at": 100.0}),
        ]
    )
    write(tmp_path, Run(table, judge(table, QUICK), "QUICK", 1.0, {"nchan": "nchan is left out: there is none"}))
    report = (tmp_path / "report.md").read_text()
    assert "| 20 events/s | ours | 12 | 3 gaps |" in report
    assert "| W1, 20 events/s | CPU / floor | ≤ 1.2 x | 1.2 x | kept |" in report
    assert "nchan is left out: there is none" in report
    assert [path.name for path in plot(tmp_path, table)] == ["bench-w1.svg", "bench-viewers.svg"]
