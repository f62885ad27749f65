"""The rules by which every row is judged, whatever its framework."""

from __future__ import annotations

from tests.compat.node_clients import Json
from tests.frameworks.model import ANSWER_TEXT, CITY, PIECES, RESULT, TEXT
from tests.frameworks.rows import PLAIN, STREAM, Row


def judge_plain(row: Row, answer: Json) -> None:
    """The whole text, and the finish reason and counts that the framework shows."""
    assert answer["error"] is None, answer["error"]
    assert answer["text"] == TEXT
    _judge_end(row, answer, case=PLAIN)


def judge_stream(row: Row, answer: Json) -> None:
    """Several deltas, which make the text."""
    assert answer["error"] is None, answer["error"]
    assert "".join(answer["deltas"]) == TEXT
    assert len(answer["deltas"]) > 1
    assert answer["text"] == TEXT
    _judge_end(row, answer, case=STREAM)


def _judge_end(row: Row, answer: Json, *, case: str) -> None:
    if row.finish is not None:
        assert answer["finish"] == row.finish
    if case in row.usage:
        assert answer["usage"]["output_tokens"] >= len(PIECES), answer["usage"]
        assert answer["usage"]["input_tokens"] > 0, answer["usage"]


def judge_tools(row: Row, answer: Json) -> None:
    """The model called the tool, the framework ran it, and the model answered its result."""
    assert answer["error"] is None, answer["error"]
    assert answer["tool_results"] == [RESULT], row.label
    assert answer["text"] == ANSWER_TEXT


def judge_structured(row: Row, answer: Json) -> None:
    """The object, parsed."""
    assert answer["error"] is None, answer["error"]
    assert answer["object"] == CITY, row.label


def judge_left(part: str, answer: Json) -> None:
    """What a framework shows of an answer that was stopped from outside: the text so far, and an end."""
    assert "".join(answer["deltas"]) == part
    assert answer["error"] is not None or answer["text"] == part


def judge_lost(answer: Json) -> None:
    """What a framework shows after its worker was killed: an error, or the whole answer once."""
    if answer["error"] is None:
        assert "".join(answer["deltas"]) == TEXT
        assert answer["text"] == TEXT
