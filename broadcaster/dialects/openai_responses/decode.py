"""Decode: bytes of one Responses stream → events of ours.

Rules
1. ``response.created`` comes first (or ``queued``, or ``in_progress``); content before it, or another response, is not
   the protocol (bad data). Parts are numbered in the order they open over the stream.
2. decoding/items.py decides which item an event belongs to. A finished text, part or item completes what its deltas
   gave, and is ignored otherwise.
3. What our events cannot express (event, item, part) becomes ``data-openai`` with the wire event as its data, in its
   place: nothing of it is lost, and what follows is not disturbed. A tool's progress is transient.
4. Sequence numbers rise by one with every event, keepalives included. A hole means that something of the answer is
   missing: bad data. An event whose number does not rise is a double if it is one of the last, byte for byte: it is
   dropped. On any other event such a number shows that the server does not number as it should (LiteLLM writes 1 on
   every finished item). From there on numbers are ignored: dropping events by them would lose the answer. Absent
   numbers are ignored too, and a hole beside one does not count.
5. ``response.completed`` and ``response.incomplete`` are the terminal events, with the counts; whatever follows is
   ignored. ``response.failed``, an ``error`` and a response that was cancelled there end the stream as failures,
   and so does bad data: what came before in the same chunk is still returned, the failure is raised by the next call.
6. The fields of its request that a response repeats (instructions, tools, …) are dropped, and so are padding
   (``obfuscation``), keepalives, and ``[DONE]``, which some servers send and which proves nothing.
7. All counts come with the end of the response. Before it, and for ever after a cancel, the output is estimated. A
   server that reports 0 for an answer with text does not count.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.sse import SseMessage
from broadcaster.dialects.errors import BAD_DATA
from broadcaster.dialects.openai.errors import error_in, reported_failure
from broadcaster.dialects.openai.wire import PROVIDER, metadata, usage_of
from broadcaster.dialects.openai_responses import wire
from broadcaster.dialects.openai_responses.decoding.items import TAKE, Items
from broadcaster.dialects.openai_responses.decoding.parts import ResponsesOutput
from broadcaster.dialects.reading import EventStreamDecoder, Json, extras_of, member, parse, start_of, token_count

_DONE: Final = "[DONE]"
DOUBLES_KEPT: Final = 64
"""How many of the last events are kept to detect doubles: more than a gateway repeats after a reconnect."""

_wire_decoder: Final[msgspec.json.Decoder[wire.WireEvent]] = msgspec.json.Decoder(wire.WireEvent)


class OpenAIResponsesDecoder(EventStreamDecoder):
    """One provider call; the answer is whole with ``response.completed`` or ``response.incomplete``.

    The counts come with that event, and until then another item may. See ProviderDecoder.
    """

    def __init__(self, *, request_id: str | None = None) -> None:
        super().__init__()
        self._request_id = request_id
        self._numbers = Numbers()
        self._output = ResponsesOutput()
        self._items = Items(self._output)
        self._start: ev.Start | None = None
        self._usage: Json = {}

    def usage_so_far(self) -> ev.Usage:
        """See ProviderDecoder, and rule 7."""
        reported, estimated = token_count(self._usage.get("output_tokens")), self._output.meter.estimated_tokens()
        is_reported = reported is not None and (reported > 0 or estimated == 0)
        output = reported if is_reported else estimated
        return usage_of(self._usage, ("input", "output"), output_tokens=output, estimated=not is_reported)

    # ------------------------------------------------------------------------------------------------ reading one event

    def _read(self, message: SseMessage, out: list[ev.Event]) -> None:
        try:
            event = _wire_decoder.decode(message.data)
        except (msgspec.DecodeError, RecursionError):
            self._read_odd(message, out)
            return
        if not self._numbers.is_double(event.sequence_number, message.data):
            self._take_event(event, message.data, out)

    def _read_odd(self, message: SseMessage, out: list[ev.Event]) -> None:
        """Any event that is not a known one in its known shape: an error, one of a newer API, or nonsense."""
        if message.data.strip() == _DONE:
            return
        if message.event == "error":
            raise reported_failure(error_in(message.data))
        whole, mended = parse(message)
        kind = whole.get("type")
        if kind == "error" or (kind is None and "error" in whole):
            raise reported_failure(error_in(mended))
        if not isinstance(kind, str):
            raise BAD_DATA.failure(detail="an event without a type")
        if kind not in wire.WIRE_TYPES:
            number = whole.get("sequence_number")
            is_double = self._numbers.is_double(number if isinstance(number, int) else None, message.data)
            if not is_double and kind not in wire.SILENT_TYPES:
                out.append(wire.passed(whole))
            return
        try:
            event = _wire_decoder.decode(mended)
        except msgspec.DecodeError:
            raise BAD_DATA.failure(detail=f"a malformed {kind}") from None
        if isinstance(event, wire.AnyDelta) and (torn := self._torn(message)) is not None:
            event.delta = torn["delta"]
        if not self._numbers.is_double(event.sequence_number, message.data):
            self._take_event(event, mended, out)

    def _take_event(self, event: wire.WireEvent, data: str, out: list[ev.Event]) -> None:
        if (take := TAKE.get(type(event))) is not None:
            if self._start is None:
                raise BAD_DATA.failure(detail="an answer without response.created")
            if not take(self._items, event, out):
                out.append(wire.passed(msgspec.json.decode(data)))
        elif isinstance(event, wire.Ending):
            self._on_ending(event, data, out)
        elif isinstance(event, wire.Opening):
            self._on_opening(event, out)

    # ---------------------------------------------------------------------------------------------------- the response

    def _on_opening(self, event: wire.Opening, out: list[ev.Event]) -> None:
        if event.response is None and not isinstance(event, wire.ResponseCreated):
            return  # some gateways keep the connection open with it
        response = event.response or {}
        if self._start is None:
            self._open(response, out)
        elif response.get("id") not in (None, self._start.message_id):
            raise BAD_DATA.failure(detail="another response in the same stream")

    def _on_ending(self, event: wire.Ending, data: str, out: list[ev.Event]) -> None:
        response = event.response or {}
        if isinstance(usage := response.get("usage"), dict):
            self._usage = extras_of(usage)
        outcome = _outcome(event.status, response.get("status"))
        if outcome == "failed":
            raise reported_failure(response.get("error"))
        if outcome == "cancelled":
            raise wire.CANCELLED.failure()
        if self._start is None:
            self._open(response, out)
        strange = self._items.end(response.get("output"), out)
        out.extend(wire.passed({"type": "response.output_item.done", "item": item}) for item in strange)
        self.terminal_seen = True
        raw = _incomplete_reason(response) if outcome == "incomplete" else None
        extras = metadata(
            extras_of({"finishReason": raw})
            | self._news_at_end(response)
            | extras_of(msgspec.json.decode(data), *_OF_ENDING)
        )
        reason = wire.INCOMPLETE_REASONS.get(raw or "", "other") if outcome == "incomplete" else self._finish_reason()
        out.append(self.usage_so_far())
        out.append(ev.FinishStep(finish_reason=reason, provider_metadata=extras))
        out.append(
            ev.Finish(finish_reason=reason, message_metadata=self._new_model(response), provider_metadata=extras)
        )

    def _open(self, response: Json, out: list[ev.Event]) -> None:
        extras = wire.reported_fields(response, *_OF_RESPONSE, "status", "incomplete_details")
        if self._request_id is not None:
            extras["requestId"] = self._request_id
        self._start = start_of(response, metadata(extras))
        out += [self._start, ev.StartStep()]

    def _news_at_end(self, response: Json) -> Json:
        """The response's fields that are new since its start."""
        sent = ((self._start and self._start.provider_metadata) or {}).get(PROVIDER, {})
        end = wire.reported_fields(response, *_OF_RESPONSE)
        return {name: value for name, value in end.items() if name not in sent or sent[name] != value}

    def _new_model(self, response: Json) -> Json | None:
        """The model, where the start did not know it (llama.cpp's) or another one answered."""
        model = response.get("model")
        sent = (self._start and self._start.message_metadata) or {}
        return {"model": model} if isinstance(model, str) and model != sent.get("model") else None

    def _finish_reason(self) -> ev.FinishReason:
        """The finish reason of a completed response: on this wire, it follows from the items."""
        if self._output.is_calling:
            return "tool-calls"
        return "content-filter" if self._output.is_refused else "stop"


class Numbers:
    """Rule 4. Call ``is_double`` for every event, in order.

    Only hashes of events are kept, because one may hold an image.
    """

    def __init__(self) -> None:
        self._last: int | None = None
        self._are_kept = True
        self._recent: deque[int] = deque(maxlen=DOUBLES_KEPT)

    def is_double(self, number: int | None, data: str) -> bool:
        """Whether this event came before. Raises ProviderFailed when one before it is missing."""
        if number is None or not self._are_kept:
            self._last = None
            return False
        if self._last is not None and number != self._last + 1:
            if number > self._last:
                raise BAD_DATA.failure(detail="a hole in the sequence numbers")
            if hash(data) in self._recent:
                return True
            self._are_kept = False
        self._last = number
        self._recent.append(hash(data))
        return False


_OF_RESPONSE: Final = ("id", "object", "model", "output", "usage", "error")
_OF_ENDING: Final = ("type", "sequence_number", "response")


def _outcome(outcome: str, status: object) -> str:
    """How a response ended: by its event, or by a status that is worse."""
    order = ("completed", "incomplete", "cancelled", "failed")
    return max(outcome, status if isinstance(status, str) and status in order else outcome, key=order.index)


def _incomplete_reason(response: Json) -> str | None:
    reason = member(response.get("incomplete_details"), "reason")
    return reason if isinstance(reason, str) else None
