"""The messages and single events of a run: each yields its own snapshot, in as few events as a late joiner needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

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
class WrittenMessage(Forkable):
    """A message that grows; ``event`` begins the types of its events."""

    id: str
    pieces: Pieces = field(default_factory=Pieces)
    is_open: bool = True

    event: ClassVar[str]
    role: ClassVar[str]

    def start(self) -> Json:
        return {"type": f"{self.event}_START", "messageId": self.id, "role": self.role}

    def grow(self, delta: str) -> Json:
        self.pieces.append(delta)
        return self._content(delta)

    def end(self) -> Json:
        self.is_open = False
        return self._end()

    def snapshot(self) -> list[Json]:
        text, end = self.pieces.text, [] if self.is_open else [self._end()]
        return [self.start(), *([self._content(text)] if text else []), *self.extras(), *end]

    def extras(self) -> list[Json]:
        """The events between its text and its end."""
        return []

    @property
    def is_fixed(self) -> bool:
        return not self.is_open

    def _content(self, delta: str) -> Json:
        return {"type": f"{self.event}_CONTENT", "messageId": self.id, "delta": delta}

    def _end(self) -> Json:
        return {"type": f"{self.event}_END", "messageId": self.id}


class TextMessage(WrittenMessage):
    """A message of the assistant; one whose text part has ended rests until something else begins."""

    __slots__ = ()

    event = "TEXT_MESSAGE"
    role = "assistant"


@dataclass(slots=True)
class RunReasoning(WrittenMessage):
    """The message of a span of reasoning. It opens with the first text: many providers think without showing any."""

    encrypted: str | None = None

    event = "REASONING_MESSAGE"
    role = "reasoning"

    def encrypt(self, value: str) -> list[Json]:
        """What only the provider can read of it."""
        self.encrypted = value
        return self.extras()

    def extras(self) -> list[Json]:
        if not self.encrypted:
            return []
        event = {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": self.id}
        return [{**event, "encryptedValue": self.encrypted}]


@dataclass(slots=True)
class RunToolCall(Forkable):
    """A call of a tool. Without a name (the log's head was trimmed) it is not sent until one comes, with the input.

    Pieces of its arguments before that are dropped: the first ones are missing.
    """

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
        if not delta or self.name is None:
            return []
        self.pieces.append(delta)
        return [self._args(delta)]

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
