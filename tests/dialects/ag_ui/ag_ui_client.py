"""What the user of an AG-UI client is left with: the rules of ``@ag-ui/client`` 1.0.0 (test_ag_ui_client.py).

It refuses what the client refuses, and more: null where a field is optional, CR, an empty ``data``, and a run that
begins with anything open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.dialects.frames import blocks_of

Json = dict[str, Any]


class Refused(Exception):
    """The client gives up on the stream."""


class AgUiClient:
    """Messages and outcome after ``read``; ``messages`` are those of the conversation before the run."""

    def __init__(self, messages: Sequence[Json] = ()) -> None:
        self.messages: list[Json] = [dict(message) for message in messages]
        self.outcome = "none"
        self.error: str | None = None
        self.errors: list[str | None] = []
        self.pending: list[str] = []
        self.usage: Any = None
        self.metadata: Any = None
        self.customs: list[tuple[str, Any]] = []
        self.ids: list[str] = []
        self._open: dict[str, set[str]] = {}
        self._called: list[str] = []
        self._answered: set[str] = set()

    def read(self, raw: bytes) -> AgUiClient:
        for block in blocks_of(raw):
            if block.id is not None:
                self.ids.append(block.id)
            assert block.event is None
            self._apply(json.loads(block.data))
        return self

    @property
    def left_with(self) -> Json:
        """All that outlives the connection."""
        ending = {"outcome": self.outcome, "error": self.error, "pending": self.pending, "usage": self.usage}
        return {"messages": self.messages, **ending, "metadata": self.metadata}

    @property
    def text(self) -> str:
        return "".join(m.get("content", "") for m in self.messages if m["role"] == "assistant")

    def _apply(self, event: Json) -> None:
        _refuse_null({name: value for name, value in event.items() if name not in ("value", "metadata")})
        kind = event["type"]
        if kind == "RUN_STARTED":
            if self.outcome == "running":
                raise Refused("a run is active")
            self.outcome, self.error, self._open, self._called, self._answered = "running", None, {}, [], set()
        elif kind == "RUN_ERROR":
            self.outcome, self.error, self.usage = "error", event["message"], event.get("usage")
            self.errors.append(event.get("code"))
        elif self.outcome != "running":
            raise Refused(f"{kind} outside a run")
        elif kind == "RUN_FINISHED":
            self._finish(event)
        elif kind == "CUSTOM":
            self.customs.append((event["name"], event["value"]))
        else:
            _APPLY[kind](self, event)

    def _finish(self, event: Json) -> None:
        if any(self._open.values()):
            raise Refused(f"open at the end: {self._open}")
        self.outcome = event["outcome"]["type"]
        derived = [id for id in self._called if id not in self._answered]
        named = event["outcome"].get("pendingToolCallIds") or derived
        self.pending = named if self.outcome == "success" else []
        self.usage, self.metadata = event.get("usage"), event.get("metadata")

    def _opened(self, kind: str, id: str) -> None:
        if id in self._open.setdefault(kind, set()):
            raise Refused(f"{kind} {id} is open already")
        self._open[kind].add(id)

    def _check_open(self, kind: str, id: str) -> None:
        if id not in self._open.get(kind, ()):
            raise Refused(f"{kind} {id} is not open")

    def _closed(self, kind: str, id: str) -> None:
        self._check_open(kind, id)
        self._open[kind].remove(id)

    def _message(self, id: str) -> Json | None:
        return next((message for message in self.messages if message["id"] == id), None)

    def _start_message(self, event: Json) -> None:
        role = event["role"]
        self._opened(role, event["messageId"])
        if self._message(event["messageId"]) is None:
            self.messages.append({"id": event["messageId"], "role": role, "content": ""})

    def _grow_message(self, event: Json) -> None:
        role = "reasoning" if event["type"].startswith("REASONING") else "assistant"
        self._check_open(role, event["messageId"])
        message = self._message(event["messageId"])
        if message is None:
            raise Refused("no such message")
        message["content"] = message.get("content", "") + event["delta"]

    def _encrypt(self, event: Json) -> None:
        message = self._message(event["entityId"])
        if message is None:
            raise Refused("no such message")
        message["encryptedValue"] = event["encryptedValue"]

    def _owner(self, call: str) -> tuple[int, Json] | None:
        for at, message in enumerate(self.messages):
            for each in message.get("toolCalls", ()):
                if each["id"] == call:
                    return at, each
        return None

    def _start_call(self, event: Json) -> None:
        id, parent = event["toolCallId"], event["parentMessageId"]
        self._opened("call", id)
        self._called.append(id)
        if self._owner(id) is not None:
            raise Refused("a call is started twice")
        message = self._message(parent)
        if message is None:
            message = {"id": parent, "role": "assistant", "toolCalls": []}
            self.messages.append(message)
        call = {"id": id, "type": "function", "function": {"name": event["toolCallName"], "arguments": ""}}
        message.setdefault("toolCalls", []).append(call)

    def _grow_call(self, event: Json) -> None:
        self._check_open("call", event["toolCallId"])
        owner = self._owner(event["toolCallId"])
        assert owner is not None
        owner[1]["function"]["arguments"] += event["delta"]

    def _answer_call(self, event: Json) -> None:
        self._answered.add(event["toolCallId"])
        fields = {
            "id": event["messageId"],
            "toolCallId": event["toolCallId"],
            "role": "tool",
            "content": event["content"],
        }
        if self._message(event["messageId"]) is not None:
            raise Refused("a message id is used twice")
        owner = self._owner(event["toolCallId"])
        at = len(self.messages) if owner is None else owner[0] + 1
        while owner is not None and at < len(self.messages) and self.messages[at]["role"] == "tool":
            at += 1
        self.messages.insert(at, fields)

    def _replace_messages(self, event: Json) -> None:
        new = {message["id"]: message for message in event["messages"]}
        keeps_reasoning = all(message["role"] != "reasoning" for message in event["messages"])
        kept = [m for m in self.messages if m["id"] in new or (m["role"] == "reasoning" and keeps_reasoning)]
        known = {message["id"] for message in kept}
        self.messages = [dict(new.get(message["id"], message)) for message in kept]
        self.messages += [dict(message) for id, message in new.items() if id not in known]


def _refuse_null(value: Any) -> None:
    if value is None:
        raise Refused("null")
    if isinstance(value, dict):
        for each in value.values():
            _refuse_null(each)
    elif isinstance(value, list):
        for each in value:
            _refuse_null(each)


_APPLY: dict[str, Callable[[AgUiClient, Json], None]] = {
    "STEP_STARTED": lambda client, event: client._opened("step", event["stepName"]),
    "STEP_FINISHED": lambda client, event: client._closed("step", event["stepName"]),
    "TEXT_MESSAGE_START": AgUiClient._start_message,
    "TEXT_MESSAGE_CONTENT": AgUiClient._grow_message,
    "TEXT_MESSAGE_END": lambda client, event: client._closed("assistant", event["messageId"]),
    "REASONING_START": lambda client, event: client._opened("span", event["messageId"]),
    "REASONING_MESSAGE_START": AgUiClient._start_message,
    "REASONING_MESSAGE_CONTENT": AgUiClient._grow_message,
    "REASONING_ENCRYPTED_VALUE": AgUiClient._encrypt,
    "REASONING_MESSAGE_END": lambda client, event: client._closed("reasoning", event["messageId"]),
    "REASONING_END": lambda client, event: client._closed("span", event["messageId"]),
    "TOOL_CALL_START": AgUiClient._start_call,
    "TOOL_CALL_ARGS": AgUiClient._grow_call,
    "TOOL_CALL_END": lambda client, event: client._closed("call", event["toolCallId"]),
    "TOOL_CALL_RESULT": AgUiClient._answer_call,
    "MESSAGES_SNAPSHOT": AgUiClient._replace_messages,
}
