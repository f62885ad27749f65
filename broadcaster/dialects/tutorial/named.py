"""The dialect ``named``: every block has an event name, for ``addEventListener``.

    event: start      data: {"id": "gen_…", "model": "…"}
    event: content    data: {"delta": "…"}
    event: complete   data: {"finishReason": "stop", "usage": {…}}

Rules
1. Beside them: ``reasoning`` {delta}, ``tool_call`` {id, name, input}, ``tool_result`` {id, output or error}.
2. ``retry`` {attempt, reason} begins a new attempt: forget the text, it starts again with another ``start``.
3. ``error`` {message, code} ends an incomplete answer, ``aborted`` {reason} a stopped one. An EventSource also calls
   its listeners of ``error`` when a connection is lost: that event has no ``data``.
4. ``gap`` {reason, from, to} marks missing entries; ``stalled`` {reason} says why no entries come, with a reason of
   null when they come again. Clients may ignore both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from broadcaster.core import events as ev
from broadcaster.dialects.reading import Json
from broadcaster.dialects.tutorial.transcript import SmallDialect, SseBlock, json_block


@dataclass(frozen=True, slots=True)
class NamedDialect(SmallDialect):
    """See SmallDialect."""

    name: ClassVar[str] = "named"

    def start(self, stream_id: str, model: str | None) -> list[SseBlock]:
        return [json_block({"id": stream_id} | ({} if model is None else {"model": model}), "start")]

    def text(self, delta: str) -> list[SseBlock]:
        return [json_block({"delta": delta}, "content")]

    def reasoning(self, delta: str) -> list[SseBlock]:
        return [json_block({"delta": delta}, "reasoning")]

    def call(self, event: ev.ToolInputAvailable) -> list[SseBlock]:
        return [json_block({"id": event.tool_call_id, "name": event.tool_name, "input": event.input}, "tool_call")]

    def result(self, id: str, *, output: Any = None, error: str | None = None) -> list[SseBlock]:
        return [json_block({"id": id} | ({"output": output} if error is None else {"error": error}), "tool_result")]

    def finish(self, reason: str | None, usage: Json | None) -> list[SseBlock]:
        fields = {"finishReason": reason or "other"}
        return [json_block(fields if usage is None else {**fields, "usage": usage}, "complete")]

    def abort(self, reason: str | None) -> list[SseBlock]:
        return [json_block({"reason": reason or "stopped"}, "aborted")]

    def error(self, message: str, code: str, *, retry: bool = False) -> list[SseBlock]:
        return [json_block({"message": message, "code": code} | ({"retry": True} if retry else {}), "error")]

    def retry(self, event: ev.Attempt) -> list[SseBlock]:
        return [json_block({"attempt": event.attempt, "reason": event.reason}, "retry")]

    def gap(self, gap: Json) -> list[SseBlock]:
        return [json_block(gap, "gap")]

    def stalled(self, reason: str | None) -> list[SseBlock]:
        return [json_block({"reason": reason}, "stalled")]
