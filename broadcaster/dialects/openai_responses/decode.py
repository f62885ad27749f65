"""Decode: bytes of one Responses stream → events of ours.

Rules
1. ``response.created`` comes first (or ``queued``, or ``in_progress``); content before it, or another response, is not
   the protocol (bad data). Parts are numbered in the order they open over the stream.
2. decoding/items.py decides which item an event belongs to. A finished text, part or item completes what its deltas
   gave, and is ignored otherwise.
3. What our events cannot express (event, item, part) becomes ``data-openai`` with the wire event as its data, in its
   place: nothing of it is lost, and what follows is not disturbed. A tool's progress is transient.
4. ``sequence_number`` shows doubles, which are dropped, and holes, which are bad data (decoding/numbers.py).
5. ``response.completed`` and ``response.incomplete`` are the terminal events, with the counts; whatever follows is
   ignored. ``response.failed``, an ``error`` and a response that was cancelled there end the stream as failures,
   and so does bad data: what came before in the same chunk is still returned, the failure is raised by the next call.
6. The fields of its request that a response repeats (instructions, tools, …) are dropped, and so are padding
   (``obfuscation``), keepalives, and ``[DONE]``, which some servers send and which proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.sse import SseMessage
from broadcaster.dialects.errors import BAD_DATA
from broadcaster.dialects.openai.errors import error_in, reported_failure
from broadcaster.dialects.openai.wire import PROVIDER, metadata
from broadcaster.dialects.openai_responses import wire
from broadcaster.dialects.openai_responses.decode_tables import (
    CANCELLED,
    INCOMPLETE_REASONS,
    SILENT_TYPES,
    passed,
    reported_fields,
)
from broadcaster.dialects.openai_responses.decoding.items import Items
from broadcaster.dialects.openai_responses.decoding.numbers import Numbers
from broadcaster.dialects.openai_responses.decoding.parts import ResponsesOutput, item_type_of
from broadcaster.dialects.openai_responses.decoding.usage import usage_of
from broadcaster.dialects.reading import EventStreamDecoder, Json, extras_of, parse

_DONE: Final = "[DONE]"

_wire_decoder: Final[msgspec.json.Decoder[wire.WireEvent]] = msgspec.json.Decoder(wire.WireEvent)
_any_decoder: Final = msgspec.json.Decoder()


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
        """See ProviderDecoder. All counts come with the terminal event, and never after a cancel."""
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
        if event.response is None and not isinstance(event, wire.ResponseCreated):
            return  # some gateways keep the connection open with it
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
            raise reported_failure(response.get("error"))
        if outcome == "cancelled":
            raise CANCELLED.failure()
        if self._start is None:
            self._open(response, out)
        strange = self._items.end(response.get("output"), out)
        out.extend(passed({"type": "response.output_item.done", "item": item}) for item in strange)
        self.terminal_seen = True
        raw = _incomplete_reason(response) if outcome == "incomplete" else None
        extras = metadata(
            extras_of({"finishReason": raw})
            | self._news_at_end(response)
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
        extras = reported_fields(response, *_OF_RESPONSE, "status", "incomplete_details")
        if self._request_id is not None:
            extras["requestId"] = self._request_id
        self._start = ev.Start(
            message_id=id if isinstance(id, str) else None,
            message_metadata={"model": model} if isinstance(model, str) else None,
            provider_metadata=metadata(extras),
        )
        out.append(self._start)
        out.append(ev.StartStep())

    def _news_at_end(self, response: Json) -> Json:
        """The response's fields that are new since its start."""
        sent = ((self._start and self._start.provider_metadata) or {}).get(PROVIDER, {})
        end = reported_fields(response, *_OF_RESPONSE)
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

    def _on_text_delta(self, event: wire.OutputTextDelta, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        written = self._items.written(event, "message")
        written.part("output_text", event.index, out=out).grow_text(event.delta, event.logprobs, out=out)

    def _on_written_delta(self, event: wire.WrittenDelta, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        self._items.written(event, event.item_type).part(event.kind, event.index, out=out).grow(event.delta, out)

    def _on_written_whole(self, event: wire.WrittenWhole, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        written = self._items.written(event, event.item_type)
        if not written.reconcile(event.kind, event.index, whole=event.whole, out=out):
            self._pass(data, out)

    def _on_annotation(self, event: wire.AnnotationAdded, data: str, *, out: list[ev.Event]) -> None:
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
            tool.complete(event.whole, out)

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
    wire.OutputTextDelta: OpenAIResponsesDecoder._on_text_delta,
    **dict.fromkeys(wire.WrittenDelta.__args__, OpenAIResponsesDecoder._on_written_delta),
    **dict.fromkeys(wire.WrittenWhole.__args__, OpenAIResponsesDecoder._on_written_whole),
    wire.AnnotationAdded: OpenAIResponsesDecoder._on_annotation,
    **dict.fromkeys(wire.InputDelta.__args__, OpenAIResponsesDecoder._on_input_delta),
    **dict.fromkeys(wire.InputWhole.__args__, OpenAIResponsesDecoder._on_input_whole),
}


def _outcome(outcome: str, status: object) -> str:
    """How a response ended: by its event, or by a status that is worse."""
    order = ("completed", "incomplete", "cancelled", "failed")
    return max(outcome, status if isinstance(status, str) and status in order else outcome, key=order.index)


def _incomplete_reason(response: Json) -> str | None:
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return reason if isinstance(reason, str) else None
