"""The transcript: prints the events of a stream as they come.

Text goes to stdout, reasoning dimmed to stderr, everything else as one line to stderr. Printed text cannot be removed:
when an attempt restarts or the log was rewound, a line names the text that is void.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import msgspec

from broadcaster.cli.terminal.exit_codes import ExitCode
from broadcaster.cli.terminal.formats import as_json
from broadcaster.cli.terminal.screen import Screen
from broadcaster.client import EntryReceived, GapReceived, Notice, Reconnecting, StreamEvent
from broadcaster.core import events as ev
from broadcaster.core.cursor import START
from broadcaster.core.requests.progress import progress_of

MAX_DISPLAY_CHARS: Final = 120
_QUEUED: Final = "queued: waiting for a worker"
_FIRST_TOKEN: Final = "waiting for the first event"
_TAKEN_BACK: Final = frozenset({"rewound", "reset"})


class Reporter(ABC):
    """Prints the events of a stream, and has the exit code if the stream is over now."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._is_reconnecting = False
        self._has_failed = False
        self._lacks_part = False

    @property
    def exit_code(self) -> ExitCode:
        if self._has_failed:
            return ExitCode.FAILED
        return ExitCode.INCOMPLETE if self._lacks_part else ExitCode.OK

    def show(self, event: StreamEvent) -> None:
        """Print the next event; "reconnecting…" once per outage, for any number of tries."""
        if isinstance(event, Reconnecting):
            if not self._is_reconnecting:
                self._screen.note("reconnecting…")
            self._is_reconnecting = True
        elif not isinstance(event, Notice) or event.name == "hub.live":
            self._is_reconnecting = False
        self._note_completeness(event)
        self._print(event)

    def _note_completeness(self, event: StreamEvent) -> None:
        match event:
            case GapReceived(reason=reason, cursor=kept):
                self._lacks_part = reason not in _TAKEN_BACK or (self._lacks_part and kept != START)
            case EntryReceived(event=ev.Attempt()):
                self._lacks_part = False  # what is void lacks nothing
            case EntryReceived(event=ev.Error() | ev.Abort()):
                self._has_failed = True
            case _:
                pass

    @abstractmethod
    def _print(self, event: StreamEvent) -> None: ...


class TranscriptPrinter(Reporter):
    """For people."""

    def _print(self, event: StreamEvent) -> None:
        match event:
            case EntryReceived():
                self._show_event(event.event)
            case GapReceived():
                self._screen.note(_describe_gap(event))
            case Notice(name="hub.hello", data={"status": "queued"}):
                if not self._screen.wait(_QUEUED):
                    self._screen.note(_QUEUED)
            case Notice(name="hub.hello", data={"status": "running"}):
                self._screen.wait(_FIRST_TOKEN)
            case Notice(name="hub.stalled", data={"reason": str(reason)}):
                self._screen.note(f"waiting: {reason}")
            case _:
                pass

    def _show_event(self, event: ev.Event) -> None:
        match event:
            case ev.TextDelta(delta=delta):
                self._screen.answer(delta)
            case ev.ReasoningDelta(delta=delta):
                self._screen.thought(delta)
            case ev.Start():
                self._screen.wait(_FIRST_TOKEN)
            case ev.Attempt():
                self._screen.note(
                    f"attempt {event.attempt} ({event.reason}): what was printed before this line is void"
                )
                self._screen.wait(_FIRST_TOKEN)
            case ev.Finish() | ev.Error() | ev.Abort():
                self._show_end(event)
            case ev.DataEvent() if (step := progress_of(event)) is not None:
                self._screen.progress(step)
            case _:
                if line := _describe_event(event):
                    self._screen.note(line)

    def _show_end(self, event: ev.TerminalEvent) -> None:
        self._screen.rest()
        if isinstance(event, ev.Finish):
            if event.finish_reason not in (None, "stop"):
                self._screen.note(f"ended: {event.finish_reason}")
            return
        if isinstance(event, ev.Error):
            self._screen.fail(f"the stream failed ({event.code}): {event.error_text}")
        else:
            self._screen.note(f"aborted: {event.reason or 'no reason given'}")


class JsonLines(Reporter):
    """For programs: one JSON object a line, with ``kind`` entry, gap or notice; an entry's event is as stored."""

    def _print(self, event: StreamEvent) -> None:
        match event:
            case EntryReceived():
                self._line(kind="entry", id=str(event.cursor), event=msgspec.Raw(event.raw))
            case GapReceived(reason=reason, cursor=cursor, first_seq=first_seq, last_seq=last_seq):
                self._line(kind="gap", id=str(cursor), reason=reason, first_seq=first_seq, last_seq=last_seq)
            case Notice(name=name, data=data):
                self._line(kind="notice", name=name, data=data)
            case _:
                pass

    def _line(self, **fields: Any) -> None:
        self._screen.line(as_json(fields))


def _describe_gap(gap: GapReceived) -> str:
    if gap.reason in _TAKEN_BACK:
        return f"gap ({gap.reason}): what was printed after entry {gap.cursor} is void"
    return f"gap ({gap.reason}): entries {gap.first_seq} to {gap.last_seq} are gone"


def _describe_event(event: ev.Event) -> str | None:
    """One line for an event other than text and ends; None for an event without a meaning for people."""
    match event:
        case ev.ToolInputAvailable():
            return f"tool {event.tool_name}: {_short(event.input)}"
        case ev.ToolInputError() | ev.ToolOutputError():
            return f"tool failed: {_short(event.error_text)}"
        case ev.ToolOutputAvailable():
            return f"tool answered: {_short(event.output)}"
        case ev.SourceUrl():
            return f"source: {_short(event.title or '')} {event.url}"
        case ev.SourceDocument():
            return f"source: {_short(event.title)}"
        case ev.File():
            return f"file: {event.media_type} {_short(event.url)}"
        case ev.DataEvent():
            return f"{event.type.removeprefix('data-')}: {_short(event.data)}"
        case _:
            return None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else as_json(value)
    return text if len(text) <= MAX_DISPLAY_CHARS else f"{text[: MAX_DISPLAY_CHARS - 1]}…"
