"""What a run has said, message by message: each can say itself again, in as few events as a late joiner needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import Pieces


class Part(Protocol):
    """Something that a client was told, in its place."""

    def again(self) -> list[Json]:
        """The shortest events that tell it to who has heard nothing."""

    def fork(self) -> Part:
        """Itself where it cannot change any more, else another one that stands where this one stands."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event that is said again as it was: a border of a step, a result, a custom event."""

    event: Json

    def again(self) -> list[Json]:
        return [self.event]

    def fork(self) -> Told:
        return self


@dataclass(slots=True)
class TextMessage:
    """A message of the assistant; one whose text part has ended rests until something else comes (ag_ui_run.py)."""

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

    def again(self) -> list[Json]:
        text, said = self.pieces.text, [self.start()]
        if text:
            said.append({"type": "TEXT_MESSAGE_CONTENT", "messageId": self.id, "delta": text})
        return said if self.is_open else [*said, {"type": "TEXT_MESSAGE_END", "messageId": self.id}]

    def fork(self) -> TextMessage:
        return replace(self, pieces=self.pieces.fork()) if self.is_open else self


@dataclass(slots=True)
class Reasoning:
    """The message of a span of reasoning. It opens with the first words: many providers think and show nothing."""

    id: str
    pieces: Pieces = field(default_factory=Pieces)
    encrypted: str | None = None
    is_open: bool = True

    def start(self) -> Json:
        return {"type": "REASONING_MESSAGE_START", "messageId": self.id, "role": "reasoning"}

    def grow(self, delta: str, encrypted: str | None) -> list[Json]:
        said: list[Json] = []
        if delta:
            self.pieces.append(delta)
            said.append(self._content(delta))
        if encrypted:
            self.encrypted = encrypted
            said.append(self._encrypted(encrypted))
        return said

    def end(self) -> Json:
        self.is_open = False
        return self._end()

    def again(self) -> list[Json]:
        said = [self.start()]
        if text := self.pieces.text:
            said.append(self._content(text))
        if self.encrypted:
            said.append(self._encrypted(self.encrypted))
        return said if self.is_open else [*said, self._end()]

    def fork(self) -> Reasoning:
        return replace(self, pieces=self.pieces.fork()) if self.is_open else self

    def _content(self, delta: str) -> Json:
        return {"type": "REASONING_MESSAGE_CONTENT", "messageId": self.id, "delta": delta}

    def _encrypted(self, value: str) -> Json:
        told = {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": self.id}
        return {**told, "encryptedValue": value}

    def _end(self) -> Json:
        return {"type": "REASONING_MESSAGE_END", "messageId": self.id}


@dataclass(slots=True)
class ToolCall:
    """A call of a tool. Without a name (the log's head was trimmed) nothing is said of it until one comes."""

    id: str
    parent: str = ""
    name: str | None = None
    pieces: Pieces = field(default_factory=Pieces)
    is_open: bool = True
    is_answered: bool = False

    def start(self) -> Json:
        told = {"type": "TOOL_CALL_START", "toolCallId": self.id, "toolCallName": self.name}
        return {**told, "parentMessageId": self.parent}

    def grow(self, delta: str) -> list[Json]:
        if not delta:
            return []
        self.pieces.append(delta)
        return [] if self.name is None else [self._args(delta)]

    def end(self) -> list[Json]:
        self.is_open = False
        return [] if self.name is None else [self._end()]

    def again(self) -> list[Json]:
        if self.name is None:
            return []
        text, said = self.pieces.text, [self.start()]
        if text:
            said.append(self._args(text))
        return said if self.is_open else [*said, self._end()]

    def fork(self) -> ToolCall:
        return self if self.is_answered and not self.is_open else replace(self, pieces=self.pieces.fork())

    def _args(self, delta: str) -> Json:
        return {"type": "TOOL_CALL_ARGS", "toolCallId": self.id, "delta": delta}

    def _end(self) -> Json:
        return {"type": "TOOL_CALL_END", "toolCallId": self.id}
