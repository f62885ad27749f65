"""The messages and single events of a run: each yields its own snapshot, in as few events as a late joiner needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from broadcaster.core.forking import Forkable, Pieces
from broadcaster.dialects.reading import Json


class RunPart(Protocol):
    """Something sent to the client, in its place."""

    def snapshot(self) -> list[Json]:
        """The fewest events that show it to a late joiner."""


@dataclass(frozen=True, slots=True)
class SingleEvent:
    """One event that is repeated as it was: a border of a step, a result, a custom event."""

    event: Json

    def snapshot(self) -> list[Json]:
        return [self.event]


@dataclass(slots=True)
class TextMessage(Forkable):
    """A message of the assistant; one whose text part has ended rests until something else begins."""

    id: str
    pieces: Pieces = field(default_factory=Pieces)
    is_open: bool = True

    def start(self) -> Json:
        return {"type": "TEXT_MESSAGE_START", "messageId": self.id, "role": "assistant"}

    def grow(self, delta: str) -> Json:
        self.pieces.append(delta)
        return {"type": "TEXT_MESSAGE_CONTENT", "messageId": self.id, "delta": delta}

    def end(self) -> Json:
        self.is_open = False
        return {"type": "TEXT_MESSAGE_END", "messageId": self.id}

    def snapshot(self) -> list[Json]:
        text, events = self.pieces.text, [self.start()]
        if text:
            events.append({"type": "TEXT_MESSAGE_CONTENT", "messageId": self.id, "delta": text})
        return events if self.is_open else [*events, {"type": "TEXT_MESSAGE_END", "messageId": self.id}]

    @property
    def is_fixed(self) -> bool:
        return not self.is_open


@dataclass(slots=True)
class RunReasoning(Forkable):
    """The message of a span of reasoning. It opens with the first text: many providers think without showing any."""

    id: str
    pieces: Pieces = field(default_factory=Pieces)
    encrypted: str | None = None
    is_open: bool = True

    def start(self) -> Json:
        return {"type": "REASONING_MESSAGE_START", "messageId": self.id, "role": "reasoning"}

    def grow(self, delta: str, encrypted: str | None) -> list[Json]:
        events: list[Json] = []
        if delta:
            self.pieces.append(delta)
            events.append(self._content(delta))
        if encrypted:
            self.encrypted = encrypted
            events.append(self._encrypted(encrypted))
        return events

    def end(self) -> Json:
        self.is_open = False
        return self._end()

    def snapshot(self) -> list[Json]:
        events = [self.start()]
        if text := self.pieces.text:
            events.append(self._content(text))
        if self.encrypted:
            events.append(self._encrypted(self.encrypted))
        return events if self.is_open else [*events, self._end()]

    @property
    def is_fixed(self) -> bool:
        return not self.is_open

    def _content(self, delta: str) -> Json:
        return {"type": "REASONING_MESSAGE_CONTENT", "messageId": self.id, "delta": delta}

    def _encrypted(self, value: str) -> Json:
        event = {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": self.id}
        return {**event, "encryptedValue": value}

    def _end(self) -> Json:
        return {"type": "REASONING_MESSAGE_END", "messageId": self.id}


@dataclass(slots=True)
class RunToolCall(Forkable):
    """A call of a tool. Without a name (the log's head was trimmed) it is not sent until one comes."""

    id: str
    parent: str = ""
    name: str | None = None
    pieces: Pieces = field(default_factory=Pieces)
    is_open: bool = True
    is_answered: bool = False

    def start(self) -> Json:
        event = {"type": "TOOL_CALL_START", "toolCallId": self.id, "toolCallName": self.name}
        return {**event, "parentMessageId": self.parent}

    def grow(self, delta: str) -> list[Json]:
        if not delta:
            return []
        self.pieces.append(delta)
        return [] if self.name is None else [self._args(delta)]

    def end(self) -> list[Json]:
        self.is_open = False
        return [] if self.name is None else [self._end()]

    def snapshot(self) -> list[Json]:
        if self.name is None:
            return []
        text, events = self.pieces.text, [self.start()]
        if text:
            events.append(self._args(text))
        return events if self.is_open else [*events, self._end()]

    @property
    def is_fixed(self) -> bool:
        return self.is_answered and not self.is_open

    def _args(self, delta: str) -> Json:
        return {"type": "TOOL_CALL_ARGS", "toolCallId": self.id, "delta": delta}

    def _end(self) -> Json:
        return {"type": "TOOL_CALL_END", "toolCallId": self.id}
