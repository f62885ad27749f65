"""How far a job is: a bar where there is a terminal, a line where there is news, never a value that is none."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from typing import Any

import pytest

from broadcaster.cli.terminal.screen import Screen
from broadcaster.cli.terminal.transcript import TranscriptPrinter
from broadcaster.client import EntryReceived
from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.requests.progress import LARGEST_AMOUNT, JobProgress, progress_of
from tests.cli.conftest import ID, PROGRAM, as_log
from tests.cli.terminal.test_waiting import Terminal
from tests.support.servers.sse_server import Exchange, frame


def progress(done: Any, total: Any = 4, *, id: str | None = None, **more: Any) -> ev.DataEvent:
    return ev.DataEvent(type="data-progress", id=id, data={"done": done, "total": total, **more})


@pytest.mark.parametrize(
    ("event", "step", "line"),
    [
        (progress(1), JobProgress("", 1, 4, ""), "progress: 25% (1/4)"),
        (progress(1.5, 3, id="a", message="m"), JobProgress("a", 1.5, 3, "m"), "progress a: 50% (1.5/3) m"),
        (progress(399, 400), JobProgress("", 399, 400, ""), "progress: 99% (399/400)"),
        (progress(9), JobProgress("", 9, 4, ""), "progress: 100% (9/4)"),
        (progress(1, message=5), JobProgress("", 1, 4, ""), "progress: 25% (1/4)"),
        (progress(1e300, 5e-324), JobProgress("", 1e300, 5e-324, ""), "progress: 100% (1e+300/4.94066e-324)"),
        (progress(3.0 - 2**-51, 3), JobProgress("", 3.0 - 2**-51, 3, ""), "progress: 99% (3/3)"),
    ],
)
def test_progress_is_printed_in_percent_and_numbers(event, step, line):
    assert progress_of(event) == step
    assert step.line == line
    assert step.is_done is (step.done >= step.total)


@pytest.mark.parametrize(
    "event",
    [
        progress(1, 0), progress(-1), progress(True), progress("1"), progress(1, None), progress(1, 1e999),
        progress(2 * LARGEST_AMOUNT), progress(10**400), progress(1, 10**400),
        ev.DataEvent(type="data-progress", data=5), ev.DataEvent(type="data-other", data={"done": 1, "total": 2}),
    ],
)  # fmt: skip
def test_an_event_that_is_not_progress_is_printed_as_any_other(event):
    assert progress_of(event) is None


def test_without_a_terminal_there_is_a_line_whenever_there_is_news(capsys):
    screen = Screen()
    transcript = TranscriptPrinter(screen)
    steps: list[Any] = [
        progress(1),
        progress(1),
        progress(1.01),
        progress(1.01, message="on"),
        progress(1, id="b"),
        progress(4),
    ]
    for seq, event in enumerate([*steps, ev.Finish()], 1):
        transcript.show(EntryReceived(Cursor(7, seq), event, ev.encode_event(event)))
    screen.rest()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split("\n") == [
        "progress: 25% (1/4)", "progress: 25% (1.01/4) on", "progress b: 25% (1/4)", "progress: 100% (4/4)", "",
    ]  # fmt: skip


async def test_a_terminal_shows_bars_that_end_as_lines_and_no_control_character_of_a_job(server):
    forged = "copy\x1b[2J\ring"
    steps = [progress(1, id="a", message=forged), progress(2, id="b"), ev.TextDelta(id="0", delta="words\n")]
    steps += [progress(3, id="a", message=forged), progress(4, id="a", message=forged), ev.Finish()]
    entries, go_on = as_log(*steps), [asyncio.Event() for _ in steps]

    async def stepwise(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send(server.snapshot())
        for entry, gate in zip(entries, go_on, strict=True):
            await gate.wait()
            await exchange.send(frame(entry))
        await exchange.end()

    server.plans.append(stepwise)
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, "tail", ID),
        stdout=slave,
        stderr=slave,
        env={**os.environ, "BROADCASTER_URL": server.url, "PYTHONPATH": os.getcwd(), "TERM": "xterm"},
    )
    os.close(slave)
    terminal = Terminal(master)
    try:
        printed = (
            "25% (1/4)",
            "50% (2/4)",
            "words",
            "75% (3/4)",
            "progress a: 100% (4/4) copy",
            "progress b: 50% (2/4)",
        )
        for gate, text in zip(go_on, printed, strict=True):
            gate.set()
            await terminal.shows(text)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)
    assert "\x1b[2J" not in terminal.printed
    assert "━" in terminal.printed
