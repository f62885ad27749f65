"""What jobs report, in words: the time that is left, durations, log lines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.servers.console_modules import ConsoleModules


@pytest.mark.parametrize(
    ("progresses", "at", "left"),
    [
        ([], 0, None),
        ([(1, 10, 0)], 5000, None),
        ([(0, 10, 0), (1, 10, 500)], 500, None),
        ([(0, 10, 0), (5, 10, 5000)], 5000, 5.0),
        ([(0, 10, 0), (5, 10, 5000)], 7000, 3.0),
        ([(0, 10, 0), (5, 10, 5000)], 60_000, None),
        ([*((done, 100, 0) for done in range(51)), (60, 100, 5000)], 5000, 20.0),
        ([(0, 10, 0), (0, 10, 5000)], 5000, None),
        ([(0, 10, 0), (5, 10, 5000), (10, 10, 9000)], 9000, 0.0),
        ([(5, 10, 0), (9, 10, 5000), (1, 10, 6000), (2, 10, 8000)], 8000, 16.0),
        ([(0, 10, 0), (5, 10, 5000), (5, 20, 6000)], 6000, None),
        ([(done, 1000, 1000 * done) for done in range(500)], 499_000, 501.0),
        ([(0, 1000, 0), *((500 + done, 1000, 500_000 + 1000 * done) for done in range(100))], 599_000, 401.0),
    ],
)
def test_the_time_left_follows_from_the_last_minute(
    modules: ConsoleModules, progresses: list[tuple[int, int, int]], at: int, left: float | None
) -> None:
    assert modules.run("left", {"progresses": progresses, "at": at}) == pytest.approx(left)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0, "about 1 s left"),
        (12, "about 15 s left"),
        (54.9, "about 55 s left"),
        (61, "about 2 min left"),
        (3299, "about 55 min left"),
        (3600, "about 1 h left"),
        (200_000, "about 2 d left"),
    ],
)
def test_the_time_left_is_a_rough_word(modules: ConsoleModules, seconds: float | None, text: str) -> None:
    assert modules.run("call", ["render/eta.js", "leftText", seconds]) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0.0 s"), (3249, "3.2 s"), (9949, "9.9 s"), (9951, "10 s"), (59_600, "1 min 0 s"), (119_700, "2 min 0 s")],
)
def test_a_duration_is_exact_where_it_is_short(modules: ConsoleModules, ms: float, text: str) -> None:
    assert modules.run("call", ["render/eta.js", "durationText", ms]) == text


@pytest.mark.parametrize(
    ("data", "line", "level"),
    [
        ("plain", "plain", ""),
        ({"message": "m", "level": "WARN"}, "m", "warning"),
        ({"line": "l", "level": "critical"}, "l", "error"),
        ({"level": "constructor", "text": "t"}, "t", ""),
        ({"other": 1}, '{"other":1}', ""),
        (7, "7", ""),
        (None, "null", ""),
    ],
)
def test_a_log_line_is_read_from_the_usual_fields(modules: ConsoleModules, data: Any, line: str, level: str) -> None:
    assert modules.run("call", ["render/reports.js", "lineOf", data]) == line
    assert modules.run("call", ["render/reports.js", "levelOf", data]) == level


@pytest.mark.parametrize(("data", "text"), [({"events": 1500}, "1,500 events"), ({"events": "<b>"}, "Some events")])
def test_dropped_events_are_counted_in_a_sentence(modules: ConsoleModules, data: Any, text: str) -> None:
    assert modules.run("call", ["render/reports.js", "droppedText", data]).startswith(f"{text} were dropped")
