"""The wires of a provider: Messages, chat completions, Responses. The model's name and the path decide which.

A wire knows the format alone. What is written when, and what goes wrong, is the provider's.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final


class Wire(ABC):
    """One response: frames of its events, in the order of these methods."""

    def __init__(self, model: str) -> None:
        self.model = model

    @abstractmethod
    def has_result(self, body: Any) -> bool:
        """Whether the request carries a tool's result."""

    @abstractmethod
    def start(self, *, thinks: bool) -> list[bytes]:
        """What comes before the text."""

    @abstractmethod
    def text(self, text: str) -> list[bytes]:
        """One delta."""

    @abstractmethod
    def fault(self) -> list[bytes]:
        """An error in the place of an end."""

    @abstractmethod
    def end(self, *, number: int, total: int, tool: str | None) -> list[bytes]:
        """The end of call ``number``, which had ``total`` deltas; ``tool``: it calls this one."""

    def arguments(self) -> str:
        """A tool call's."""
        return json.dumps({"answer": self.model})


class AnthropicWire(Wire):
    """The Messages API."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._index = 0

    def has_result(self, body: Any) -> bool:
        return any(part.get("type") == "tool_result" for part in _parts(body))

    def start(self, *, thinks: bool) -> list[bytes]:
        message: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
        }
        usage = {"input_tokens": 7, "output_tokens": 1}
        message |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
        events = [self._frame("message_start", message=message)]
        if thinks:
            block = {"type": "thinking", "thinking": "", "signature": ""}
            events.append(self._frame("content_block_start", index=0, content_block=block))
            deltas = ({"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "c2ln"})
            events += [self._frame("content_block_delta", index=0, delta=delta) for delta in deltas]
            events.append(self._frame("content_block_stop", index=0))
            self._index = 1
        text = {"type": "text", "text": ""}
        return [*events, self._frame("content_block_start", index=self._index, content_block=text)]

    def text(self, text: str) -> list[bytes]:
        return [self._frame("content_block_delta", index=self._index, delta={"type": "text_delta", "text": text})]

    def fault(self) -> list[bytes]:
        return [self._frame("error", error={"type": "api_error", "message": "broken"})]

    def end(self, *, number: int, total: int, tool: str | None) -> list[bytes]:
        events = [self._frame("content_block_stop", index=self._index)]
        if tool is not None:
            at = self._index + 1
            block = {"type": "tool_use", "id": f"toolu_{self.model}_{number}", "name": tool, "input": {}}
            events.append(self._frame("content_block_start", index=at, content_block=block))
            arguments = {"type": "input_json_delta", "partial_json": self.arguments()}
            events.append(self._frame("content_block_delta", index=at, delta=arguments))
            events.append(self._frame("content_block_stop", index=at))
        delta = {"stop_reason": "end_turn" if tool is None else "tool_use", "stop_sequence": None}
        events.append(self._frame("message_delta", delta=delta, usage={"output_tokens": total}))
        return [*events, self._frame("message_stop")]

    def _frame(self, type: str, **fields: Any) -> bytes:
        return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n".encode()


class ChatWire(Wire):
    """Chat completions."""

    def has_result(self, body: Any) -> bool:
        return any(message.get("role") == "tool" for message in body["messages"])

    def start(self, *, thinks: bool) -> list[bytes]:
        return [self._chunk({"role": "assistant", "content": ""})]

    def text(self, text: str) -> list[bytes]:
        return [self._chunk({"content": text})]

    def fault(self) -> list[bytes]:
        return [_data({"error": {"message": "broken", "type": "server_error", "code": None}})]

    def end(self, *, number: int, total: int, tool: str | None) -> list[bytes]:
        events = []
        if tool is not None:
            function = {"name": tool, "arguments": self.arguments()}
            called = {"index": 0, "id": f"call_{self.model}_{number}", "type": "function", "function": function}
            events.append(self._chunk({"tool_calls": [called]}))
        events.append(self._chunk({}, reason="stop" if tool is None else "tool_calls"))
        counted = {"prompt_tokens": 7, "completion_tokens": total, "total_tokens": 7 + total}
        events.append(_data({**self._head(), "choices": [], "usage": counted}))
        return [*events, b"data: [DONE]\n\n"]

    def _head(self) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model}

    def _chunk(self, delta: dict[str, Any], *, reason: str | None = None) -> bytes:
        return _data({**self._head(), "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})


class ResponsesWire(Wire):
    """Responses: items by their index, numbers that rise by one, and the whole response at the end."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._number = -1
        self._output: list[dict[str, Any]] = []
        self._text = ""

    def has_result(self, body: Any) -> bool:
        return any(item.get("type") == "function_call_output" for item in body["input"] if isinstance(item, dict))

    def start(self, *, thinks: bool) -> list[bytes]:
        events = [self._frame(f"response.{name}", response=self._whole("in_progress")) for name in _BEGINNINGS]
        if thinks:
            events += self._thought()
        events.append(
            self._frame("response.output_item.added", output_index=self._at, item=self._message("in_progress"))
        )
        part = {"type": "output_text", "text": "", "annotations": []}
        return [*events, self._of_text("content_part.added", part=part)]

    def text(self, text: str) -> list[bytes]:
        self._text += text
        return [self._of_text("output_text.delta", delta=text, logprobs=[])]

    def fault(self) -> list[bytes]:
        return [self._frame("error", code="server_error", message="broken", param=None)]

    def end(self, *, number: int, total: int, tool: str | None) -> list[bytes]:
        message = self._message("completed")
        events = [self._of_text("output_text.done", text=self._text, logprobs=[])]
        events.append(self._of_text("content_part.done", part=message["content"][0]))
        events.append(self._done(message))
        if tool is not None:
            call = {"id": f"fc_{self.model}_{number}", "type": "function_call", "status": "in_progress", "name": tool}
            call |= {"call_id": f"call_{self.model}_{number}", "arguments": ""}
            events.append(self._frame("response.output_item.added", output_index=self._at, item=call))
            place, name = {"item_id": call["id"], "output_index": self._at}, "response.function_call_arguments"
            events.append(self._frame(f"{name}.delta", delta=self.arguments(), **place))
            events.append(self._frame(f"{name}.done", arguments=self.arguments(), name=tool, **place))
            events.append(self._done({**call, "status": "completed", "arguments": self.arguments()}))
        usage: dict[str, Any] = {"input_tokens": 7, "output_tokens": total, "total_tokens": 7 + total}
        usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        return [*events, self._frame("response.completed", response=self._whole("completed", usage=usage))]

    @property
    def _at(self) -> int:
        return len(self._output)

    def _thought(self) -> list[bytes]:
        item: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
        events = [self._frame("response.output_item.added", output_index=self._at, item=item)]
        place, name = {"item_id": "rs_1", "output_index": self._at, "summary_index": 0}, "response.reasoning_summary"
        part = {"type": "summary_text", "text": "hm"}
        events.append(self._frame(f"{name}_part.added", part={**part, "text": ""}, **place))
        events.append(self._frame(f"{name}_text.delta", delta="hm", **place))
        events.append(self._frame(f"{name}_text.done", text="hm", **place))
        events.append(self._frame(f"{name}_part.done", part=part, **place))
        return [*events, self._done({**item, "summary": [part]})]

    def _message(self, status: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": self._text, "annotations": []}] if status == "completed" else []
        return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": content}

    def _of_text(self, name: str, **fields: Any) -> bytes:
        return self._frame(f"response.{name}", item_id="msg_1", output_index=self._at, content_index=0, **fields)

    def _done(self, item: dict[str, Any]) -> bytes:
        self._output.append(item)
        return self._frame("response.output_item.done", output_index=self._at - 1, item=item)

    def _whole(self, status: str, *, usage: Any = None) -> dict[str, Any]:
        head = {"id": "resp_1", "object": "response", "created_at": 1, "model": self.model, "status": status}
        return {**head, "output": self._output, "usage": usage, "error": None, "incomplete_details": None, "tools": []}

    def _frame(self, type: str, **fields: Any) -> bytes:
        self._number += 1
        body = {"type": type, "sequence_number": self._number, **fields}
        return f"event: {type}\ndata: {json.dumps(body)}\n\n".encode()


_BEGINNINGS: Final = ("created", "in_progress")


def wire_of(path: str, model: str) -> Wire:
    """The wire of a request to this path."""
    for end, kind in (("/messages", AnthropicWire), ("/responses", ResponsesWire)):
        if path.endswith(end):
            return kind(model)
    return ChatWire(model)


def _data(value: Any) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _parts(body: Any) -> Iterator[dict[str, Any]]:
    for message in body["messages"]:
        if isinstance(message["content"], list):
            yield from message["content"]
