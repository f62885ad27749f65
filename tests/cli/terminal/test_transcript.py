"""What a person sees of each event, and where: the answer on stdout, the rest on stderr."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest

from broadcaster.cli.terminal.exit_codes import ExitCode
from broadcaster.cli.terminal.screen import Screen, harmless
from broadcaster.cli.terminal.transcript import MAX_DISPLAY_CHARS, JsonLines, TranscriptPrinter
from broadcaster.client import EntryReceived, GapReceived, Notice, Reconnecting
from broadcaster.core import events as ev
from broadcaster.core.cursor import START, Cursor

TRIMMED = GapReceived("trimmed", Cursor(7, 4), 1, 4)
EXPIRED = GapReceived("expired", Cursor(7, 4), 1, 4)


def received(event: Any) -> EntryReceived:
    return EntryReceived(Cursor(7, 1), event, ev.encode_event(event))


@pytest.fixture
def printed(capsys):
    """Show events to a new transcript; stdout and stderr of it."""

    def show(*events: Any) -> tuple[str, str]:
        screen = Screen()
        transcript = TranscriptPrinter(screen)
        for event in events:
            is_read = isinstance(event, EntryReceived | GapReceived | Notice | Reconnecting)
            transcript.show(event if is_read else received(event))
        screen.rest()
        return tuple(capsys.readouterr())

    return show


class Terminal(io.StringIO):
    """A terminal without colours, which shows stdout and stderr in one place."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def seen(monkeypatch):
    """Show events to a new transcript on a terminal; all that the terminal shows."""
    monkeypatch.setenv("TERM", "dumb")

    def see(*events: Any) -> str:
        terminal = Terminal()
        with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
            transcript = TranscriptPrinter(Screen())
            for event in events:
                transcript.show(received(event))
        return terminal.getvalue()

    return see


def text(delta: str) -> ev.TextDelta:
    return ev.TextDelta(id="0", delta=delta)


def thought(delta: str) -> ev.ReasoningDelta:
    return ev.ReasoningDelta(id="0", delta=delta)


def test_only_the_answer_is_on_stdout(printed):
    out, err = printed(
        Notice("hub.hello", {"id": "s", "status": "queued"}), ev.Start(), thought("let me\nsee"), text("A"), text("B"),
        ev.Usage(input_tokens=1), ev.FinishStep(), ev.Finish(finish_reason="stop"),
    )  # fmt: skip
    assert out == "AB\n"
    assert err == "queued: waiting for a worker\nlet me\nsee\n"


def test_an_answer_that_ends_its_line_gets_no_second_end(printed):
    assert printed(text("A\n"), ev.Finish())[0] == "A\n"
    assert printed(ev.Finish())[0] == ""


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ev.ToolInputAvailable(tool_call_id="c", tool_name="city", input={"n": "Bonn"}), 'tool city: {"n":"Bonn"}'),
        (ev.ToolOutputAvailable(tool_call_id="c", output="sun\nand wind"), "tool answered: sun and wind"),
        (ev.ToolOutputError(tool_call_id="c", error_text="no network"), "tool failed: no network"),
        (ev.SourceUrl(source_id="s", url="https://example.org", title="t"), "source: t https://example.org"),
        (ev.SourceDocument(source_id="s", media_type="a/b", title="t"), "source: t"),
        (ev.File(url="data:,x", media_type="text/plain"), "file: text/plain data:,x"),
        (ev.DataEvent(type="data-progress", data={"done": 1}), 'progress: {"done":1}'),
        (ev.Attempt(attempt=2), "attempt 2 (worker_lost): what was printed before this line is void"),
        (ev.Finish(finish_reason="length"), "ended: length"),
        (ev.Error(code="worker_lost", error_text="gone"), "error: the stream failed (worker_lost): gone"),
        (ev.Abort(reason="stopped"), "aborted: stopped"),
        (ev.Abort(), "aborted: no reason given"),
        (TRIMMED, "gap (trimmed): entries 1 to 4 are gone"),
        (GapReceived("rewound", Cursor(7, 4), 5, 6), "gap (rewound): what was printed after entry 7-4 is void"),
        (Notice("hub.stalled", {"reason": "worker_lost"}), "waiting: worker_lost"),
    ],
)  # fmt: skip
def test_everything_else_is_one_line_on_stderr(printed, event, line):
    assert printed(event) == ("", f"{line}\n")


@pytest.mark.parametrize(
    "event",
    [
        ev.Start(), ev.StartStep(), ev.TextStart(id="0"), ev.TextEnd(id="0"),
        ev.ToolInputStart(tool_call_id="c", tool_name="x"), ev.ToolInputDelta(tool_call_id="c", input_text_delta="x"),
        ev.Usage(), ev.FinishStep(), ev.Finish(finish_reason="stop"),
        Notice("hub.live", {}), Notice("hub.stalled", {"reason": None}), Notice("hub.bye", {"reason": "drain"}),
        Notice("hub.newer", 1),
    ],
)  # fmt: skip
def test_an_event_without_a_meaning_for_people_is_not_printed(printed, event):
    assert printed(event) == ("", "")


def test_a_long_argument_is_cut(printed):
    _, err = printed(ev.ToolOutputAvailable(tool_call_id="c", output="x" * 5000))
    assert len(err) < MAX_DISPLAY_CHARS + 30


def test_reconnecting_is_printed_once_an_outage(printed):
    reconnecting = Reconnecting("cut", 1.0)
    hello = Notice("hub.hello", {"status": "running"})
    assert printed(reconnecting, reconnecting, hello, reconnecting)[1].count("reconnecting…") == 1
    assert printed(reconnecting, text("A"), reconnecting)[1].count("reconnecting…") == 2
    assert printed(reconnecting, Notice("hub.live", {}), reconnecting)[1].count("reconnecting…") == 2


def test_on_a_terminal_the_answer_and_the_notes_have_lines_of_their_own(seen):
    printed = seen(thought("hm"), text("A"), ev.Attempt(attempt=2), text("B\n"), thought("hm"), ev.Abort())
    lines = printed.split("\n")
    assert lines[:2] == ["hm", "A"]
    assert lines[2].startswith("attempt 2")
    assert lines[3:] == ["B", "hm", "aborted: no reason given", ""]


def test_a_terminal_gets_no_control_character_of_the_answer(seen):
    forged = "a\x1b[2Jb\r\x07\x9bc\td\u2028"
    printed = seen(text(forged), thought(forged), ev.ToolOutputError(tool_call_id="c", error_text=forged))
    assert not set(printed) & {"\x1b", "\r", "\x07", "\x9b"}
    assert "c\td\u2028" in printed


@pytest.mark.parametrize("piece", [text, thought])
@pytest.mark.parametrize("pieces", [["a\r\nb\r\n"], ["a\r", "\nb\r", "\n"], ["a", "\r", "\n", "b", "\r\n"]])
def test_a_line_break_of_two_characters_is_one_on_a_terminal_however_it_is_cut(seen, piece, pieces):
    assert seen(*map(piece, pieces)) == "a\nb\n"


@pytest.mark.parametrize("piece", [text, thought])
def test_a_carriage_return_without_a_line_feed_is_replaced(seen, piece):
    assert seen(piece("a\rb\r"), piece("c\n")) == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\n"


def test_a_carriage_return_before_a_note_or_the_end_leads_into_no_later_text(seen):
    printed = seen(thought("h\r"), text("A\r"), ev.Attempt(attempt=2), text("B\r"), ev.Finish(), text("C"))
    assert [line for line in printed.split("\n") if not line.startswith("attempt")] == ["h", "A", "B", "C"]


def test_a_pipe_gets_the_answer_as_it_is(printed):
    assert printed(text("a\r"), text("\nb\r"), ev.Finish())[0] == "a\r\nb\r\n"
    assert printed(text("a\x1b[1mb"), ev.Finish())[0] == "a\x1b[1mb\n"


def test_text_without_control_characters_is_left_alone():
    assert harmless("Hé\tllo\n😀\u2028") == "Hé\tllo\n😀\u2028"


@pytest.mark.parametrize("kind", [TranscriptPrinter, JsonLines])
@pytest.mark.parametrize(
    ("terminal_event", "code"),
    [(ev.Finish(), ExitCode.OK), (ev.Error(error_text="x"), ExitCode.FAILED), (ev.Abort(), ExitCode.FAILED)],
)
def test_the_exit_code_distinguishes_complete_answers_from_incomplete_ones(kind, terminal_event, code):
    reporter = kind(Screen())
    reporter.show(received(terminal_event))
    assert reporter.exit_code == code


@pytest.mark.parametrize("kind", [TranscriptPrinter, JsonLines])
@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ([EXPIRED, ev.Finish()], ExitCode.INCOMPLETE),
        ([TRIMMED, text("B"), ev.Finish()], ExitCode.INCOMPLETE),
        ([TRIMMED, ev.Error(error_text="x")], ExitCode.FAILED),
        ([TRIMMED, ev.Attempt(attempt=2), text("AB"), ev.Finish()], ExitCode.OK),
        ([TRIMMED, GapReceived("reset", START, 1, 4), text("AB"), ev.Finish()], ExitCode.OK),
        ([TRIMMED, GapReceived("rewound", Cursor(7, 5), 6, 7), ev.Finish()], ExitCode.INCOMPLETE),
    ],
)
def test_an_answer_that_is_printed_without_a_part_has_an_exit_code_of_its_own(kind, shown, code):
    reporter = kind(Screen())
    for event in shown:
        reporter.show(event if isinstance(event, GapReceived) else received(event))
    assert reporter.exit_code == code
