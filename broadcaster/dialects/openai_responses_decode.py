"""Decode: bytes of one Responses stream → events of ours.

Rules
1. ``response.created`` comes first (or ``queued``, or ``in_progress``); content before it, or another response, is not
   the protocol (bad data). Parts are numbered in the order they open over the stream.
2. What an event belongs to is decided in ``openai_responses_items``; a finished text, part or item completes what its
   deltas gave, and says nothing otherwise.
3. What we have no word for (event, item, part) becomes ``data-openai`` with the wire event as its data, in its place:
   nothing of it is lost, and what follows is not disturbed. How a tool's run gets on is transient.
4. ``sequence_number`` tells doubles, which are dropped, and holes, which are bad data: ``openai_responses_numbers``.
5. ``response.completed`` and ``response.incomplete`` are the terminal events, with the counts; whatever follows is
   ignored. ``response.failed``, an ``error`` and a response that was cancelled over there end the stream as failures,
   and so does bad data: what came before in the same chunk is still returned, the failure is raised by the next call.
6. What a response repeats of its request (instructions, tools, …) is not told; padding (``obfuscation``) and keepalives
   are dropped, and so is ``[DONE]``, which some servers send: it proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.sse import SseMessage
from broadcaster.dialects import openai_responses_wire as wire
from broadcaster.dialects.faults import BAD_DATA
from broadcaster.dialects.openai_faults import told_fault
from broadcaster.dialects.openai_responses_items import Items
from broadcaster.dialects.openai_responses_numbers import Numbers
from broadcaster.dialects.openai_responses_parts import Output, item_type_of
from broadcaster.dialects.openai_responses_usage import usage_of
from broadcaster.dialects.openai_responses_words import (
    CANCELLED,
    INCOMPLETE_REASONS,
    PROVIDER,
    SILENT_TYPES,
    metadata,
    passed,
    told_of,
)
from broadcaster.dialects.reading import Json, Reading, extras_of, parse
from broadcaster.errors import ProviderFailed

_DONE: Final = "[DONE]"

_wire_decoder: Final[msgspec.json.Decoder[wire.WireEvent]] = msgspec.json.Decoder(wire.WireEvent)
_any_decoder: Final = msgspec.json.Decoder()


class OpenAIResponsesDecoder:
    """One provider call. Call ``decode`` for every chunk and ``flush`` at the end of the body.

    The answer is whole only if ``terminal_seen`` is true at the end: a clean end of the body proves nothing.
    """

    def __init__(self, *, request_id: str | None = None) -> None:
        self._request_id = request_id
        self.reading = Reading(self._read)
        self._numbers = Numbers()
        self._output = Output()
        self._items = Items(self._output)
        self._start: ev.Start | None = None
        self._usage: Json = {}

    @property
    def terminal_seen(self) -> bool:
        """Whether ``response.completed`` or ``response.incomplete`` has come: the answer is whole."""
        return self.reading.is_over

    @property
    def is_whole(self) -> bool:
        """The same: on this wire the counts come with the terminal, and until then another item may."""
        return self.reading.is_over

    @property
    def failure(self) -> ProviderFailed | None:
        """What the next call will raise; None while the stream is good."""
        return self.reading.failure

    def decode(self, chunk: bytes) -> list[ev.Event]:
        """The events that this chunk completes.

        Raises ProviderFailed (1) with the reason of an error told in the stream, (2) ``provider_bad_data``; if events
        came before it in the chunk, these are returned and the next call raises.
        """
        return self.reading.decode(chunk)

    def flush(self) -> list[ev.Event]:
        """The body has ended: an incomplete event is dropped. Open parts stay open unless the answer is whole.

        Raises ProviderFailed when ``decode`` held one back.
        """
        self.reading.flush()
        return []

    def usage_so_far(self) -> ev.Usage:
        """The counts known now: for an answer that was stopped, or failed.

        All of them come with the terminal. Until then (for ever after a cancel) the output is ``estimated``: one token
        for every BYTES_PER_TOKEN UTF-8 bytes of text, reasoning and tool input received, rounded up.
        """
        return usage_of(self._usage, self._output.meter)

    # ------------------------------------------------------------------------------------------------ reading one event

    def _read(self, message: SseMessage, out: list[ev.Event]) -> None:
        try:
            event = _wire_decoder.decode(message.data)
        except (msgspec.DecodeError, RecursionError):
            self._read_odd(message, out)
            return
        if not self._numbers.is_double(event.sequence_number, message.data):
            _HANDLERS[type(event)](self, event, message.data, out=out)

    def _read_odd(self, message: SseMessage, out: list[ev.Event]) -> None:
        """An event that is no known one in its known shape: an error, one of a newer API, or nonsense."""
        if message.data.strip() == _DONE:
            return
        if message.event == "error":
            raise told_fault(_error_in(message.data))
        whole, mended = parse(message)
        kind = whole.get("type")
        if kind == "error" or (kind is None and "error" in whole):
            raise told_fault(_error_in(mended))
        if not isinstance(kind, str):
            raise BAD_DATA.failure(detail="an event without a type")
        if kind not in wire.WIRE_TYPES:
            number = whole.get("sequence_number")
            is_double = self._numbers.is_double(number if isinstance(number, int) else None, message.data)
            if not is_double and kind not in SILENT_TYPES:
                out.append(passed(whole))
            return
        try:
            event = _wire_decoder.decode(mended)
        except msgspec.DecodeError:
            raise BAD_DATA.failure(detail=f"a malformed {kind}") from None
        if not self._numbers.is_double(event.sequence_number, message.data):
            _HANDLERS[type(event)](self, event, mended, out=out)

    # ---------------------------------------------------------------------------------------------------- the response

    def _on_opening(self, event: wire.Opening, data: str, *, out: list[ev.Event]) -> None:
        if event.response is None and not isinstance(event, wire.Created):
            return  # a gateway's way of keeping the connection open
        response = event.response or {}
        if self._start is None:
            self._open(response, out)
        elif response.get("id") not in (None, self._start.message_id):
            raise BAD_DATA.failure(detail="another response in the same stream")

    def _on_ending(self, event: wire.Ending, data: str, *, out: list[ev.Event]) -> None:
        response = event.response or {}
        if isinstance(usage := response.get("usage"), dict):
            self._usage = extras_of(usage)
        outcome = _outcome(event.outcome, response.get("status"))
        if outcome == "failed":
            raise told_fault(response.get("error"))
        if outcome == "cancelled":
            raise CANCELLED.failure()
        if self._start is None:
            self._open(response, out)
        strange = self._items.end(response.get("output"), out)
        out.extend(passed({"type": "response.output_item.done", "item": item}) for item in strange)
        self.reading.is_over = True
        raw = _incomplete_reason(response) if outcome == "incomplete" else None
        extras = metadata(
            extras_of({"finishReason": raw})
            | self._told_at_end(response)
            | extras_of(_any_decoder.decode(data), *_OF_ENDING)
        )
        reason = INCOMPLETE_REASONS.get(raw or "", "other") if outcome == "incomplete" else self._finish_reason()
        out.append(self.usage_so_far())
        out.append(ev.FinishStep(finish_reason=reason, provider_metadata=extras))
        out.append(
            ev.Finish(finish_reason=reason, message_metadata=self._new_model(response), provider_metadata=extras)
        )

    def _open(self, response: Json, out: list[ev.Event]) -> None:
        id, model = response.get("id"), response.get("model")
        extras = told_of(response, *_OF_RESPONSE, "status", "incomplete_details")
        if self._request_id is not None:
            extras["requestId"] = self._request_id
        self._start = ev.Start(
            message_id=id if isinstance(id, str) else None,
            message_metadata={"model": model} if isinstance(model, str) else None,
            provider_metadata=metadata(extras),
        )
        out.append(self._start)
        out.append(ev.StartStep())

    def _told_at_end(self, response: Json) -> Json:
        """What the response tells that its start did not."""
        told = ((self._start and self._start.provider_metadata) or {}).get(PROVIDER, {})
        end = told_of(response, *_OF_RESPONSE)
        return {name: value for name, value in end.items() if name not in told or told[name] != value}

    def _new_model(self, response: Json) -> Json | None:
        """The model, where the start did not know it (llama.cpp's) or another one answered."""
        model = response.get("model")
        told = (self._start and self._start.message_metadata) or {}
        return {"model": model} if isinstance(model, str) and model != told.get("model") else None

    def _finish_reason(self) -> ev.FinishReason:
        """What a completed response ended with: on this wire, its items say so."""
        if self._output.is_calling:
            return "tool-calls"
        return "content-filter" if self._output.is_refused else "stop"

    # --------------------------------------------------------------------------------------------- its items and parts

    def _on_item_added(self, event: wire.ItemAdded, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        if event.item is not None and not self._items.add(event.item, event.output_index, out=out):
            self._pass(data, out)

    def _on_item_done(self, event: wire.ItemDone, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        if event.item is not None and not self._items.finish(event.item, event.output_index, out=out):
            self._pass(data, out)

    def _on_part_added(self, event: wire.PartAdded | wire.SummaryAdded, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        written = self._items.written(event, item_type_of(event.part))
        if not written.add_part(event.part, event.index, out=out):
            self._pass(data, out)

    def _on_part_done(self, event: wire.PartDone | wire.SummaryDone, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        written = self._items.written(event, item_type_of(event.part))
        if not written.finish_part(event.part, event.index, out=out):
            self._pass(data, out)

    def _on_text_delta(self, event: wire.TextDelta, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        written = self._items.written(event, "message")
        written.part("output_text", event.index, out=out).grow_text(event.delta, event.logprobs, out=out)

    def _on_written_delta(self, event: wire.WrittenDelta, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        self._items.written(event, event.item_type).part(event.kind, event.index, out=out).grow(event.delta, out)

    def _on_written_whole(self, event: wire.WrittenWhole, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        written = self._items.written(event, event.item_type)
        if not written.settle(event.kind, event.index, whole=event.whole, out=out):
            self._pass(data, out)

    def _on_annotation(self, event: wire.Annotation, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        self._items.written(event, "message").part("output_text", event.index, out=out).cite(event.annotation, out)

    def _on_input_delta(self, event: wire.InputDelta, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        tool = self._items.tool(event, event.item_type)
        if tool is None or not tool.grow(event.delta, out):
            self._pass(data, out)

    def _on_input_whole(self, event: wire.InputWhole, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        tool = self._items.tool(event, event.item_type)
        if tool is None:
            self._pass(data, out)
        else:
            tool.settle(event.whole, out)

    # ------------------------------------------------------------------------------------------------------------ state

    def _check_started(self) -> None:
        if self._start is None:
            raise BAD_DATA.failure(detail="an answer without response.created")

    def _pass(self, data: str, out: list[ev.Event]) -> None:
        out.append(passed(_any_decoder.decode(data)))


_OF_RESPONSE: Final = ("id", "object", "model", "output", "usage", "error")
_OF_ENDING: Final = ("type", "sequence_number", "response")

_HANDLERS: Final[dict[type, Callable[..., None]]] = {
    **dict.fromkeys(wire.Opening.__args__, OpenAIResponsesDecoder._on_opening),
    **dict.fromkeys(wire.Ending.__args__, OpenAIResponsesDecoder._on_ending),
    wire.ItemAdded: OpenAIResponsesDecoder._on_item_added,
    wire.ItemDone: OpenAIResponsesDecoder._on_item_done,
    wire.PartAdded: OpenAIResponsesDecoder._on_part_added,
    wire.PartDone: OpenAIResponsesDecoder._on_part_done,
    wire.SummaryAdded: OpenAIResponsesDecoder._on_part_added,
    wire.SummaryDone: OpenAIResponsesDecoder._on_part_done,
    wire.TextDelta: OpenAIResponsesDecoder._on_text_delta,
    **dict.fromkeys(wire.WrittenDelta.__args__, OpenAIResponsesDecoder._on_written_delta),
    **dict.fromkeys(wire.WrittenWhole.__args__, OpenAIResponsesDecoder._on_written_whole),
    wire.Annotation: OpenAIResponsesDecoder._on_annotation,
    **dict.fromkeys(wire.InputDelta.__args__, OpenAIResponsesDecoder._on_input_delta),
    **dict.fromkeys(wire.InputWhole.__args__, OpenAIResponsesDecoder._on_input_whole),
}


def _outcome(told: str, status: object) -> str:
    """How a response ended: its event, or a status that is worse."""
    order = ("completed", "incomplete", "cancelled", "failed")
    return max(told, status if isinstance(status, str) and status in order else told, key=order.index)


def _incomplete_reason(response: Json) -> str | None:
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) else None


def _error_in(data: str) -> object:
    """The error object of an ``error`` event: nested under ``error``, or the event itself."""
    try:
        whole = _any_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    return whole.get("error", whole) if isinstance(whole, dict) else None
