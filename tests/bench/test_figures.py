"""The arithmetic: medians over rounds, ratios, spreads, and the verdicts on the goals."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Row, Table, join, per_us, quantile, spread
from bench.measuring import Traffic
from bench.plan import FULL, fit
from bench.targets import CPU, judge
from bench.yardstick import NAME as YARDSTICK
from bench.yardstick import Yardstick


def row(server: str, value: float, *, number: int = 0, case: str = "20 events/s") -> Row:
    return Row("w1", case, server, number, {CPU: value}, ())


def table(**values: float) -> Table:
    return Table([row(server, value) for server, value in values.items()])


def test_a_cell_holds_the_median_of_its_rounds_and_how_far_they_lie_apart() -> None:
    cell = join([row("ours", value, number=number) for number, value in enumerate((9.0, 30.0, 10.0))])
    assert (cell.values[CPU], cell.least[CPU], cell.most[CPU], cell.rounds) == (10.0, 9.0, 30.0, 3)


def test_a_round_that_could_not_be_measured_leaves_the_median_of_the_others() -> None:
    failed = replace(row("ours", 0), values={}, faults=("not measured: it did not start",))
    cell = join([row("ours", 8.0), failed, row("ours", 10.0), failed])
    assert cell.values[CPU] == 9.0
    assert cell.faults == ("not measured: it did not start",)


def test_rounds_of_several_servers_and_cases_stay_apart() -> None:
    rows = [row("ours", 1.0), row("nchan", 2.0), row("ours", 3.0, case="40 events/s")]
    assert {key[1:]: cell.values[CPU] for key, cell in Table(rows).cells().items()} == {
        ("20 events/s", "ours"): 1.0,
        ("20 events/s", "nchan"): 2.0,
        ("40 events/s", "ours"): 3.0,
    }


def test_a_ratio_needs_both_sides() -> None:
    ours, floor = ("w1", "20 events/s", "ours"), ("w1", "20 events/s", "floor")
    assert table(ours=12.0, floor=10.0).ratio(CPU, ours, to=floor) == pytest.approx(1.2)
    assert table(ours=12.0).ratio(CPU, ours, to=floor) is None
    assert table(ours=12.0, floor=0.0).ratio(CPU, ours, to=floor) is None


def test_a_goal_is_kept_up_to_its_limit_and_missed_beyond_it() -> None:
    found = judge(table(ours=12.0, floor=10.0, nchan=14.0), FULL)
    verdicts = {verdict.target.compared: verdict.word for verdict in found if verdict.target.about == "W1, 20 events/s"}
    assert verdicts == {"CPU / floor": "kept", "CPU / nchan": "missed", "CPU / naive": "not measured"}


def test_a_goal_of_at_least_is_missed_below_its_limit() -> None:
    rows = [Row("w1", "2000 events/s", "ours", 0, {"deliveries_per_s": 999_999.0}, ())]
    (verdict,) = (each for each in judge(Table(rows), FULL) if each.target.sense == "at least")
    assert verdict.word == "missed"


def test_a_machine_that_allows_few_files_runs_fewer_viewers() -> None:
    size = fit(FULL, 524)
    assert (size.idle_viewers, size.viewer_curve, size.stream_curve) == (524, [10, 100, 524], [10, 100, 524])
    assert fit(FULL, 20_000).idle_viewers == FULL.idle_viewers


def test_cpu_is_spread_over_deliveries_in_microseconds() -> None:
    assert per_us(0.5, 50_000) == pytest.approx(10.0)
    assert per_us(0.5, 0) == 0.0


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 1))
def test_a_quantile_is_a_value_and_that_share_lies_at_or_below_it(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


def test_no_values_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_the_spread_is_how_far_one_process_is_from_an_even_share() -> None:
    assert spread([500, 500]) == 0.0
    assert spread([600, 400]) == pytest.approx(0.2)
    assert spread([0, 0]) == 0.0


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 200), st.integers(0, 10))
def test_the_deliveries_to_wait_for_are_those_that_a_round_robin_makes(
    viewers: int, streams: int, events: int, stalled: int
) -> None:
    stalled = min(stalled, viewers)
    traffic = Traffic(viewers, streams, rate=float(events), seconds=1.0, stalled=stalled)
    watched = [viewer % streams for viewer in range(stalled, viewers)]
    assert traffic.deliveries == sum(watched.count(event % streams) for event in range(traffic.events))


def test_a_row_measured_on_a_slow_machine_counts_as_at_the_best_speed_of_the_run() -> None:
    rows = [
        Row("worker", "200", "ours", number, {"us": us, YARDSTICK: stick})
        for number, (us, stick) in enumerate([(80.0, 500.0), (160.0, 1000.0), (90.0, 500.0)])
    ]
    found = Table([*rows, Row("w1", "20 events/s", "ours", 0, {"us": 1.0, YARDSTICK: 400.0})])
    assert found.at_best_speed(("worker", "200", "ours"), "us") == pytest.approx(64.0)
    assert found.at_best_speed(("worker", "200", "ours"), "ms") is None


def test_a_round_of_which_the_speed_is_not_known_counts_as_it_is() -> None:
    assert Table([Row("worker", "200", "ours", 0, {"us": 80.0})]).at_best_speed(("worker", "200", "ours"), "us") == 80.0


def test_the_yardstick_is_timed_while_a_step_runs() -> None:
    with Yardstick() as yardstick:
        assert yardstick.lap() > 0  # also of a step that was over before a loop was timed
        deadline = time.monotonic() + 10
        while not yardstick.loops and time.monotonic() < deadline:
            os.sched_yield()
        assert yardstick.loops
        assert yardstick.lap() > 0
