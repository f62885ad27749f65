"""The rules refuse what no user of a framework should be shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.compat.matrix import Cell
from tests.compat.node_clients import Json
from tests.frameworks.judging import judge_left, judge_lost, judge_plain, judge_stream, judge_structured, judge_tools
from tests.frameworks.model import ANSWER_TEXT, CITY, PIECES, RESULT, TEXT
from tests.frameworks.rows import CHAT, STOP, Row
from tests.frameworks.table import ROWS, create_table

ROW = Row("a row", "python", CHAT, finish="stop")
USAGE = {"input_tokens": 3, "output_tokens": len(PIECES)}
ERROR = {"name": "APIError", "status": None, "message": "broken"}
WHOLE: Json = {"text": TEXT, "deltas": [*PIECES], "finish": "stop", "usage": USAGE, "object": CITY, "error": None}
TOOL: Json = {**WHOLE, "text": ANSWER_TEXT, "tool_results": [RESULT]}

Judge = Callable[[Json], None]
PLAIN: Judge = partial(judge_plain, ROW)
STREAM: Judge = partial(judge_stream, ROW)
TOOLS: Judge = partial(judge_tools, ROW)
STRUCTURED: Judge = partial(judge_structured, ROW)
LEFT: Judge = partial(judge_left, PIECES[0])


@pytest.mark.parametrize(
    ("judge", "answer"),
    [
        (PLAIN, {**WHOLE, "text": TEXT[:-1]}),
        (PLAIN, {**WHOLE, "finish": "length"}),
        (PLAIN, {**WHOLE, "usage": {"input_tokens": 3, "output_tokens": 0}}),
        (PLAIN, {**WHOLE, "error": ERROR}),
        (STREAM, {**WHOLE, "deltas": [TEXT]}),
        (STREAM, {**WHOLE, "deltas": [*PIECES, *PIECES]}),
        (STREAM, {**WHOLE, "text": PIECES[0]}),
        (STREAM, {**WHOLE, "finish": None}),
        (TOOLS, {**TOOL, "tool_results": []}),
        (TOOLS, {**TOOL, "tool_results": [RESULT, RESULT]}),
        (TOOLS, {**TOOL, "text": ""}),
        (STRUCTURED, {**WHOLE, "object": None}),
        (LEFT, {**WHOLE, "deltas": [PIECES[0]]}),
        (LEFT, {**WHOLE, "deltas": [], "text": ""}),
        (judge_lost, {**WHOLE, "deltas": [PIECES[0], *PIECES], "text": PIECES[0] + TEXT}),
        (judge_lost, {**WHOLE, "deltas": [PIECES[0], *PIECES]}),
        (judge_lost, {**WHOLE, "deltas": [PIECES[0]], "text": PIECES[0]}),
    ],
)
def test_a_bad_answer_is_refused(judge: Judge, answer: Json) -> None:
    with pytest.raises(AssertionError):
        judge(answer)


@pytest.mark.parametrize(
    ("judge", "answer"),
    [
        (PLAIN, WHOLE),
        (STREAM, WHOLE),
        (TOOLS, TOOL),
        (STRUCTURED, WHOLE),
        (LEFT, {**WHOLE, "deltas": [PIECES[0]], "text": PIECES[0], "finish": None}),
        (LEFT, {**WHOLE, "deltas": [PIECES[0]], "text": "", "error": ERROR}),
        (judge_lost, WHOLE),
        (judge_lost, {**WHOLE, "deltas": [PIECES[0]], "text": PIECES[0], "error": ERROR}),
    ],
)
def test_a_good_answer_is_accepted(judge: Judge, answer: Json) -> None:
    judge(answer)


def test_a_cell_that_no_test_runs_shows_its_reason_and_one_that_was_run_its_outcome() -> None:
    table = create_table()
    row = next(row for row in ROWS if STOP in row.left_out)
    assert table.shown(row.label, STOP) == row.left_out[STOP] != "–"
    assert f"| {row.left_out[STOP]} |" in table.markdown()
    table.cells[row.label, STOP] = Cell(["passed"])
    assert table.shown(row.label, STOP) == "ok"
