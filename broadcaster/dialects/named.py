"""The dialect ``named``: every block says by its event's name what it is, for ``addEventListener``.

    event: start      data: {"id": "gen_…", "model": "…"}
    event: content    data: {"delta": "…"}
    event: complete   data: {"finishReason": "stop", "usage": {…}}

Rules
1. Beside them: ``reasoning`` {delta}, ``tool_call`` {id, name, input}, ``tool_result`` {id, output or error}.
2. ``retry`` {attempt, reason} begins a new attempt: forget the text, it starts again with another ``start``.
3. ``error`` {message, code} is the end of an answer that is not whole, ``aborted`` {reason} the end of one that was
   stopped. An EventSource also calls its listeners of ``error`` when a connection is lost: that event has no ``data``.
4. ``gap`` {reason, from, to} says that entries are missing here; ``stalled`` {reason} why nothing comes, with a reason
   of null when it goes on. Who listens to neither is not disturbed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from broadcaster.core import events as ev
from broadcaster.dialects.reading import Json
from broadcaster.dialects.small import Said, SmallDialect, said


@dataclass(frozen=True, slots=True)
class NamedDialect(SmallDialect):
    """See SmallDialect."""

    name: ClassVar[str] = "named"

    def start(self, stream_id: str, model: str | None) -> list[Said]:
        return [said({"id": stream_id} | ({} if model is None else {"model": model}), "start")]

    def text(self, delta: str) -> list[Said]:
        return [said({"delta": delta}, "content")]

    def reasoning(self, delta: str) -> list[Said]:
        return [said({"delta": delta}, "reasoning")]

    def call(self, event: ev.ToolInputAvailable) -> list[Said]:
        return [said({"id": event.tool_call_id, "name": event.tool_name, "input": event.input}, "tool_call")]

    def result(self, id: str, *, output: Any = None, error: str | None = None) -> list[Said]:
        return [said({"id": id} | ({"output": output} if error is None else {"error": error}), "tool_result")]

    def finish(self, reason: str | None, usage: Json | None) -> list[Said]:
        told = {"finishReason": reason or "other"}
        return [said(told if usage is None else {**told, "usage": usage}, "complete")]

    def abort(self, reason: str | None) -> list[Said]:
        return [said({"reason": reason or "stopped"}, "aborted")]

    def error(self, message: str, code: str, *, retry: bool = False) -> list[Said]:
        return [said({"message": message, "code": code} | ({"retry": True} if retry else {}), "error")]

    def retry(self, event: ev.Attempt) -> list[Said]:
        return [said({"attempt": event.attempt, "reason": event.reason}, "retry")]

    def gap(self, gap: Json) -> list[Said]:
        return [said(gap, "gap")]

    def stalled(self, reason: str | None) -> list[Said]:
        return [said({"reason": reason}, "stalled")]
