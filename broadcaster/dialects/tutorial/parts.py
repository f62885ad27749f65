"""The dialect ``parts``: typed objects, as ``fullStream`` of the AI SDK 4 had them.

    data: {"type":"text-delta","textDelta":"Hel"}
    data: {"type":"finish","finishReason":"stop","usage":{…}}
    data: [DONE]

Rules
1. Beside them: ``reasoning`` {textDelta}, ``tool-call`` {toolCallId, toolName, args}, ``tool-result`` {toolCallId,
   result} (``isError`` where it failed).
2. ``error`` {error, code} ends an incomplete answer, and no ``[DONE]`` follows. So does a new attempt for a client that
   has a part of the old one, since nothing can be taken back: its code is ``new_attempt``.
3. A stop is ``abort`` {reason} and ``[DONE]``, as in the AI SDK.
4. ``gap`` {reason, from, to} marks missing entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from broadcaster.core import events as ev
from broadcaster.dialects.reading import Json
from broadcaster.dialects.tutorial.transcript import DONE, SmallDialect, SseBlock, json_block


@dataclass(frozen=True, slots=True)
class PartsDialect(SmallDialect):
    """See SmallDialect."""

    name: ClassVar[str] = "parts"

    def text(self, delta: str) -> list[SseBlock]:
        return [_part("text-delta", textDelta=delta)]

    def reasoning(self, delta: str) -> list[SseBlock]:
        return [_part("reasoning", textDelta=delta)]

    def call(self, event: ev.ToolInputAvailable) -> list[SseBlock]:
        return [_part("tool-call", toolCallId=event.tool_call_id, toolName=event.tool_name, args=event.input)]

    def result(self, id: str, *, output: Any = None, error: str | None = None) -> list[SseBlock]:
        if error is not None:
            return [_part("tool-result", toolCallId=id, result=error, isError=True)]
        return [_part("tool-result", toolCallId=id, result=output)]

    def finish(self, reason: str | None, usage: Json | None) -> list[SseBlock]:
        counted = {} if usage is None else {"usage": usage}
        return [_part("finish", finishReason=reason or "other", **counted), DONE]

    def abort(self, reason: str | None) -> list[SseBlock]:
        return [_part("abort", reason=reason or "stopped"), DONE]

    def error(self, message: str, code: str, *, retry: bool = False) -> list[SseBlock]:
        return [_part("error", error=message, code=code, **({"retry": True} if retry else {}))]

    def gap(self, gap: Json) -> list[SseBlock]:
        return [_part("gap", **gap)]


def _part(type: str, **fields: Any) -> SseBlock:
    return json_block({"type": type, **fields})
