"""Decode: bytes of one Messages stream → events of ours.

Rules
1. ``message_start`` comes first; a content event before it, or a second one, is not the protocol (bad data).
2. Parts are numbered in their order over the stream: on a proper stream that is the block's index.
3. Blocks are distinguished by their index and may interleave. A start on an index that is open, and the end of the
   message, close what is open; a stop of a block that is not open is ignored; a delta of one is bad data.
4. What our events cannot express (event, block, delta) becomes ``data-anthropic`` with the wire event as its data, in
   its place: nothing of it is lost, and what follows is not disturbed.
5. Counts of ``message_delta`` are cumulative and overwrite those of ``message_start``; an absent or null one keeps
   the old value. ``input_tokens`` is the wire's: without cached tokens, which are counted apart.
6. ``message_stop`` is the terminal event; whatever follows it is ignored. An ``error`` event, and bad data, end the
   stream too: what came before in the same chunk is still returned, the failure is raised by the next call.
7. ``ping`` is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.sse import SseMessage
from broadcaster.dialects.anthropic import wire
from broadcaster.dialects.anthropic.blocks import AnthropicOutput, BlockDecoder, open_block
from broadcaster.dialects.errors import BAD_DATA
from broadcaster.dialects.reading import EventStreamDecoder, Json, count_in, extras_of, parse, start_of, token_count

_wire_decoder: Final[msgspec.json.Decoder[wire.WireEvent]] = msgspec.json.Decoder(wire.WireEvent)


class AnthropicDecoder(EventStreamDecoder):
    """One provider call; the answer is whole with its ``message_stop``. See ProviderDecoder."""

    def __init__(self, *, request_id: str | None = None, json_tool: str | None = None) -> None:
        """The input of a call of ``json_tool`` is the text of the answer (``answer_format``, rule 3)."""
        super().__init__()
        self._request_id = request_id
        self._json_tool = json_tool
        self._has_called = False
        self._is_started = False
        self._blocks: dict[int, BlockDecoder | None] = {}
        self._parts = 0
        self._output = AnthropicOutput()
        self._usage: Json = {}
        self._is_output_reported = False
        self._stop: Json = {}

    def usage_so_far(self) -> ev.Usage:
        """See ProviderDecoder. The input is exact from ``message_start`` on.

        An estimated output is no less than the provider's own count so far.
        """
        reported = token_count(self._usage.get("output_tokens")) or 0
        output = reported if self._is_output_reported else max(reported, self._output.meter.estimated_tokens())
        return ev.Usage(
            input_tokens=token_count(self._usage.get("input_tokens")),
            output_tokens=output,
            reasoning_tokens=count_in(self._usage.get("output_tokens_details"), "thinking_tokens"),
            cached_input_tokens=token_count(self._usage.get("cache_read_input_tokens")),
            cache_write_input_tokens=token_count(self._usage.get("cache_creation_input_tokens")),
            estimated=not self._is_output_reported,
            provider_metadata=wire.metadata(extras_of({"usage": dict(self._usage) or None})),
        )

    # ------------------------------------------------------------------------------------------------ reading one event

    def _read(self, message: SseMessage, out: list[ev.Event]) -> None:
        if message.event == "error":
            raise wire.reported_failure(message.data)
        try:
            event = _wire_decoder.decode(message.data)
        except (msgspec.DecodeError, RecursionError):
            self._read_odd(message, out)
        else:
            _HANDLERS[type(event)](self, event, message.data, out=out)

    def _read_odd(self, message: SseMessage, out: list[ev.Event]) -> None:
        """Any event that is not a known one in its known shape: an error, one of a newer API, or nonsense."""
        whole, mended = parse(message)
        kind = whole.get("type")
        if kind == "error":
            raise wire.reported_failure(mended)
        if not isinstance(kind, str):
            raise BAD_DATA.failure(detail="an event without a type")
        if not wire.is_known(whole):
            out.append(_passed(whole))
            return
        try:
            event = _wire_decoder.decode(mended)
        except msgspec.DecodeError:
            raise BAD_DATA.failure(detail=f"a malformed {kind}") from None
        if isinstance(event, wire.BlockDelta) and (torn := self._torn(message)) is not None:
            wire.keep_halves(event.delta, torn["delta"])
        _HANDLERS[type(event)](self, event, mended, out=out)

    def _on_message_start(self, event: wire.MessageStart, data: str, *, out: list[ev.Event]) -> None:
        if self._is_started:
            raise BAD_DATA.failure(detail="a second message_start")
        self._is_started = True
        message = event.message
        self._take_usage(message.get("usage"))
        extras = extras_of(message, "id", "type", "role", "model")
        if self._request_id is not None:
            extras["requestId"] = self._request_id
        out += [start_of(message, wire.metadata(extras)), ev.StartStep()]

    def _on_block_start(self, event: wire.BlockStart, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        self._close(event.index, out)
        block = open_block(
            event.content_block, str(self._parts), output=self._output, out=out, json_tool=self._json_tool
        )
        start = event.content_block
        self._has_called |= start.get("type") == "tool_use" and start.get("name") != self._json_tool
        self._parts += 1
        self._blocks[event.index] = block
        if block is None:
            out.append(_passed(msgspec.json.decode(data)))

    def _on_block_delta(self, event: wire.BlockDelta, data: str, *, out: list[ev.Event]) -> None:
        try:
            block = self._blocks[event.index]
        except KeyError:
            raise BAD_DATA.failure(detail="a delta of a block that is not open") from None
        if block is None or not block.grow(event.delta, out):
            out.append(_passed(msgspec.json.decode(data)))

    def _on_block_stop(self, event: wire.BlockStop, data: str, *, out: list[ev.Event]) -> None:
        if not self._close(event.index, out):
            out.append(_passed(msgspec.json.decode(data)))

    def _on_message_delta(self, event: wire.MessageDelta, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        self._take_usage(event.usage)
        self._is_output_reported |= token_count((event.usage or {}).get("output_tokens")) is not None
        self._stop |= extras_of(msgspec.json.decode(data), "type", "delta", "usage") | extras_of(event.delta)

    def _on_message_stop(self, event: wire.MessageStop, data: str, *, out: list[ev.Event]) -> None:
        self._check_started()
        for index in list(self._blocks):
            self._close(index, out)
        self.terminal_seen = True
        stop = dict(self._stop)
        raw = stop.pop("stop_reason", None)
        if raw == "tool_use" and self._json_tool is not None and not self._has_called:
            raw = "end_turn"
        stop_sequence = stop.pop("stop_sequence", None)
        extras = wire.metadata(extras_of({"stopReason": raw, "stopSequence": stop_sequence, **stop}))
        reason = wire.FINISH_REASONS.get(raw, "other") if isinstance(raw, str) else None
        out.append(self.usage_so_far())
        out.append(ev.FinishStep(finish_reason=reason, provider_metadata=extras))
        out.append(ev.Finish(finish_reason=reason, provider_metadata=extras))

    def _on_ping(self, event: wire.Ping, data: str, *, out: list[ev.Event]) -> None:
        """Rule 7."""

    # ------------------------------------------------------------------------------------------------------------ state

    def _check_started(self) -> None:
        if not self._is_started:
            raise BAD_DATA.failure(detail="an answer without message_start")

    def _close(self, index: int, out: list[ev.Event]) -> bool:
        """Close the block, if it is open; False when it is one that we only pass on."""
        if index not in self._blocks:
            return True
        if (block := self._blocks.pop(index)) is None:
            return False
        block.end(out)
        return True

    def _take_usage(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}


_HANDLERS: Final[dict[type, Callable[..., None]]] = {
    wire.MessageStart: AnthropicDecoder._on_message_start,
    wire.BlockStart: AnthropicDecoder._on_block_start,
    wire.BlockDelta: AnthropicDecoder._on_block_delta,
    wire.BlockStop: AnthropicDecoder._on_block_stop,
    wire.MessageDelta: AnthropicDecoder._on_message_delta,
    wire.MessageStop: AnthropicDecoder._on_message_stop,
    wire.Ping: AnthropicDecoder._on_ping,
}


def _passed(wire_event: Json) -> ev.DataEvent:
    return ev.DataEvent(type=wire.PASSED_TYPE, data=wire_event)
