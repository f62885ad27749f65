"""The parts of a UI message, each with the chunks that make a client show it as it stands.

Rules
1. A client replaces the metadata of a part by that of the newest chunk. Ours add to each other, key by key, so each
   chunk carries all metadata so far: a signature on a delta must not cost the redacted block of the start.
2. A tool call only moves forward: input streaming, available or refused, then outputs that are preliminary, then one
   that is not. Chunks that would take it back are left out: the client would drop what it had.
3. A call belongs to the step that began it: a client looks for input no further back than the newest ``start-step``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal, Protocol, TypeAlias

from broadcaster.core import events as ev
from broadcaster.core.forking import Forkable, Pieces

Chunk: TypeAlias = dict[str, Any]

START_STEP: Final[Chunk] = {"type": "start-step"}
FINISH_STEP: Final[Chunk] = {"type": "finish-step"}


class UiPart(Protocol):
    """Something that a message shows, or a border of a step."""

    def chunks(self) -> list[Chunk]:
        """The chunks that show it to a late joiner."""


@dataclass(frozen=True, slots=True)
class SingleChunkPart:
    """A part of a single chunk: source, file, data, border of a step."""

    chunk: Chunk

    @property
    def is_border(self) -> bool:
        """Whether it shows nothing."""
        return self.chunk is START_STEP or self.chunk is FINISH_STEP

    def chunks(self) -> list[Chunk]:
        """See Part."""
        return [self.chunk]


@dataclass(slots=True)
class UiTextPart(Forkable):
    """A text or reasoning part; its id is unique in its message."""

    kind: Literal["text", "reasoning"]
    id: str
    pieces: Pieces = field(default_factory=Pieces)
    is_whole: bool = False
    metadata: ev.ProviderMetadata = field(default_factory=dict)

    @property
    def is_fixed(self) -> bool:
        """See Forkable."""
        return self.is_whole

    def begin(self, metadata: ev.ProviderMetadata | None) -> Chunk:
        """Its start."""
        return self._chunk("start", {}, metadata)

    def grow(self, delta: str, metadata: ev.ProviderMetadata | None) -> list[Chunk]:
        """The next piece; an empty one yields no chunk."""
        if not delta and not metadata:
            return []
        if delta:
            self.pieces.append(delta)
        return [self._chunk("delta", {"delta": delta}, metadata)]

    def end(self, metadata: ev.ProviderMetadata | None = None) -> Chunk:
        """Its end."""
        self.is_whole = True
        return self._chunk("end", {}, metadata)

    def chunks(self) -> list[Chunk]:
        """See Part."""
        chunks = [with_metadata({"type": f"{self.kind}-start", "id": self.id}, self.metadata)]
        if text := self.pieces.text:
            chunks.append({"type": f"{self.kind}-delta", "id": self.id, "delta": text})
        if self.is_whole:
            chunks.append({"type": f"{self.kind}-end", "id": self.id})
        return chunks

    def _chunk(self, what: str, fields: Chunk, metadata: ev.ProviderMetadata | None) -> Chunk:
        chunk = {"type": f"{self.kind}-{what}", "id": self.id, **fields}
        if not metadata:
            return chunk
        self.metadata = merged(self.metadata, metadata)
        return with_metadata(chunk, self.metadata)


class ToolCallProgress(IntEnum):
    """How far a tool call is (rule 2)."""

    STREAMING = 0
    AVAILABLE = 1
    REFUSED = 2
    PRELIMINARY = 3
    ANSWERED = 4


_Input: TypeAlias = ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError
_Output: TypeAlias = ev.ToolOutputAvailable | ev.ToolOutputError


@dataclass(slots=True)
class UiToolCall(Forkable):
    """A tool call. ``of_input`` and ``of_output`` are metadata that a client keeps apart; ``pending`` is unsent."""

    tool_call_id: str
    tool_name: str
    step: int
    is_dynamic: bool
    progress: ToolCallProgress = ToolCallProgress.STREAMING
    was_begun: bool = False
    is_provider_executed: bool | None = None
    text: Pieces = field(default_factory=Pieces)
    is_filled: bool = False
    input: Any = None
    refusal: Chunk | None = None
    outputs: list[Chunk] = field(default_factory=list)
    of_input: ev.ProviderMetadata = field(default_factory=dict)
    of_output: ev.ProviderMetadata = field(default_factory=dict)
    pending: ev.ProviderMetadata = field(default_factory=dict)

    @classmethod
    def of(cls, event: _Input, *, step: int) -> UiToolCall:
        """The call that this event is the first of."""
        return cls(event.tool_call_id, event.tool_name, step, bool(event.dynamic))

    @property
    def is_fixed(self) -> bool:
        """See Forkable."""
        return self.progress is ToolCallProgress.ANSWERED

    def begin(self, event: ev.ToolInputStart) -> Chunk:
        """Its start."""
        self._note(event)
        self.was_begun = True
        self.of_input = merged(self.of_input, event.provider_metadata)
        return self._start()

    def resume(self, call: UiToolCall) -> Chunk:
        """Its start, when an earlier step's call continues in this one (rule 3)."""
        self.was_begun = True
        self.is_provider_executed = call.is_provider_executed
        self.of_input = call.of_input
        return self._start()

    def grow(self, event: ev.ToolInputDelta) -> list[Chunk]:
        """The next fragment of its input; a client takes no metadata here, so they wait for the whole."""
        self.pending = merged(self.pending, event.provider_metadata)
        if not event.input_text_delta:
            return []
        self.text.append(event.input_text_delta)
        return [self._fragment(event.input_text_delta)]

    def fill(self, event: ev.ToolInputAvailable) -> Chunk:
        """Its whole input."""
        self._note(event)
        self.progress, self.is_filled, self.input = ToolCallProgress.AVAILABLE, True, event.input
        self.of_input = merged(merged(self.of_input, self.pending), event.provider_metadata)
        return self._whole()

    def refuse(self, event: ev.ToolInputError) -> Chunk:
        """Its input is invalid: to a client, the call ends with this."""
        self.was_begun = self.was_begun or self.progress is ToolCallProgress.AVAILABLE
        self._note(event)
        self.progress = ToolCallProgress.REFUSED
        self.of_output = merged(self.pending, event.provider_metadata)
        chunk = {**self._named("tool-input-error"), "input": event.input, "errorText": event.error_text}
        self.refusal = with_metadata(chunk, self.of_output)
        return self.refusal

    def answer(self, event: _Output) -> Chunk:
        """What the tool answered, or how it failed."""
        self._note(event)
        self.of_output = merged(self.of_output, event.provider_metadata)
        chunk: Chunk = {"toolCallId": self.tool_call_id, **self._flags()}
        if isinstance(event, ev.ToolOutputError):
            chunk = {"type": "tool-output-error", **chunk, "errorText": event.error_text}
        else:
            chunk = {"type": "tool-output-available", **chunk, "output": event.output}
        is_preliminary = isinstance(event, ev.ToolOutputAvailable) and bool(event.preliminary)
        if is_preliminary:
            chunk["preliminary"] = True
        if self.progress is ToolCallProgress.PRELIMINARY and is_preliminary:
            self.outputs.pop()
        self.progress = ToolCallProgress.PRELIMINARY if is_preliminary else ToolCallProgress.ANSWERED
        self.outputs.append(with_metadata(chunk, self.of_output))
        return self.outputs[-1]

    def chunks(self) -> list[Chunk]:
        """See Part."""
        return [*self._input_chunks(), *self.outputs]

    def _input_chunks(self) -> list[Chunk]:
        if self.refusal is not None:
            return [self._start(), self.refusal] if self.was_begun else [self.refusal]
        if self.is_filled:
            return [self._whole()]
        text = self.text.text
        return [self._start(), self._fragment(text)] if text else [self._start()]

    def _note(self, event: _Input | _Output) -> None:
        if event.provider_executed is not None:
            self.is_provider_executed = event.provider_executed
        if not isinstance(event, ev.ToolOutputAvailable | ev.ToolOutputError):
            self.tool_name = event.tool_name

    def _start(self) -> Chunk:
        return with_metadata(self._named("tool-input-start"), self.of_input)

    def _fragment(self, text: str) -> Chunk:
        return {"type": "tool-input-delta", "toolCallId": self.tool_call_id, "inputTextDelta": text}

    def _whole(self) -> Chunk:
        return with_metadata({**self._named("tool-input-available"), "input": self.input}, self.of_input)

    def _named(self, type: str) -> Chunk:
        return {"type": type, "toolCallId": self.tool_call_id, "toolName": self.tool_name, **self._flags()}

    def _flags(self) -> Chunk:
        """``dynamic`` is that of the call's first chunk: with another one a client would open a second part."""
        flags: Chunk = {}
        if self.is_provider_executed is not None:
            flags["providerExecuted"] = self.is_provider_executed
        if self.is_dynamic:
            flags["dynamic"] = True
        return flags


def merged(chunks: ev.ProviderMetadata, metadata: ev.ProviderMetadata | None) -> ev.ProviderMetadata:
    """Both, key by key; the later value wins. What was there is not changed: forks share it."""
    if not metadata:
        return chunks
    return {**chunks, **{provider: {**chunks.get(provider, {}), **extras} for provider, extras in metadata.items()}}


def with_metadata(chunk: Chunk, metadata: ev.ProviderMetadata) -> Chunk:
    """The chunk with this metadata, where there is some."""
    return {**chunk, "providerMetadata": metadata} if metadata else chunk
