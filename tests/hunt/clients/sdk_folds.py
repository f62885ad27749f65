"""Folds of the dialects whose clients have no SSE ids: chat completions, Responses, Messages."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from tests.hunt.clients.folds import (
    AgUiFold,
    AiSdkFold,
    DeltaFold,
    Ending,
    Fold,
    NamedFold,
    NativeFold,
    Next,
    PartsFold,
    Wrong,
)
from tests.hunt.system.wire import Block

_RESTARTED: Final = "may be sent again"


@dataclass
class ChatFold(Fold):
    """``openai-chat``."""

    has_ids: bool = False

    def take(self, block: Block) -> Next:
        if block.id is not None:
            raise Wrong("an id on a chunk: the Python SDK dies of the next heartbeat")
        if block.data == "[DONE]":
            if self.ending is None:
                raise Wrong("[DONE] before a finish_reason")
            return Next.DONE
        body = json.loads(block.data)
        if "error" in body:
            return self.failed(str(body["error"].get("code") or ""), retry=False)
        for choice in body["choices"]:
            self.text += choice["delta"].get("content") or ""
            if choice["finish_reason"] is not None:
                is_aborted = (body.get("broadcaster") or {}).get("status") == "aborted"
                self.ending = Ending("abort" if is_aborted else "finish")
        return Next.READ_ON


@dataclass
class AnthropicFold(Fold):
    """``anthropic``."""

    has_ids: bool = False
    reason: str | None = None
    is_started: bool = False
    open: set[int] = field(default_factory=set)

    def forget(self) -> None:
        super().forget()
        self.reason, self.is_started = None, False
        self.open.clear()

    def take(self, block: Block) -> Next:
        body = json.loads(block.data)
        if body["type"] != block.event:
            raise Wrong(f"event {block.event} says {body['type']}")
        if not self.is_started and body["type"] not in ("message_start", "ping", "error"):
            raise Wrong(f"{body['type']} before message_start")
        match body["type"]:
            case "message_start":
                if self.is_started:
                    raise Wrong("a second message_start")
                self.is_started = True
            case "content_block_start":
                self.open.add(body["index"])
                self.text += body["content_block"].get("text", "")
            case "content_block_stop":
                self.open.remove(body["index"])
            case "content_block_delta":
                if body["index"] not in self.open:
                    raise Wrong("a delta of a block that is not open")
                self.text += body["delta"].get("text", "")
            case "message_delta":
                self.reason = body["delta"]["stop_reason"]
            case "message_stop":
                return self.end("abort" if self.reason == "cancelled" else "finish")
            case "error":
                return Next.DISCARD if _RESTARTED in body["error"]["message"] else self.end("error")
        return Next.READ_ON


@dataclass
class ResponsesFold(Fold):
    """``openai-responses``: numbers rise, by one where the client resumes; the final object equals the deltas.

    Without a number to resume from, a late joiner receives a short opening that leaves numbers out. A new attempt's
    numbers lie far above: what was open is closed under them, and ``response.in_progress`` comes before any text.
    """

    number: int = -1
    items: dict[int, str] = field(default_factory=dict)
    is_dense: bool = False
    has_jumped: bool = False

    def begin(self, *, keeps: bool) -> None:
        super().begin(keeps=keeps)
        self.is_dense = self.number >= 0 and self.keeps

    def forget(self) -> None:
        super().forget()
        self.number = -1
        self.has_jumped = False
        self.items.clear()

    def take(self, block: Block) -> Next:
        body = json.loads(block.data)
        number, type = body["sequence_number"], body["type"]
        if type == "error":
            return self._error(body)
        if number <= self.number or (self.has_jumped and type == "response.output_text.delta"):
            raise Wrong(f"number {number} ({type}) follows {self.number}")
        self.has_jumped = self.is_dense and (self.has_jumped or number != self.number + 1)
        self.number = number
        match type:
            case "response.created" | "response.in_progress":
                self.items.clear()
                self.has_jumped = False
            case "response.output_item.added":
                self.items[body["output_index"]] = ""
            case "response.output_text.delta":
                if body["output_index"] not in self.items:
                    raise Wrong("a delta of an item that was not added")
                self.items[body["output_index"]] += body["delta"]
            case "response.completed" | "response.incomplete" | "response.failed":
                return self._ended(body["response"])
        self.text = "".join(self.items.values())
        return Next.READ_ON

    def _error(self, body: Any) -> Next:
        code = str(body.get("code") or "")
        if code in ("gap", "log_gone"):
            self.declared.append(code)
            return Next.DISCARD
        if body["sequence_number"] <= self.number:
            return Next.RESUME
        # An event of its own, before `response.failed`.
        self.number = body["sequence_number"]
        return Next.READ_ON

    def _ended(self, response: Any) -> Next:
        status = response["status"]
        if status == "failed":
            self.text = "".join(self.items.values())
            return self.failed(str((response.get("error") or {}).get("code") or ""), retry=False)
        messages = [item for item in response["output"] if item["type"] == "message"]
        joined = "".join(part["text"] for item in messages for part in item["content"])
        self.text = "".join(self.items.values())
        if joined != self.text:
            raise Wrong(f"the final object has {joined[-200:]!r}, the deltas gave {self.text[-200:]!r}")
        return self.end("abort" if status == "cancelled" else "finish")


FOLDS: Final[dict[str, type[Fold]]] = {
    "native": NativeFold,
    "delta": DeltaFold,
    "parts": PartsFold,
    "named": NamedFold,
    "ai-sdk": AiSdkFold,
    "ai-sdk-7": AiSdkFold,
    "ag-ui": AgUiFold,
    "openai-chat": ChatFold,
    "openai-responses": ResponsesFold,
    "anthropic": AnthropicFold,
}
