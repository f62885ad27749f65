"""Encode: entries → the events of one Response, as the OpenAI SDKs read them.

Rules
1. ``response.created`` and ``response.in_progress`` stand before all else; they are said with the first event that
   tells anything. Sequence numbers and ids are a function of the entries (``openai_responses_voice``), and of when the
   generation was created (rule 7).
2. The parts of one item stand under its provider's name for it; where there is none, texts that follow each other are
   one message, and each thought is an item of reasoning. An item is done when another opens or its step ends, and
   nothing of it is still to come: only then is known what its provider told last.
3. A new attempt: what is open is closed as ``incomplete``, ``response.in_progress`` with an empty output says that all
   of it is void, and the new items stand at new output indexes under ids that were never used (the SDK's helper refuses
   a repeated one). The final ``output`` is that of the newest attempt alone. Frameworks join all deltas of a stream, so
   only a dialect with ``restarts`` does this. Without it, ``response.failed`` ends the stream of every client that has
   items of the attempt before, and a client that comes later receives the new attempt alone.
4. ``finish`` is ``response.completed``, or ``response.incomplete`` where a bound or a filter cut the answer; ``error``
   is ``response.failed``. A stop has no event on this wire: it is ``response.incomplete`` with status ``cancelled``,
   or, with ``cancel="completed"``, ``response.completed`` with that status: the SDK's helper returns a final response
   for no other event.
5. After a gap no number would be true: a viewer of one is ended, and told ``error``. That event repeats the last
   number, so that it can be resumed from.
6. Claude's thinking is ``reasoning_text``, and its signature the item's ``encrypted_content`` under a prefix, by which
   a later request is turned back.
7. A newer epoch may stand in place of entries that Redis lost, whose numbers a client may have been sent. So its
   numbers begin at ``NUMBERS_PER_MS`` for each millisecond since the generation was created, above all that could be
   sent before: a client that resumes by such a number is sent ``response.in_progress`` (rule 3) and all that follows.
   The first attempt begins at 0. Where a clock that stepped back leaves no room, the numbers rise by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap
from broadcaster.dialects.openai_responses_builder import Builder
from broadcaster.dialects.openai_responses_object import CANCELLED, Facts, ending, shown_of
from broadcaster.dialects.openai_responses_shelf import Shelf
from broadcaster.dialects.openai_responses_voice import Voice, frames_after
from broadcaster.dialects.openai_responses_words import PASSED_TYPE
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import NEW_ATTEMPT, Unannounced, block, loss_of

Cancel = Literal["incomplete", "completed"]

NUMBERS_PER_MS: Final = 256
"""More events than a worker writes in a millisecond, so that an epoch cannot fill the numbers before the next.

Measured: Redis takes about 100 entries of one stream in a millisecond, and a worker writes far fewer.

Small, because a client may hold numbers as 32-bit integers (the .NET SDK): they last for an answer of 2 h 20 min.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesDialect:
    """``shown``: what the Response repeats of its request, as JSON. ``cancel``: rule 4. ``restarts``: rule 3."""

    shown: str = ""
    cancel: Cancel = "incomplete"
    restarts: bool = True

    @property
    def name(self) -> str:
        """Its name in ``DIALECTS``."""
        return "openai-responses"

    @property
    def heartbeat(self) -> bytes:
        """A comment: no id is ever sent, so that no client takes it for an event."""
        return b":\n\n"

    def open(self, stream_id: str) -> ResponsesTranscript:
        """A transcript of this stream that has heard nothing yet."""
        facts = Facts(stream_id, shown_of(self.shown))
        return ResponsesTranscript(self, facts, Voice(), Builder(Shelf(stream_id)))


RESPONSES: Final = ResponsesDialect()


@dataclass(slots=True)
class ResponsesTranscript(Unannounced):
    """One stream as a Response. See Transcript."""

    dialect: ResponsesDialect
    facts: Facts
    voice: Voice
    builder: Builder
    status: str = "queued"
    error: Json | None = None
    why: Json | None = None
    is_refused: bool = False
    breaks_off: bool = False
    _epoch: int = 0
    _is_opened: bool = field(default=False)
    _is_told: bool = field(default=False)

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """See Transcript.encode."""
        for entry in entries:
            if entry.epoch != self._epoch:
                self._begin_epoch(entry)
            self._hear(entry.event)
        return self.voice.taken()

    def prelude(self) -> bytes:
        """See Transcript.prelude."""
        return self.voice.prelude()

    def fork(self) -> ResponsesTranscript:
        """See Transcript.fork."""
        forked = ResponsesTranscript(self.dialect, self.facts.fork(), self.voice.fork(), self.builder.fork())
        forked.status, forked.error, forked.why = self.status, self.error, self.why
        forked.is_refused, forked._epoch = self.is_refused, self._epoch
        forked._is_opened, forked._is_told = self._is_opened, self._is_told
        return forked

    def discard(self, gap: Gap) -> bytes:
        """See Transcript.discard: nothing, ``response.created`` begins the Response anew."""
        return b""

    def bye(self, reason: str, *, reconnect: bool, last_number: int | None = None) -> bytes:
        """See Transcript.bye."""
        again = "; the response goes on: ask for it again with starting_after" if reconnect else ""
        told = {"code": reason, "message": f"the stream ended before the response did{again}", "param": None}
        number = self.last_number if last_number is None else last_number
        return block({"type": "error", "sequence_number": number, **told}, event="error")

    @property
    def last_number(self) -> int:
        """See Transcript.last_number."""
        return self.voice.last_number

    def frames_after(self, frames: bytes, number: int) -> bytes:
        """See Transcript.frames_after."""
        return frames_after(frames, number)

    @property
    def is_over(self) -> bool:
        """Whether the terminal entry was heard."""
        return self.status not in ("queued", "in_progress")

    def response(self) -> Json:
        """The Response as it stands; before the first entry it is ``queued``."""
        status = self.status
        output = self.builder.shown()
        return self.facts.response(status, output, error=self.error, why=self.why)

    # ---------------------------------------------------------------------------------------------------- one event

    def _begin_epoch(self, entry: Entry) -> None:
        """Rule 7."""
        if self.facts.created_at is None:
            self.facts.created_at = entry.epoch // 1000
        if self._epoch or isinstance(ev.read_event(entry.event), ev.Attempt):
            self.voice.rise((entry.epoch - 1000 * self.facts.created_s) * NUMBERS_PER_MS)
        self._epoch = entry.epoch

    def _hear(self, raw: bytes) -> None:
        self.breaks_off = False
        if self.is_over:
            return
        event = ev.read_event(raw)
        kind = type(event)
        if kind is ev.UnknownEvent or (isinstance(event, ev.DataEvent) and event.type != PASSED_TYPE):
            return
        if isinstance(event, ev.Attempt):
            self._begin_again(event)
            return
        if isinstance(event, ev.Start):
            self.facts.take(event.provider_metadata, event.message_metadata)
        self._announce()
        if (hear := _HEARD.get(kind)) is not None:
            hear(self, event)
        elif (build := _BUILT.get(kind)) is not None:
            build(self.builder, event, self.voice)

    def _begin_again(self, attempt: ev.Attempt) -> None:
        """Rule 3."""
        self.is_refused = False
        lost = self.builder.drop(self.voice)
        self.breaks_off = bool(lost) and not self.dialect.restarts
        if self.breaks_off:
            error = {"code": NEW_ATTEMPT, "message": loss_of(attempt)}
            self.voice.say("response.failed", {"response": self.facts.response("failed", lost, error=error)})
            self.voice.forget()
        self.facts.begin_again()
        self._is_told = False

    def _announce(self) -> None:
        if self._is_told:
            return
        self.status = "in_progress"
        body = {"response": self.response()}
        if not self._is_opened:
            self.voice.open("response.created", body)
            self.voice.open("response.in_progress", body)
        else:
            self.voice.forget()
            self.voice.say("response.in_progress", body)
        self._is_opened = self._is_told = True

    def _on_start_step(self, event: ev.StartStep) -> None:
        self.facts.steps += 1

    def _on_usage(self, event: ev.Usage) -> None:
        self.facts.count(event)

    def _on_text_start(self, event: ev.TextStart) -> None:
        self.builder.open_text(event, self.voice)
        self.is_refused |= self.builder.is_refusal(event.id)

    def _on_finish_step(self, event: ev.FinishStep) -> None:
        is_whole, _ = ending(event.finish_reason, event.provider_metadata, is_refused=self.is_refused)
        self.builder.end_step(self.voice, is_cut=not is_whole)

    # ----------------------------------------------------------------------------------------------------- the ends

    def _on_finish(self, event: ev.Finish) -> None:
        self.facts.take(event.provider_metadata, event.message_metadata)
        is_whole, self.why = ending(event.finish_reason, event.provider_metadata, is_refused=self.is_refused)
        self.builder.end(self.voice, is_cut=not is_whole)
        self._end("completed" if is_whole else "incomplete")

    def _on_error(self, event: ev.Error) -> None:
        self.builder.end(self.voice, is_cut=True)
        self.error = {"code": event.code, "message": event.error_text}
        self._end("failed")

    def _on_abort(self, event: ev.Abort) -> None:
        self.builder.end(self.voice, is_cut=True)
        self._end(CANCELLED)

    def _end(self, status: str) -> None:
        self.status = status
        told = self.dialect.cancel if status == CANCELLED else status
        self.voice.say(f"response.{told}", {"response": self.response()})


_HEARD: Final[dict[type, Callable[[ResponsesTranscript, Any], None]]] = {
    ev.StartStep: ResponsesTranscript._on_start_step,
    ev.Usage: ResponsesTranscript._on_usage,
    ev.TextStart: ResponsesTranscript._on_text_start,
    ev.FinishStep: ResponsesTranscript._on_finish_step,
    ev.Finish: ResponsesTranscript._on_finish,
    ev.Error: ResponsesTranscript._on_error,
    ev.Abort: ResponsesTranscript._on_abort,
}

_BUILT: Final[dict[type, Callable[[Builder, Any, Voice], None]]] = {
    ev.TextDelta: Builder.grow_text,
    ev.TextEnd: Builder.end_text,
    ev.ReasoningStart: Builder.open_reasoning,
    ev.ReasoningDelta: Builder.grow_reasoning,
    ev.ReasoningEnd: Builder.end_reasoning,
    ev.ToolInputStart: Builder.open_call,
    ev.ToolInputDelta: Builder.grow_call,
    ev.ToolInputAvailable: Builder.settle_call,
    ev.ToolInputError: Builder.settle_call,
    ev.ToolOutputAvailable: Builder.answer_call,
    ev.ToolOutputError: Builder.answer_call,
    ev.File: Builder.show_file,
    ev.DataEvent: Builder.pass_on,
}


__all__ = ["RESPONSES", "ResponsesDialect", "ResponsesTranscript"]
