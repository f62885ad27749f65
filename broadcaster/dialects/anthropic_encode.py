"""Encode: events of ours → the stream of the Messages API, as its SDKs read it.

Rules
1. Every block has ``event`` and ``data``; none has an id: the SDKs cannot resume.
2. ``finish`` is ``message_delta`` and ``message_stop``; ``error`` is an ``error`` event of the matching type; ``abort``
   closes what is open and stops with a reason of ours, ``cancelled``, or is an ``error`` event where the dialect's
   option says so.
3. An attempt that follows one of which something was sent cannot take that back: an ``error`` event ends the response
   of every client that has it. A client that comes later receives the new attempt alone, from its beginning.
4. A gap, and a response that ends before its stream, are ``error`` events too: the message would not be whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap
from broadcaster.dialects.anthropic_answer import Answer
from broadcaster.dialects.anthropic_line import framed
from broadcaster.dialects.anthropic_wire import PROVIDER
from broadcaster.dialects.anthropic_words import error, error_of
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import Unannounced, loss_of

_PING: Final = framed({"type": "ping"})
_AGAIN: Final = "the same request may be sent again"

Stop = Literal["cancelled", "error"]


@dataclass(frozen=True)
class AnthropicDialect:
    """``stop``: how an answer that was stopped ends, with ``stop_reason: cancelled`` or as an error (rule 2)."""

    stop: Stop = "cancelled"

    @property
    def name(self) -> str:
        """See Dialect.name."""
        return PROVIDER

    @property
    def heartbeat(self) -> bytes:
        """See Dialect.heartbeat."""
        return _PING

    def open(self, stream_id: str) -> AnthropicTranscript:
        """See Dialect.open."""
        return AnthropicTranscript(stream_id, stop=self.stop)


class AnthropicTranscript(Unannounced):
    """One stream as one message; see Transcript."""

    def __init__(self, stream_id: str, *, stop: Stop = "cancelled") -> None:
        self._stream_id = stream_id
        self._stop = stop
        self._answer = Answer(stream_id)
        self._is_over = False
        self._breaks_off = False

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """See Transcript.encode. What is no event of any version says nothing."""
        return b"".join(framed(event) for entry in entries for event in self.say(entry))

    @property
    def breaks_off(self) -> bool:
        """See Transcript.breaks_off (rule 3)."""
        return self._breaks_off

    def say(self, entry: Entry) -> list[Json]:
        """The wire events of the next entry."""
        self._breaks_off = False
        if self._is_over:
            return []
        event = ev.read_event(entry.event)
        if isinstance(event, ev.Attempt):
            return self._begin_again(event)
        if not isinstance(event, ev.Finish | ev.Error | ev.Abort):
            return self._answer.take(event)
        self._is_over = True
        return self._end(event)

    def prelude(self) -> bytes:
        """See Transcript.prelude."""
        return self._answer.prelude()

    def fork(self) -> AnthropicTranscript:
        """See Transcript.fork."""
        other = AnthropicTranscript(self._stream_id, stop=self._stop)
        other._answer, other._is_over = self._answer.fork(), self._is_over
        return other

    def discard(self, gap: Gap) -> bytes:
        """See Transcript.discard."""
        return framed(error("overloaded_error", f"the answer broke off and begins anew; {_AGAIN}"))

    def bye(self, reason: str, *, reconnect: bool, last_number: int | None = None) -> bytes:
        """See Transcript.bye. What another request may get is what the SDKs call an overload."""
        if reconnect:
            return framed(error("overloaded_error", f"this response was ended early ({reason}); {_AGAIN}"))
        return framed(error("api_error", f"this response was ended early ({reason})"))

    def _begin_again(self, attempt: ev.Attempt) -> list[Json]:
        self._breaks_off = self._answer.has_begun
        self._answer = Answer(self._stream_id)
        return [error("overloaded_error", loss_of(attempt))] if self._breaks_off else []

    def _end(self, event: ev.TerminalEvent) -> list[Json]:
        if isinstance(event, ev.Error):
            return [error_of(event)]
        if isinstance(event, ev.Finish):
            return self._answer.finish(event)
        if self._stop == "error":
            return [error("api_error", f"the answer was stopped ({event.reason or 'stopped'})")]
        return self._answer.stop()
