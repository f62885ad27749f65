"""Encode: entries → the events of one Response, as the OpenAI SDKs read them.

Rules
1. ``response.created`` and ``response.in_progress`` precede all else; they are sent together with the first other
   event. Sequence numbers and ids are a function of the entries (encoding/event_log.py), and of when the generation was
   created (rule 7).
2. The parts of one item stand under its provider's name for it. Without a name, consecutive texts are one message, and
   each thought is an item of reasoning. An item is done when another opens or its step ends, and no event of it is
   outstanding: only then is known what its provider reported last.
3. A new attempt: what is open is closed as ``incomplete``, ``response.in_progress`` with an empty output voids all of
   it, and the new items stand at new output indexes under ids that were never used (the SDK's helper refuses a repeated
   one). The final ``output`` is that of the newest attempt alone. Frameworks join all deltas of a stream, so only a
   dialect with ``restarts`` does this. Without it, a failure (rule 4) ends the stream of every client that has items of
   the attempt before, and a client that joins later receives the new attempt alone.
4. ``finish`` is ``response.completed``, or ``response.incomplete`` where a bound or a filter cut the answer; ``error``
   is ``response.failed``. Without ``restarts`` the event ``error`` stands before it, as OpenAI sends it: some clients
   raise at the one and ignore the other. A stop has no event on this wire: it is ``response.incomplete`` with status
   ``cancelled``, or, with ``cancel="completed"``, ``response.completed`` with that status: the SDK's helper returns a
   final response for no other event.
5. After a gap no number would be true: its viewer receives ``error`` and is ended, as one whose front-end drains. That
   event repeats the last number, so that the client can resume from it. The SDKs raise at it as in rule 4: without
   ``restarts``; with it they yield it.
6. Claude's thinking is ``reasoning_text``, and its signature the item's ``encrypted_content`` under a prefix, by which
   a later request restores it.
7. A newer epoch may stand in place of entries that Redis lost, whose numbers a client may have received. So its numbers
   begin at ``NUMBERS_PER_MS`` for each millisecond since the generation was created, above all that could be sent
   before: a client that resumes by such a number receives ``response.in_progress`` (rule 3) and all that follows. The
   first attempt begins at 0, unless an ``attempt`` precedes it: then Redis may have lost an earlier one. If a clock
   that stepped back leaves no room, the numbers rise by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap
from broadcaster.core.sse import encode_comment
from broadcaster.dialects.openai.namespaces import places
from broadcaster.dialects.openai.tools import custom_names
from broadcaster.dialects.openai.wire import PASSED_TYPE
from broadcaster.dialects.openai_responses.answer import CANCELLED, Facts, ending, parse_echo
from broadcaster.dialects.openai_responses.encoding.builder import Builder
from broadcaster.dialects.openai_responses.encoding.event_log import EventLog, frames_after
from broadcaster.dialects.openai_responses.encoding.item_list import ItemList
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import NEW_ATTEMPT, PlainTranscript, block, loss_of

Cancel = Literal["incomplete", "completed"]

NUMBERS_PER_MS: Final = 256
"""More events than a worker writes in a millisecond, so that an epoch cannot fill the numbers before the next.

Measured: Redis takes about 100 entries of one stream in a millisecond, and a worker writes far fewer.

Small, because a client may hold numbers as 32-bit integers (the .NET SDK): they last for an answer of 2 h 20 min.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesDialect:
    """``echo``: the request's fields that the Response repeats, as JSON. ``cancel``: rule 4. ``restarts``: rule 3."""

    echo: str = ""
    cancel: Cancel = "incomplete"
    restarts: bool = True

    name: ClassVar[str] = "openai-responses"
    heartbeat: ClassVar[bytes] = encode_comment()
    """No id is ever sent, so that no client takes it for an event."""

    def open(self, stream_id: str) -> ResponsesTranscript:
        """An empty transcript of this stream."""
        facts = Facts(stream_id, parse_echo(self.echo))
        tools = facts.echo.get("tools")
        builder = Builder(ItemList(stream_id), namespaced=places(tools), custom_tools=custom_names(tools))
        return ResponsesTranscript(self, facts, EventLog(), builder)


RESPONSES: Final = ResponsesDialect()


@dataclass(slots=True)
class ResponsesTranscript(PlainTranscript):
    """One stream as a Response. See Transcript."""

    dialect: ResponsesDialect
    facts: Facts
    log: EventLog
    builder: Builder
    status: str = "queued"
    error: Json | None = None
    why: Json | None = None
    breaks_off: bool = False
    _epoch: int = 0
    _is_opened: bool = field(default=False)
    _is_announced: bool = field(default=False)

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """See Transcript.encode."""
        for entry in entries:
            if entry.epoch != self._epoch:
                self._begin_epoch(entry)
            self._read(entry.event)
        return self.log.taken()

    def snapshot(self) -> bytes:
        """See Transcript.snapshot."""
        return self.log.snapshot()

    def discard(self, gap: Gap) -> bytes:
        """See Transcript.discard: nothing, ``response.created`` begins the Response anew."""
        return b""

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        """See Transcript.bye."""
        advice = "; the response goes on: ask for it again with starting_after" if reconnect else ""
        error = {"code": reason, "message": f"the stream ended before the response did{advice}"}
        number = self.last_number if last_number is None else last_number
        return block({"type": "error", "sequence_number": number, **self._error_fields(error)}, event="error")

    @property
    def last_number(self) -> int:
        """See Transcript.last_number."""
        return self.log.last_number

    def frames_after(self, frames: bytes, number: int) -> bytes:
        """See Transcript.frames_after."""
        return frames_after(frames, number)

    @property
    def is_over(self) -> bool:
        """Whether the terminal entry was encoded."""
        return self.status not in ("queued", "in_progress")

    def response(self) -> Json:
        """The Response as it stands; before the first entry it is ``queued``."""
        return self.facts.response(self.status, self.builder.as_json(), error=self.error, why=self.why)

    # ---------------------------------------------------------------------------------------------------- one event

    def _begin_epoch(self, entry: Entry) -> None:
        """Rule 7."""
        if self.facts.created_at is None:
            self.facts.created_at = entry.epoch // 1000
        if self._epoch or isinstance(ev.read_event(entry.event), ev.Attempt):
            self.log.rise((entry.epoch - 1000 * self.facts.created_s) * NUMBERS_PER_MS)
        self._epoch = entry.epoch

    def _read(self, raw: bytes) -> None:
        self.breaks_off = False
        if self.is_over:
            return
        event = ev.read_event(raw)
        kind = type(event)
        if kind is ev.UnknownEvent or (isinstance(event, ev.DataEvent) and event.type != PASSED_TYPE):
            return
        if isinstance(event, ev.Attempt):
            self._restart(event)
            return
        if isinstance(event, ev.Start):
            self.facts.take(event.provider_metadata, event.message_metadata)
        self._announce()
        if (handle := _HANDLERS.get(kind)) is not None:
            handle(self, event)
        elif (build := _BUILDERS.get(kind)) is not None:
            build(self.builder, event, self.log)

    def _restart(self, attempt: ev.Attempt) -> None:
        """Rule 3."""
        lost = self.builder.drop(self.log)
        self.breaks_off = bool(lost) and not self.dialect.restarts
        if self.breaks_off:
            error = {"code": NEW_ATTEMPT, "message": loss_of(attempt)}
            self._append_error(error)
            self.log.append("response.failed", {"response": self.facts.response("failed", lost, error=error)})
            self.log.forget()
        self.facts.restart()
        self._is_announced = False

    def _announce(self) -> None:
        if self._is_announced:
            return
        self.status = "in_progress"
        body = {"response": self.response()}
        if not self._is_opened:
            self.log.open("response.created", body)
            self.log.open("response.in_progress", body)
        else:
            self.log.forget()
            self.log.append("response.in_progress", body)
        self._is_opened = self._is_announced = True

    def _on_start_step(self, event: ev.StartStep) -> None:
        self.facts.steps += 1

    def _on_usage(self, event: ev.Usage) -> None:
        self.facts.count(event)

    def _on_finish_step(self, event: ev.FinishStep) -> None:
        is_whole, _ = ending(event.finish_reason, event.provider_metadata, is_refused=self.builder.is_refused)
        self.builder.end_step(self.log, is_cut=not is_whole)

    # ----------------------------------------------------------------------------------------------------- the ends

    def _on_finish(self, event: ev.Finish) -> None:
        self.facts.take(event.provider_metadata, event.message_metadata)
        is_whole, self.why = ending(event.finish_reason, event.provider_metadata, is_refused=self.builder.is_refused)
        self.builder.end(self.log, is_cut=not is_whole)
        self._end("completed" if is_whole else "incomplete")

    def _on_error(self, event: ev.Error) -> None:
        self.builder.end(self.log, is_cut=True)
        self.error = {"code": event.code, "message": event.error_text}
        self._append_error(self.error)
        self._end("failed")

    def _on_abort(self, event: ev.Abort) -> None:
        self.builder.end(self.log, is_cut=True)
        self._end(CANCELLED)

    def _append_error(self, error: Json) -> None:
        """Rule 4."""
        if not self.dialect.restarts:
            self.log.append("error", self._error_fields(error))

    def _error_fields(self, error: Json) -> Json:
        fields = {**error, "param": None}
        # The SDKs of OpenAI raise at the inner object; its reference shows the outer fields.
        return fields if self.dialect.restarts else {**fields, "error": {"type": "server_error", **fields}}

    def _end(self, status: str) -> None:
        self.status = status
        ending_name = self.dialect.cancel if status == CANCELLED else status
        self.log.append(f"response.{ending_name}", {"response": self.response()})


_HANDLERS: Final[dict[type, Callable[[ResponsesTranscript, Any], None]]] = {
    ev.StartStep: ResponsesTranscript._on_start_step,
    ev.Usage: ResponsesTranscript._on_usage,
    ev.FinishStep: ResponsesTranscript._on_finish_step,
    ev.Finish: ResponsesTranscript._on_finish,
    ev.Error: ResponsesTranscript._on_error,
    ev.Abort: ResponsesTranscript._on_abort,
}

_BUILDERS: Final[dict[type, Callable[[Builder, Any, EventLog], None]]] = {
    ev.TextStart: Builder.open_text,
    ev.TextDelta: Builder.grow_text,
    ev.TextEnd: Builder.end_text,
    ev.ReasoningStart: Builder.open_reasoning,
    ev.ReasoningDelta: Builder.grow_reasoning,
    ev.ReasoningEnd: Builder.end_reasoning,
    ev.ToolInputStart: Builder.open_call,
    ev.ToolInputDelta: Builder.grow_call,
    ev.ToolInputAvailable: Builder.complete_call,
    ev.ToolInputError: Builder.complete_call,
    ev.ToolOutputAvailable: Builder.answer_call,
    ev.ToolOutputError: Builder.answer_call,
    ev.File: Builder.show_file,
    ev.DataEvent: Builder.pass_on,
}


__all__ = ["RESPONSES", "ResponsesDialect", "ResponsesTranscript"]
