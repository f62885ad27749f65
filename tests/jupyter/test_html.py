"""What a notebook shows of a stream: its parts in their order, escaped, and how it stands."""

from __future__ import annotations

from typing import Any

import msgspec

from broadcaster.core.fold import Fold
from broadcaster.jupyter.html import MOST_DATA_PARTS, Drawing, drawn_html, drawn_text


def drawing(*events: dict[str, Any], note: str = "", is_whole: bool = True) -> Drawing:
    fold = Fold()
    for event in events:
        fold.apply(msgspec.json.encode(event))
    return Drawing(fold.state, note=note, is_whole=is_whole)


def text(*pieces: str) -> list[dict[str, Any]]:
    return [{"type": "text-start", "id": "0"}, *({"type": "text-delta", "id": "0", "delta": each} for each in pieces)]


def progress(done: object, total: object, **fields: Any) -> dict[str, Any]:
    message = fields.pop("message", None)
    data = {"done": done, "total": total} | ({} if message is None else {"message": message})
    return {"type": "data-progress", "data": data, **fields}


def test_a_text_of_the_stream_is_never_markup() -> None:
    evil = "<script>alert(1)</script>"
    html = drawn_html(
        drawing(
            *text(evil),
            {"type": "reasoning-start", "id": "r"},
            {"type": "reasoning-delta", "id": "r", "delta": evil},
            {"type": "tool-input-available", "toolCallId": "c", "toolName": evil, "input": {"a": evil}},
            {"type": "tool-output-error", "toolCallId": "c", "errorText": evil},
            progress(1, 2, id=evil, message=evil),
            {"type": "data-note", "data": evil},
            {"type": "source-url", "sourceId": "s", "url": "javascript:alert(1)", "title": evil},
            {"type": "source-url", "sourceId": "t", "url": 'https://a.example/"><script>', "title": evil},
            {"type": "error", "code": "publisher_failed", "errorText": evil},
        )
    )
    assert "<script" not in html
    assert "javascript:" not in html
    assert html.count("&lt;script&gt;alert(1)") >= 9


def test_dollars_in_a_text_are_no_formula() -> None:
    assert "tex2jax_ignore" in drawn_html(drawing(*text("$5 or $6"))).partition("$5")[0]


def test_the_newest_progress_of_each_job_is_a_bar() -> None:
    shown = drawing(
        progress(1, 4, id="copy", message="a.txt"), progress(3, 4, id="copy", message="b.txt"), progress(5, 4)
    )
    html = drawn_html(shown)
    assert html.count("<progress") == 2
    assert '<progress max="4" value="3" aria-label="copy b.txt"></progress> 75% copy b.txt' in html
    assert drawn_text(shown) == "copy: 75% b.txt\nprogress: 100%\nrunning"


def test_a_progress_without_amounts_is_shown_as_it_is() -> None:
    html = drawn_html(drawing(progress("3", 4), progress(1, 0), progress(True, 2), progress(1.7e308, 1)))
    assert "<progress" not in html
    assert html.count("<summary>data-progress</summary>") == 4


def test_a_progress_far_beyond_its_total_is_a_full_bar() -> None:
    assert drawn_text(drawing(progress(1e300, 5e-324))) == "progress: 100%\nrunning"


def test_of_many_data_parts_the_last_are_shown_and_the_others_counted() -> None:
    parts = [{"type": "data-row", "data": f"row {at}"} for at in range(MOST_DATA_PARTS + 5)]
    html = drawn_html(drawing(*parts))
    assert html.count("<details") == MOST_DATA_PARTS
    assert "5 earlier data parts" in html
    assert "row 4<" not in html
    assert "row 24<" in html


def test_the_status_names_how_the_stream_stands_and_what_is_missing() -> None:
    assert drawn_text(drawing()) == "waiting"
    failed = drawing(*text("half"), {"type": "error", "code": "writer_lost", "errorText": "the writer is lost"})
    assert drawn_text(failed) == "half\nfailed · writer_lost: the writer is lost"
    stopped = drawing({"type": "abort", "reason": "stopped"}, is_whole=False)
    assert drawn_text(stopped) == "stopped · stopped · some events are missing: they have expired"
    second = drawing({"type": "attempt", "attempt": 2}, *text("b"), note="reconnecting in 2 s")
    assert drawn_text(second) == "b\nrunning · attempt 2 · reconnecting in 2 s"
