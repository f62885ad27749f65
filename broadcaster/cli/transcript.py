"""The transcript: what is read of a stream, put on the screen as it comes.

Text goes to stdout, reasoning dimmed to stderr, everything else as one line to stderr. What has been printed cannot
be taken back: when an attempt begins again or the log was rewound, a line says what is void.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from broadcaster.cli.failures import ExitCode
from broadcaster.cli.progress import step_of
from broadcaster.cli.screen import Screen
from broadcaster.client import EntryReceived, GapReceived, Notice, Reconnecting, StreamEvent
from broadcaster.core import events as ev

MAX_SHOWN_CHARS: Final = 120
_QUEUED: Final = "queued: waiting for a worker"
_FIRST_TOKEN: Final = "waiting for the first event"
_TAKEN_BACK: Final = frozenset({"rewound", "reset"})


class Reporter(Protocol):
    """Shows what is read of a stream and knows how it ended."""

    @property
    def exit_code(self) -> ExitCode:
        """How the command ends if the stream is over now."""

    def show(self, event: StreamEvent) -> None:
        """Take the next thing read."""

    def end(self) -> None:
        """Nothing more comes: leave the screen tidy."""


class _Outage:
    """Says "reconnecting…" once per outage, however many tries it takes."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._is_told = False

    def watch(self, event: StreamEvent) -> None:
        if isinstance(event, Reconnecting):
            if not self._is_told:
                self._screen.note("reconnecting…")
            self._is_told = True
        elif not isinstance(event, Notice) or event.name == "hub.live":
            self._is_told = False


class Transcript:
    """For people."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._outage = _Outage(screen)
        self.exit_code = ExitCode.OK

    def show(self, event: StreamEvent) -> None:
        """Put it on the screen."""
        self._outage.watch(event)
        match event:
            case EntryReceived():
                self._show_event(event.event)
            case GapReceived():
                self._screen.note(_told_gap(event))
            case Notice(name="hub.hello", data={"status": "queued"}):
                if not self._screen.wait(_QUEUED):
                    self._screen.note(_QUEUED)
            case Notice(name="hub.hello", data={"status": "running"}):
                self._screen.wait(_FIRST_TOKEN)
            case Notice(name="hub.stalled", data={"reason": str(reason)}):
                self._screen.note(f"waiting: {reason}")
            case _:
                pass

    def end(self) -> None:
        """End the line that is open."""
        self._screen.rest()

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
            case ev.DataEvent() if (step := step_of(event)) is not None:
                self._screen.progress(step)
            case _:
                if line := _told_event(event):
                    self._screen.note(line)

    def _show_end(self, event: ev.TerminalEvent) -> None:
        self._screen.rest()
        if isinstance(event, ev.Finish):
            if event.finish_reason not in (None, "stop"):
                self._screen.note(f"ended: {event.finish_reason}")
            return
        self.exit_code = ExitCode.FAILED
        if isinstance(event, ev.Error):
            self._screen.fail(f"the stream failed ({event.code}): {event.error_text}")
        else:
            self._screen.note(f"aborted: {event.reason or 'no reason given'}")


class JsonLines:
    """For programs: one JSON object a line, with ``kind`` entry, gap or notice; an entry's event is as stored."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._outage = _Outage(screen)
        self.exit_code = ExitCode.OK

    def show(self, event: StreamEvent) -> None:
        """Print its line."""
        self._outage.watch(event)
        match event:
            case EntryReceived():
                self._print(kind="entry", id=str(event.cursor), event=msgspec.Raw(event.raw))
                if isinstance(event.event, ev.Error | ev.Abort):
                    self.exit_code = ExitCode.FAILED
            case GapReceived(reason=reason, cursor=cursor, first_seq=first_seq, last_seq=last_seq):
                self._print(kind="gap", id=str(cursor), reason=reason, first_seq=first_seq, last_seq=last_seq)
            case Notice(name=name, data=data):
                self._print(kind="notice", name=name, data=data)
            case _:
                pass

    def end(self) -> None:
        """Every line has its end already."""

    def _print(self, **fields: Any) -> None:
        self._screen.line(msgspec.json.encode(fields).decode())


def _told_gap(gap: GapReceived) -> str:
    if gap.reason in _TAKEN_BACK:
        return f"gap ({gap.reason}): what was printed after entry {gap.cursor} is void"
    return f"gap ({gap.reason}): entries {gap.first_seq} to {gap.last_seq} are gone"


def _told_event(event: ev.Event) -> str | None:
    """One line for an event that is neither text nor an end; None for one that tells a person nothing."""
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


def _short(shown: Any) -> str:
    text = shown if isinstance(shown, str) else msgspec.json.encode(shown).decode()
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 1]}…"
