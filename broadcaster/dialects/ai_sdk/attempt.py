"""The UI message of one attempt: our events → chunks, and all of them folded for late joiners.

Rules
1. A client throws at a delta, an end or an output whose start it has not seen, so a missing start is sent first: of the
   message, its first step, a text. A tool call without a name and an output without a call cannot be opened: they are
   left out.
2. Part ids are ours, counted over the message: providers number their parts from 0 in every step. A start under an id
   that is open ends the open part.
3. ``finish-step`` ends the texts that are open (version 6 drops them there), and so does ``finish``. ``error`` and
   ``abort`` leave torn parts as they are.
4. Usage is sent with the end, not before: a client cannot take metadata back when a new attempt begins.
5. Left out is what clients have no place for: finish reasons of steps, metadata of steps and of the whole answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable
from broadcaster.dialects.ai_sdk.parts import (
    FINISH_STEP,
    START_STEP,
    Chunk,
    SingleChunkPart,
    ToolCallProgress,
    UiPart,
    UiTextPart,
    UiToolCall,
)

_Kind: TypeAlias = Literal["text", "reasoning"]
_Part = TypeVar("_Part", bound=UiPart)

_ID_PREFIX: Final = {"text": "txt", "reasoning": "rsn"}
_METADATA_THAT_RETURNS: Final = frozenset({"model"})
"""Metadata that every attempt sends, so that it replaces that of an old one."""


class UiAttempt(Forkable):
    """What one attempt has sent of its message."""

    def __init__(self, message_id: str) -> None:
        self._id = message_id
        self.is_started = False  # whether anything of it was sent
        self._metadata: Chunk = {}
        self._usage: Chunk = {}
        self._finish_reason: ev.FinishReason | None = None
        self._steps = 0
        self._has_spare_step = False
        self._count = 0
        self._parts: list[UiPart] = []
        self._open: dict[tuple[_Kind, str], UiTextPart] = {}
        self._calls: dict[str, UiToolCall] = {}
        self._data: dict[tuple[str, str], int] = {}  # the place of each part that may be replaced

    @property
    def shows(self) -> bool:
        """Whether it has any part."""
        return not all(isinstance(part, SingleChunkPart) and part.is_border for part in self._parts)

    @property
    def has_growing_parts(self) -> bool:
        """Whether it has parts that several chunks make: texts, calls."""
        return self._count > 0 or bool(self._calls)

    @property
    def is_of_one_step(self) -> bool:
        """Whether dropping the newest step's parts drops all parts."""
        return self._steps <= 1

    @property
    def has_lasting_metadata(self) -> bool:
        """Whether it has metadata that the next attempt may not replace."""
        return not self._metadata.keys() <= _METADATA_THAT_RETURNS

    def take(self, event: ev.Event) -> list[Chunk]:
        """The chunks of the next event, any but ``attempt``."""
        apply = _APPLY.get(type(event))
        return [] if apply is None else apply(self, event)

    def chunks(self) -> list[Chunk]:
        """All chunks so far, folded."""
        if not self.is_started:
            return []
        return [self._start_chunk(), *(chunk for part in self._parts for chunk in part.chunks())]

    def emptied(self) -> UiAttempt:
        """The message of the next attempt, where a client shows nothing of this one but its start and one step."""
        after = UiAttempt(self._id)
        after.is_started, after._metadata = self.is_started, self._metadata
        if self._steps:
            after._parts.append(SingleChunkPart(START_STEP))
            after._steps, after._has_spare_step = 1, True
        return after

    # -- the message and its steps

    def _start(self, event: ev.Start) -> list[Chunk]:
        known, self._metadata = self._metadata, _deeply_merged(self._metadata, event.message_metadata or {})
        if not self.is_started:
            return self._begun()
        # Another provider call of the same answer, or of the next attempt.
        return [] if self._metadata == known else [_metadata_chunk(event.message_metadata)]

    def _begun(self) -> list[Chunk]:
        if self.is_started:
            return []
        self.is_started = True
        return [self._start_chunk()]

    def _start_chunk(self) -> Chunk:
        chunk: Chunk = {"type": "start", "messageId": self._id}
        return {**chunk, "messageMetadata": self._metadata} if self._metadata else chunk

    def _start_step(self, _: ev.StartStep) -> list[Chunk]:
        return self._stepped() if self._has_spare_step else self._new_step()

    def _new_step(self) -> list[Chunk]:
        self._steps += 1
        return [*self._begun(), self._add(SingleChunkPart(START_STEP)).chunk]

    def _finish_step(self, event: ev.FinishStep) -> list[Chunk]:
        self._finish_reason = event.finish_reason or self._finish_reason
        if not self._steps:
            return []
        return [*self._all_ended(), self._add(SingleChunkPart(FINISH_STEP)).chunk]

    def _stepped(self) -> list[Chunk]:
        """The chunks that must precede a part."""
        self._has_spare_step = False
        return [] if self._steps else self._new_step()

    # -- text and reasoning

    def _open_text(self, event: ev.TextStart | ev.ReasoningStart) -> list[Chunk]:
        kind = _kind_of(event)
        chunks = self._stepped()
        if (open := self._open.pop((kind, event.id), None)) is not None:
            chunks.append(open.end())
        return [*chunks, self._opened(kind, event.id).begin(event.provider_metadata)]

    def _grow_text(self, event: ev.TextDelta | ev.ReasoningDelta) -> list[Chunk]:
        kind = _kind_of(event)
        part = self._open.get((kind, event.id))
        if part is not None:
            return part.grow(event.delta, event.provider_metadata)
        chunks = self._stepped()
        part = self._opened(kind, event.id)
        return [*chunks, part.begin(None), *part.grow(event.delta, event.provider_metadata)]

    def _end_text(self, event: ev.TextEnd | ev.ReasoningEnd) -> list[Chunk]:
        part = self._open.pop((_kind_of(event), event.id), None)
        return [] if part is None else [part.end(event.provider_metadata)]

    def _opened(self, kind: _Kind, id: str) -> UiTextPart:
        part = self._open[kind, id] = self._add(UiTextPart(kind, f"{_ID_PREFIX[kind]}-{self._count}"))
        self._count += 1
        return part

    def _all_ended(self) -> list[Chunk]:
        ended = [part.end() for part in self._open.values()]
        self._open.clear()
        return ended

    # -- tools

    def _begin_call(self, event: ev.ToolInputStart) -> list[Chunk]:
        if self._call_here(event.tool_call_id) is not None:
            return []
        chunks = self._stepped()
        return [*chunks, self._new_call(UiToolCall.of(event, step=self._steps)).begin(event)]

    def _grow_call(self, event: ev.ToolInputDelta) -> list[Chunk]:
        call = self._calls.get(event.tool_call_id)
        if call is None or call.progress is not ToolCallProgress.STREAMING:
            return []
        if call.step == self._steps:
            return call.grow(event)
        here = self._new_call(UiToolCall(call.tool_call_id, call.tool_name, self._steps, call.is_dynamic))
        self._has_spare_step = False
        return [here.resume(call), *here.grow(event)]

    def _close_call(self, event: ev.ToolInputAvailable | ev.ToolInputError) -> list[Chunk]:
        """Its whole input; in a step that has no such call, the call opens."""
        chunks: list[Chunk] = []
        if (call := self._call_here(event.tool_call_id)) is None:
            chunks = self._stepped()
            call = self._new_call(UiToolCall.of(event, step=self._steps))
        if call.progress > ToolCallProgress.AVAILABLE:
            return []
        return [*chunks, call.refuse(event) if isinstance(event, ev.ToolInputError) else call.fill(event)]

    def _answer_call(self, event: ev.ToolOutputAvailable | ev.ToolOutputError) -> list[Chunk]:
        call = self._calls.get(event.tool_call_id)
        return [] if call is None or call.progress is ToolCallProgress.ANSWERED else [call.answer(event)]

    def _call_here(self, id: str) -> UiToolCall | None:
        call = self._calls.get(id)
        return call if call is not None and call.step == self._steps else None

    def _new_call(self, call: UiToolCall) -> UiToolCall:
        self._calls[call.tool_call_id] = self._add(call)
        return call

    # -- what one chunk shows

    def _show(self, event: ev.SourceUrl | ev.SourceDocument | ev.File) -> list[Chunk]:
        chunks = self._stepped()
        return [*chunks, self._add(SingleChunkPart(msgspec.to_builtins(event))).chunk]

    def _show_data(self, event: ev.DataEvent) -> list[Chunk]:
        chunk: Chunk = msgspec.to_builtins(event)
        if event.transient:
            return [chunk]
        chunks = self._stepped()
        at = None if event.id is None else self._data.get((event.type, event.id))
        if at is not None:
            # A client takes the data over, and nothing else.
            [known] = self._parts[at].chunks()
            self._parts[at] = SingleChunkPart({**known, "data": event.data})
            return [*chunks, chunk]
        if event.id is not None:
            self._data[event.type, event.id] = len(self._parts)
        return [*chunks, self._add(SingleChunkPart(chunk)).chunk]

    # -- the end

    def _hold_usage(self, event: ev.Usage) -> list[Chunk]:
        counts: Chunk = msgspec.to_builtins(event)
        del counts["type"]
        # `estimated` concerns the latest counts only: its absence cancels an earlier one.
        self._usage = {name: value for name, value in self._usage.items() if name != "estimated"} | counts
        return []

    def _finish(self, event: ev.Finish) -> list[Chunk]:
        chunk: Chunk = {"type": "finish"}
        if (reason := event.finish_reason or self._finish_reason) is not None:
            chunk["finishReason"] = reason
        if metadata := {**self._usage_metadata(), **(event.message_metadata or {})}:
            chunk["messageMetadata"] = metadata
        return [*self._begun(), *self._all_ended(), chunk]

    def _fail(self, event: ev.Error) -> list[Chunk]:
        return [*self._torn(), error_chunk(event.error_text, code=event.code)]

    def _abort(self, event: ev.Abort) -> list[Chunk]:
        chunk = {"type": "abort"} if event.reason is None else {"type": "abort", "reason": event.reason}
        return [*self._begun(), *self._torn(), chunk]

    def _torn(self) -> list[Chunk]:
        metadata = self._usage_metadata()
        return [_metadata_chunk(metadata)] if metadata and self.is_started else []

    def _usage_metadata(self) -> Chunk:
        return {"usage": self._usage} if self._usage else {}

    def _add(self, part: _Part) -> _Part:
        self._parts.append(part)
        return part


def error_chunk(text: str, *, code: str) -> Chunk:
    """What ends a stream badly; clients show the text and let the code pass."""
    return {"type": "error", "errorText": text, "code": code}


def _metadata_chunk(metadata: Chunk | None) -> Chunk:
    return {"type": "message-metadata", "messageMetadata": metadata}


def _kind_of(event: ev.Event) -> _Kind:
    return "text" if isinstance(event, ev.TEXT) else "reasoning"


def _deeply_merged(known: Chunk, news: Chunk) -> Chunk:
    """As a client merges metadata: objects member by member, all else replaced."""
    merged = dict(known)
    for name, value in news.items():
        old = merged.get(name)
        merged[name] = _deeply_merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


_APPLY: Final[dict[type, Callable[[UiAttempt, Any], list[Chunk]]]] = {
    ev.Start: UiAttempt._start,
    ev.StartStep: UiAttempt._start_step,
    ev.FinishStep: UiAttempt._finish_step,
    ev.TextStart: UiAttempt._open_text,
    ev.TextDelta: UiAttempt._grow_text,
    ev.TextEnd: UiAttempt._end_text,
    ev.ReasoningStart: UiAttempt._open_text,
    ev.ReasoningDelta: UiAttempt._grow_text,
    ev.ReasoningEnd: UiAttempt._end_text,
    ev.ToolInputStart: UiAttempt._begin_call,
    ev.ToolInputDelta: UiAttempt._grow_call,
    ev.ToolInputAvailable: UiAttempt._close_call,
    ev.ToolInputError: UiAttempt._close_call,
    ev.ToolOutputAvailable: UiAttempt._answer_call,
    ev.ToolOutputError: UiAttempt._answer_call,
    ev.SourceUrl: UiAttempt._show,
    ev.SourceDocument: UiAttempt._show,
    ev.File: UiAttempt._show,
    ev.DataEvent: UiAttempt._show_data,
    ev.Usage: UiAttempt._hold_usage,
    ev.Finish: UiAttempt._finish,
    ev.Error: UiAttempt._fail,
    ev.Abort: UiAttempt._abort,
}
