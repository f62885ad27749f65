"""What the page makes of a watch's updates: the story of a fault of the demo, and the course of one generation."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.console_modules import CONSOLE

MODULES = ("demo/story.js", "timeline/course.js", "timeline/rows.js", "server_clock.js")
DRIVER = """
import { Story } from "./story.mjs";
import { courseOf } from "./course.mjs";
import { Rows } from "./rows.mjs";
import { Offset } from "./server_clock.mjs";
const jobs = {
  story([fault, facts, updates]) {
    const story = new Story(fault, facts, { now: 0, last: 4 });
    for (const [now, update] of updates) story.note(update, now);
    return { lines: story.lines, isSurvived: story.isSurvived };
  },
  course: courseOf,
  offset(notes) {
    const offset = new Offset();
    return notes.map(([from, to, sentAt, receivedAt]) => {
      offset.note({ from, to, sentAt, receivedAt });
      return offset.seconds;
    });
  },
  rows(updates) {
    const rows = new Rows();
    for (const [now, update] of updates) rows.note(update, now);
    return rows.rows;
  },
};
const [job, given] = JSON.parse(process.argv[2]);
console.log(JSON.stringify(jobs[job](given)));
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in MODULES:
        shutil.copy(CONSOLE / name, (tmp_path / Path(name).name).with_suffix(".mjs"))
    (tmp_path / "driver.mjs").write_text(DRIVER)
    return tmp_path


def run(folder: Path, job: str, given: Any) -> Any:
    node = shutil.which("node")
    if node is None:
        pytest.fail("node is not installed, and the console's modules are checked with it (Debian: apt install nodejs)")
    command = [node, str(folder / "driver.mjs"), json.dumps([job, given])]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout)


def entry(seq: int, kind: str, *, epoch: int = 7, **fields: Any) -> dict[str, Any]:
    return {"kind": "entry", "cursor": f"{epoch}-{seq}", "event": {"type": kind, **fields}}


def connection(name: str, reason: str | None = None) -> dict[str, Any]:
    return {"kind": "connection", "name": name, "reason": reason}


def test_the_story_of_a_killed_worker_is_made_of_what_the_page_saw(folder: Path) -> None:
    updates = [
        (200, entry(5, "text-delta", delta="a")),  # written before the kill
        (2100, connection("stalled", "worker_lost")),
        (5600, entry(6, "attempt", attempt=2, epoch=8)),
        (5700, entry(7, "start", epoch=8)),
        (6200, entry(8, "text-delta", delta="a", epoch=8)),
        (9000, entry(9, "finish", epoch=8)),
    ]
    seen = run(folder, "story", ["kill-worker", {"pid": 4711}, updates])
    assert seen == {
        "lines": [
            "kill -9 of the worker that writes this answer (process 4711).",
            "After 2.1 s the page learned that the worker is lost.",
            "After 5.6 s another worker took over and restarted the answer (attempt 2).",
            "After 6.2 s text arrived again.",
            "The answer finished with event 9: none missing, none twice.",
        ],
        "isSurvived": True,
    }
    # A take-over that was faster than any notice of the loss is a story without it.
    fast = run(folder, "story", ["kill-worker", {"pid": 4711}, updates[2:3]])
    assert fast["lines"][1:] == ["After 5.6 s another worker took over and restarted the answer (attempt 2)."]
    assert not fast["isSurvived"]
    assert run(folder, "story", ["kill-worker", {"pid": 1}, updates[:1]])["lines"][1:] == []


def test_the_stories_of_a_front_end_and_of_redis_claim_no_more_than_the_page_saw(folder: Path) -> None:
    back = [(100, connection("reconnecting")), (2400, connection("catching-up")), (2500, entry(5, "text-delta"))]
    assert run(folder, "story", ["restart-front-end", {}, back]) == {
        "lines": [
            "kill -9 of the front-end that this page is connected to.",
            "After 0.1 s the connection was lost.",
            "After 2.4 s the page was connected again, and continued after event 4.",
        ],
        "isSurvived": True,
    }
    cut = [(1200, connection("stalled", "log_unavailable")), (3300, connection("live")), (3400, entry(5, "text-delta"))]
    assert run(folder, "story", ["cut-redis", {"seconds": 3}, cut])["lines"][1:] == [
        "After 1.2 s the page learned that Redis does not respond.",
        "After 3.4 s events arrived again, 3.4 s after the one before.",
    ]
    torn = [(50, {"kind": "gap", "reason": "trimmed", "from": 5, "to": 6}), (60, entry(7, "error"))]
    assert run(folder, "story", ["cut-redis", {"seconds": 3}, torn])["lines"][1:] == [
        "The answer failed with event 7: with a gap, none twice."
    ]


def test_the_course_of_a_generation_is_drawn_where_its_times_are_known(folder: Path) -> None:
    updates = [
        (101.0, connection("live")),
        (101.0, entry(1, "start", epoch=100_500)),
        (101.2, entry(2, "text-delta", epoch=100_500)),
        (101.3, entry(3, "text-delta", epoch=100_500)),
        (106.0, entry(4, "attempt", attempt=2, epoch=105_900)),
        (107.0, entry(5, "tool-input-available", toolCallId="a", toolName="search", epoch=105_900)),
        (108.0, entry(6, "tool-output-available", toolCallId="a", epoch=105_900)),
        (109.0, entry(7, "text-delta", epoch=105_900)),
        (110.0, entry(8, "finish", epoch=105_900)),
    ]
    rows = run(folder, "rows", updates)
    course = run(folder, "course", {"createdAt": 100.0, "endedAt": 110.0, "now": 200.0, "rows": rows})
    assert course["total"] == 10
    assert [(each["kind"], round(each["from"], 1), round(each["to"], 1)) for each in course["spans"]] == [
        ("queued", 0, 0.5),
        ("lost", 0.5, 5.9),
        ("attempt", 5.9, 10),
    ]
    assert course["lines"] == [
        "Queued: 0.5 s",
        "Attempt 1: 5.4 s, until another worker took over",
        "First token after 1.2 s",
        "Attempt 2: 4.1 s",
        "Tool search called after 7.0 s",
        "Tool search answered after 8.0 s",
        "First token after 9.0 s",
        "Finished after 10.0 s",
    ]
    late = run(folder, "rows", [(200.0, connection("catching-up")), *((200.0, update) for _, update in updates[1:])])
    assert [row["at"] for row in late if row["kind"] != "attempt"] == [None] * 5
    seen_late = run(folder, "course", {"createdAt": 100.0, "endedAt": 110.0, "now": 200.0, "rows": late})
    assert seen_late["marks"] == []
    assert "First token" in seen_late["lines"]


def test_a_generation_that_waits_has_a_course_too(folder: Path) -> None:
    course = run(folder, "course", {"createdAt": 100.0, "endedAt": None, "now": 103.0, "rows": []})
    assert course["lines"] == ["Waiting for a worker: 3.0 s"]


@pytest.mark.parametrize("skew", [2, -2.5, 600, -600])
def test_the_servers_clock_is_learned_from_the_dates_and_the_stamps_of_its_responses(folder: Path, skew: float) -> None:
    def response(at: float, *, is_stamp: bool = False) -> list[float]:
        """What a response tells whose server names its time at this moment of its own clock."""
        date = at if is_stamp else math.floor(at)
        return [date, date + (0.001 if is_stamp else 2), at - skew - 0.01, at - skew + 0.02]

    dates = [response(at) for at in (1000.4, 1001.9, 1003.0)]
    offsets = run(folder, "offset", [*dates, response(1004.3, is_stamp=True)])
    assert offsets[0] == pytest.approx(skew, abs=1.1)
    assert offsets[2] == pytest.approx(skew, abs=0.6)
    assert offsets[3] == pytest.approx(skew, abs=0.03)


def test_an_offset_that_may_be_none_is_none_and_a_clock_that_is_set_is_learned_anew(folder: Path) -> None:
    same = [1000, 1002, 1000.9, 1001.0]
    ahead = [1002, 1004, 1602.5, 1602.6]
    assert run(folder, "offset", [same, ahead, [1004, 1006, 1004.5, 1004.6]]) == [
        0,
        pytest.approx(-599.5, abs=1.1),
        0,
    ]
