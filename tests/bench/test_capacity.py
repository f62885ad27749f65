"""The capacity model: what it takes from a run, what it makes of it, and how far it is from points it does not know."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.capacity import (
    Costs,
    Load,
    Machine,
    NotMeasured,
    check,
    costs_of,
    main,
    plan,
    read_table,
    watching_processes,
)
from bench.figures import Row, Table
from bench.targets import CPU

COSTS = Costs(
    write_us=10.0, event_us=20.0, connect_us=300.0, viewer_kb=2.0, append_us=20.0, push_us=5.0, worker_us=50.0
)
LOAD = Load(viewers=1e6, generations=1e5)
ROWS = (
    Row("w1", "20 events/s", "ours", 0, {CPU: 10.02, "redis_us_per_event": 100.0}),
    Row("w2", "20 events/s", "ours", 0, {CPU: 16.0, "redis_us_per_event": 25.0}),
    Row("w2", "20 events/s", "floor", 0, {CPU: 1.0}),
    Row("memory", "idle", "ours", 0, {"cpu_us_per_connect": 300.0, "kb_per_viewer": 2.0}),
    Row("appends", "1 per append", "ours", 0, {"redis_us_per_event": 20.0}),
    Row("worker", "200 x 50 events/s", "ours", 0, {"worker_us_per_event": 50.0}),
    Row("viewers", "1000", "ours", 0, {CPU: 10.02}),
    Row("streams", "1000", "ours", 0, {CPU: 30.0}),
)


def test_the_costs_of_a_write_and_of_an_event_are_parted_by_two_measurements() -> None:
    assert asdict(costs_of(Table(list(ROWS)), {})) == pytest.approx(asdict(COSTS), rel=1e-3)


def test_a_cost_that_is_given_comes_before_the_measured_one() -> None:
    assert costs_of(Table(list(ROWS)), {"append_us": 7.0}).append_us == 7.0


def test_what_was_neither_measured_nor_given_is_named() -> None:
    with pytest.raises(NotMeasured, match="not measured: connect_us, viewer_kb, append_us"):
        costs_of(Table([ROWS[0], ROWS[-1]]), {"worker_us": 1.0, "push_us": 1.0})


def test_the_model_is_compared_with_points_that_it_was_not_made_from() -> None:
    unknown, known = check(COSTS, Table(list(ROWS)))
    assert (known.point, round(known.error, 3)) == ("viewers, 1000", 0.0)
    assert (unknown.point, round(unknown.error, 3)) == ("w2, 20 events/s", 0.25)


def test_one_process_for_each_core_that_is_planned_busy() -> None:
    # 1 000 deliveries a second at 10 + 20 / 10 us each, and 100 connections: half of a core's hundredth
    small = plan(COSTS, Load(viewers=50, generations=5), Machine())
    assert (small.front_ends, small.workers, small.primaries, small.delivery_us) == (1, 1, 1, 12.0)
    # 20 M deliveries a second at 12 us are 240 cores, 3 333 connections one more, all at half of their time
    routed = plan(COSTS, replace(LOAD, routing="stream"), Machine())
    assert (routed.front_ends, routed.workers, routed.primaries) == (482, 200, 100)
    assert routed.front_end_machines == 61


def test_viewers_that_chance_spreads_cost_a_front_end_and_redis_more() -> None:
    spread, together = (plan(COSTS, replace(LOAD, routing=routing), Machine()) for routing in ("chance", "stream"))
    assert spread.watching == pytest.approx(9.95, abs=0.1)
    assert spread.delivery_us == pytest.approx(COSTS.write_us + COSTS.event_us, rel=0.02)
    assert spread.front_ends > 2 * together.front_ends
    assert spread.primaries > 2 * together.primaries


def test_the_front_ends_of_a_plan_carry_what_they_were_planned_for() -> None:
    for generations in (1e2, 1e4, 1e5, 1e6):
        load = replace(LOAD, generations=generations)
        found = plan(COSTS, load, Machine(busy=1.0))
        used_s = load.deliveries_per_s * found.delivery_us / 1e6 + load.viewers / load.stay_s * COSTS.connect_us / 1e6
        assert used_s <= found.front_ends * 1.01


def test_memory_decides_where_viewers_are_idle() -> None:
    idle = plan(replace(COSTS, viewer_kb=1024.0), replace(LOAD, rate=1e-9), Machine(memory_gb=10.0))
    assert (idle.front_ends, idle.front_end_machines) == (100, 98)


def test_redis_holds_what_was_written_while_answers_are_kept() -> None:
    load = Load(viewers=1, generations=1000, rate=10.0, answer_s=40.0, keep_s=3600.0, event_bytes=100.0)
    assert plan(COSTS, load, Machine()).redis_gb == pytest.approx(10_000 * 3620 * 100 / 2**30)


def test_the_cost_of_a_token_is_that_of_all_machines() -> None:
    load = Load(viewers=1, generations=100, rate=10.0, tokens_per_event=2.0, keep_s=0.0, answer_s=0.0)
    found = plan(COSTS, load, Machine(cores=2.0, core_hour=1.0))
    assert (found.front_end_machines, found.worker_machines, found.primaries) == (1, 1, 1)
    assert found.per_million_tokens == pytest.approx((2 + 2 + 1) / (2000 * 3600) * 1e6)


def test_processes_that_watch_are_at_most_as_many_as_there_are_viewers_or_processes() -> None:
    assert watching_processes(1, 50) == pytest.approx(1.0)
    assert watching_processes(1e6, 50) == pytest.approx(50.0)
    assert watching_processes(2, 2) == pytest.approx(1.5)


def test_the_command_shows_the_plan_and_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"rows": [asdict(row) for row in ROWS]}))
    assert len(read_table(file).rows) == len(ROWS)
    assert main(["--results", str(file), "--routing", "stream"]) == 0
    shown = capsys.readouterr().out
    assert "482" in shown
    assert "check: w2, 20 events/s: measured 16 us/delivery, model 20 (+25%)" in shown
    assert main(["--results", str(tmp_path / "none.json")]) == 1
    assert "write_us" in capsys.readouterr().out
