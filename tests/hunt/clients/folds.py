"""What a client makes of a stream, dialect by dialect: the text it shows, how it ended, what it had to forget.

A fold believes what it reads and repairs nothing. ``Fold.take`` returns what the client does next.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from tests.hunt.system.wire import Block

# Codes of a response that ends before its stream: the stream itself has not failed.
CONNECTION_CODES: Final = frozenset(
    {"client_gone", "slow", "drain", "limit", "log_unavailable", "gap", "log_gone", "feed_lost", "busy"}
)
VOIDING_CODES: Final = frozenset({"gap", "log_gone", "new_attempt", "attempt"})


class Ending(NamedTuple):
    """How a stream ended; ``code`` where the dialect has one."""

    kind: str
    code: str = ""


class Next(Enum):
    """What the client does after a block."""

    READ_ON = auto()
    RESUME = auto()  # the connection is over, the stream is not: reconnect with the cursor
    DISCARD = auto()  # what it shows is void, and it requests everything anew
    DONE = auto()


class Wrong(Exception):
    """The stream breaks the dialect's own rules."""


@dataclass
class Fold(ABC):
    """What all dialects share. ``declared``: gaps and the like that the client received."""

    text: str = ""
    ending: Ending | None = None
    cursor: str | None = None
    declared: list[str] = field(default_factory=list)
    has_ids: bool = True
    keeps: bool = True  # Redis has forgotten nothing so far

    @abstractmethod
    def take(self, block: Block) -> Next:
        """One block that is no comment."""

    def note_id(self, block: Block) -> None:
        """The id that a client resumes by; an empty one takes it away."""
        if block.id is not None:
            self.cursor = block.id or None

    def begin(self, *, keeps: bool) -> None:
        """A new connection begins; ``keeps``: Redis has forgotten nothing until now."""
        self.keeps = keeps

    def forget(self) -> None:
        """Everything is requested anew."""
        self.text, self.cursor, self.ending = "", None, None

    def end(self, kind: str, code: str = "") -> Next:
        """The stream has ended, as far as this client can see."""
        self.ending = Ending(kind, code)
        return Next.DONE

    def failed(self, code: str, *, retry: bool) -> Next:
        """An error of the dialect: of the answer, of the connection, or of what was shown so far."""
        if code in VOIDING_CODES:
            if code not in ("new_attempt", "attempt"):
                self.declared.append(code)
            return Next.DISCARD
        if retry or code in CONNECTION_CODES:
            return Next.RESUME if self.has_ids else Next.DISCARD
        return self.end("error", code)


@dataclass
class NativeFold(Fold):
    """Every entry as it is stored. ``entries`` maps a seq to its epoch and event."""

    entries: list[tuple[int, int, Any]] = field(default_factory=list)
    stalls: list[str] = field(default_factory=list)

    def forget(self) -> None:
        super().forget()
        self.entries.clear()

    def take(self, block: Block) -> Next:
        body = json.loads(block.data)
        if block.event.startswith("hub."):
            return self._notice(block, body)
        if block.id is None:
            raise Wrong("an entry without an id")
        epoch, seq = map(int, block.id.split("-"))
        if self.entries:
            last_epoch, last_seq, _ = self.entries[-1]
            if seq != last_seq + 1 and not self._saw_a_gap:
                raise Wrong(f"{block.id} follows {last_epoch}-{last_seq}")
            if (epoch, seq) <= (last_epoch, last_seq):
                raise Wrong(f"{block.id} is not above {last_epoch}-{last_seq}")
        self._saw_a_gap = False
        self.entries.append((epoch, seq, body))
        self.cursor = block.id
        return self._event(body)

    _saw_a_gap: bool = False

    def _event(self, event: Any) -> Next:
        match event["type"]:
            case "text-delta":
                self.text += event["delta"]
            case "attempt":
                self.text = ""
            case "finish" | "abort" | "error" as kind:
                return self.end(kind, event.get("code", event.get("reason", "")))
        return Next.READ_ON

    def _notice(self, block: Block, body: Any) -> Next:
        match block.event:
            case "hub.gap":
                self._gap(block, body)
            case "hub.stalled":
                self.stalls.append(str(body.get("reason")))
            case "hub.bye":
                return Next.RESUME
        return Next.READ_ON

    def _gap(self, block: Block, body: Any) -> None:
        self.declared.append(body["reason"])
        self._saw_a_gap = True
        if block.id is None:
            raise Wrong("a gap without an id")
        at = int(block.id.split("-")[1])
        self.entries = [entry for entry in self.entries if entry[1] <= at]
        self.cursor = block.id
        self.text = ""
        for _, _, event in self.entries:
            self._event(event)


@dataclass
class DeltaFold(Fold):
    """``delta``."""

    def take(self, block: Block) -> Next:
        self.note_id(block)
        if block.data == "[DONE]":
            return self.end("finish") if self.ending is None else Next.DONE
        body = json.loads(block.data)
        if "error" in body:
            return self.failed(body["code"], retry=body.get("retry", False))
        if "aborted" in body:
            self.ending = Ending("abort", body["reason"])
        elif "gap" in body:
            self.declared.append(body["gap"]["reason"])
        else:
            self.text += body["delta"]
        return Next.READ_ON


@dataclass
class PartsFold(Fold):
    """``parts``."""

    def take(self, block: Block) -> Next:
        self.note_id(block)
        if block.data == "[DONE]":
            if self.ending is None:
                raise Wrong("[DONE] before an end")
            return Next.DONE
        body = json.loads(block.data)
        match body["type"]:
            case "text-delta":
                self.text += body["textDelta"]
            case "error":
                return self.failed(body["code"], retry=body.get("retry", False))
            case "finish" | "abort" as kind:
                self.ending = Ending(kind, body.get("reason", ""))
            case "gap":
                self.declared.append(body["reason"])
        return Next.READ_ON


@dataclass
class NamedFold(Fold):
    """``named``."""

    def take(self, block: Block) -> Next:
        self.note_id(block)
        body = json.loads(block.data)
        match block.event:
            case "content":
                self.text += body["delta"]
            case "retry":
                self.text = ""
            case "complete":
                return self.end("finish")
            case "aborted":
                return self.end("abort", body["reason"])
            case "error":
                return self.failed(body["code"], retry=body.get("retry", False))
            case "gap":
                self.declared.append(body["reason"])
        return Next.READ_ON


@dataclass
class AiSdkFold(Fold):
    """``ai-sdk`` and ``ai-sdk-7``: texts by their ids; ``reset-step`` drops what the newest step holds."""

    open: dict[str, bool] = field(default_factory=dict)
    step_at: int = 0

    def forget(self) -> None:
        super().forget()
        self.open.clear()
        self.step_at = 0

    def take(self, block: Block) -> Next:
        self.note_id(block)
        if block.data == "[DONE]":
            if self.ending is None:
                raise Wrong("[DONE] before an end")
            return Next.DONE
        return self._chunk(json.loads(block.data))

    def _chunk(self, body: Any) -> Next:
        match body["type"]:
            case "start-step":
                self.step_at = len(self.text)
            case "reset-step":
                self.text = self.text[: self.step_at]
                self.open.clear()
            case "text-start":
                self.open[body["id"]] = True
            case "text-end":
                if not self.open.pop(body["id"], False):
                    raise Wrong(f"text-end without its start: {body['id']}")
            case "text-delta":
                if not self.open.get(body["id"]):
                    raise Wrong(f"text-delta without its start: {body['id']}")
                self.text += body["delta"]
            case "error":
                return self.failed(body.get("code", ""), retry=False)
            case "finish" | "abort" as kind:
                self.ending = Ending(kind, body.get("reason", ""))
            case "data-gap":
                self.declared.append(body["data"]["reason"])
        return Next.READ_ON


@dataclass
class AgUiFold(Fold):
    """``ag-ui``: messages of the assistant by their ids."""

    open: set[str] = field(default_factory=set)
    is_running: bool = False

    def forget(self) -> None:
        super().forget()
        self.open.clear()
        self.is_running = False

    def begin(self, *, keeps: bool) -> None:
        super().begin(keeps=keeps)
        self.is_running = False

    def take(self, block: Block) -> Next:
        self.note_id(block)
        body = json.loads(block.data)
        type = body["type"]
        if not self.is_running and type not in ("RUN_STARTED", "RUN_ERROR"):
            raise Wrong(f"{type} before RUN_STARTED")
        match type:
            case "RUN_STARTED":
                self.is_running = True
            case "TEXT_MESSAGE_START":
                self.open.add(body["messageId"])
            case "TEXT_MESSAGE_CONTENT":
                if body["messageId"] not in self.open:
                    raise Wrong("content of a message that is not open")
                self.text += body["delta"]
            case "TEXT_MESSAGE_END":
                self.open.discard(body["messageId"])
            case "MESSAGES_SNAPSHOT":
                self.text = ""
                self.open.clear()
            case "RUN_FINISHED":
                kind = (body.get("outcome") or {}).get("type")
                return self.end("abort" if kind == "cancelled" else "finish")
            case "RUN_ERROR":
                return self._error(body)
            case "CUSTOM" if body["name"] == "hub.gap":
                self.declared.append(body["value"]["reason"])
        return Next.READ_ON

    def _error(self, body: Any) -> Next:
        if body.get("code") == "new_attempt":
            self.is_running = False
            return Next.READ_ON
        return self.failed(body.get("code", ""), retry=False)
