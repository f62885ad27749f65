"""Encode: events of ours → the stream of the Messages API, as its SDKs read it.

Rules
1. Every block has ``event`` and ``data``, but no id: the SDKs cannot resume.
2. ``finish`` is ``message_delta`` and ``message_stop``; ``error`` is an ``error`` event of the matching type; ``abort``
   closes what is open and stops with a reason of ours, ``cancelled``, or is an ``error`` event where the dialect's
   option requests it.
3. An attempt that follows one of which something was sent cannot take that back: an ``error`` event ends the response
   of every client that has it. A client that comes later receives the new attempt alone, from its beginning.
4. A gap, and a response that ends before its stream, are ``error`` events too: the message would not be whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap
from broadcaster.dialects.anthropic.attempt import AnthropicAttempt
from broadcaster.dialects.anthropic.block_sequence import framed
from broadcaster.dialects.anthropic.encode_tables import error, error_of
from broadcaster.dialects.anthropic.wire import PROVIDER
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import TERMINAL, PlainTranscript, loss_of

_RETRY: Final = "the same request may be sent again"

Stop = Literal["cancelled", "error"]


@dataclass(frozen=True)
class AnthropicDialect:
    """``stop``: how an answer that was stopped ends, with ``stop_reason: cancelled`` or as an error (rule 2)."""

    stop: Stop = "cancelled"

    name: ClassVar[str] = PROVIDER
    heartbeat: ClassVar[bytes] = framed({"type": "ping"})

    def open(self, stream_id: str) -> AnthropicTranscript:
        """See Dialect.open."""
        return AnthropicTranscript(stream_id, stop=self.stop)


class AnthropicTranscript(PlainTranscript):
    """One stream as one message; see Transcript."""

    def __init__(self, stream_id: str, *, stop: Stop = "cancelled") -> None:
        self._stream_id = stream_id
        self._stop = stop
        self._attempt = AnthropicAttempt(stream_id)
        self._is_over = False

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """See Transcript.encode. Unknown events yield no frames."""
        return b"".join(framed(event) for entry in entries for event in self.encode_entry(entry))

    def encode_entry(self, entry: Entry) -> list[Json]:
        """The wire events of the next entry."""
        self.breaks_off = False
        if self._is_over:
            return []
        event = ev.read_event(entry.event)
        if isinstance(event, ev.Attempt):
            return self._restart(event)
        if not isinstance(event, TERMINAL):
            return self._attempt.take(event)
        self._is_over = True
        return self._end(event)

    def snapshot(self) -> bytes:
        """See Transcript.snapshot."""
        return self._attempt.snapshot()

    def discard(self, gap: Gap) -> bytes:
        """See Transcript.discard."""
        return framed(error("overloaded_error", f"the answer broke off and begins anew; {_RETRY}"))

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        """See Transcript.bye. Where another request may get the answer, the error is an overload to the SDKs."""
        if reconnect:
            return framed(error("overloaded_error", f"this response was ended early ({reason}); {_RETRY}"))
        return framed(error("api_error", f"this response was ended early ({reason})"))

    def _restart(self, attempt: ev.Attempt) -> list[Json]:
        self.breaks_off = self._attempt.has_begun
        self._attempt = AnthropicAttempt(self._stream_id)
        return [error("overloaded_error", loss_of(attempt))] if self.breaks_off else []

    def _end(self, event: ev.TerminalEvent) -> list[Json]:
        if isinstance(event, ev.Error):
            return [error_of(event)]
        if isinstance(event, ev.Finish):
            return self._attempt.finish(event)
        if self._stop == "error":
            return [error("api_error", f"the answer was stopped ({event.reason or 'stopped'})")]
        return self._attempt.stop()
