"""Events of Pydantic AI (``agent.run_stream_events()``, ``node.stream()``, a model's ``StreamedResponse``) → events.

Rules
1. A run has several model responses: each is a step. A step begins with its first part, and ends when a tool was called
   or returned, when part 0 starts anew, or at the end.
2. ``part_start`` replaces a part of the same index. What it replaces is closed.
3. The result of the run has the counts and the finish reason. A stream without one (``node.stream()``) ends whole when
   all of its parts have ended; both are read from its container.
4. Parts and events that ours cannot express become ``data-pydantic-ai``.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.providers.metering import OutputMeter
from broadcaster.dialects.arguments import ArgumentsReader
from broadcaster.dialects.reading import as_text, count_in, token_count, tool_input
from broadcaster.library.sources.plain_json import plain_json

PROVIDER: Final = "pydantic-ai"
_WRITTEN: Final[dict[str, ev.WrittenEvents]] = {"text": ev.TEXT, "thinking": ev.REASONING}
_CALLS: Final = ("tool-call", "builtin-tool-call")
_RETURNS: Final = ("tool-return", "builtin-tool-return")
_SILENT: Final = frozenset({"final_result"})
_REASONS: Final[dict[str, ev.FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_call": "tool-calls",
    "error": "error",
}


class PydanticAIItems:
    """One run; see ItemDecoder."""

    def __init__(self, container: Any) -> None:
        """``container`` yields the events."""
        self._container = container
        self._meter = OutputMeter()
        self._parts: dict[int, tuple[Any, str]] = {}
        self._opened = 0
        self._is_started = False
        self._is_in_step = False
        self._calls: set[str] = set()
        self._result: Any = None

    @property
    def is_whole(self) -> bool:
        """See ItemDecoder, and rule 3."""
        return self._result is not None or (self._is_started and not self._parts)

    def begins_another(self, item: Any) -> bool:
        """See ItemDecoder."""
        return self._result is not None

    def decode(self, item: Any) -> list[ev.Event]:
        """See ItemDecoder."""
        out: list[ev.Event] = []
        if not self._is_started:
            self._is_started = True
            out.append(ev.Start())
        match item.event_kind:
            case "part_start":
                self._start_part(item.index, item.part, out)
            case "part_delta":
                self._grow(item.index, item.delta, out)
            case "part_end":
                self._end_part(item.index, item.part, out)
            case "function_tool_call" | "output_tool_call":
                self._called(item.part, out)
                self._end_step(out)
            case "function_tool_result" | "output_tool_result":
                self._end_step(out)
                self._returned(getattr(item, "part", None) or item.result, out)
            case "agent_run_result":
                self._result = item.result
            case kind if kind not in _SILENT:
                out.append(_passed(item))
        return out

    def flush(self) -> list[ev.Event]:
        """See ItemDecoder."""
        out: list[ev.Event] = []
        if self.is_whole:
            reason = self._finish_reason()
            self._close_parts(out)
            out.append(self.usage_so_far())
            self._end_step(out, reason=reason)
            out.append(ev.Finish(finish_reason=reason))
        return out

    def usage_so_far(self) -> ev.Usage:
        """See ItemDecoder."""
        usage = _value(self._result or self._container, "usage")
        output = token_count(getattr(usage, "output_tokens", None))
        if not self.is_whole or not output:
            return ev.Usage(output_tokens=self._meter.estimated_tokens(), estimated=True)
        cached = token_count(getattr(usage, "cache_read_tokens", None)) or None
        stored = token_count(getattr(usage, "cache_write_tokens", None)) or None
        return ev.Usage(
            input_tokens=max(0, (token_count(usage.input_tokens) or 0) - (cached or 0) - (stored or 0)),
            output_tokens=output,
            reasoning_tokens=count_in(getattr(usage, "details", None), "reasoning_tokens"),
            cached_input_tokens=cached,
            cache_write_input_tokens=stored,
        )

    # --------------------------------------------------------------------------------------------------------- parts

    def _start_part(self, index: int, part: Any, out: list[ev.Event]) -> None:
        if index == 0 and 0 not in self._parts and not self._parts:
            self._end_step(out)
        if index in self._parts:
            self._end_part(index, self._parts[index][0], out)
        self._begin_step(out)
        kind = part.part_kind
        if kind in _WRITTEN:
            id = str(self._opened)
            self._opened += 1
            self._parts[index] = (part, id)
            out.append(_WRITTEN[kind].start(id=id))
            self._write(kind, part.content, out, id=id)
        elif kind in _CALLS:
            self._parts[index] = (part, part.tool_call_id)
            self._calls.add(part.tool_call_id)
            out.append(ev.ToolInputStart(**_call(part)))
            self._write_input(part.tool_call_id, part.args, out)
        elif kind in _RETURNS:
            self._returned(part, out)
        else:
            out.append(_passed(part))

    def _grow(self, index: int, delta: Any, out: list[ev.Event]) -> None:
        if index not in self._parts:
            out.append(_passed(delta))
            return
        part, id = self._parts[index]
        if part.part_kind in _WRITTEN:
            self._write(part.part_kind, delta.content_delta, out, id=id)
        else:
            self._write_input(id, delta.args_delta, out)

    def _end_part(self, index: int, part: Any, out: list[ev.Event]) -> None:
        _, id = self._parts.pop(index, (None, ""))
        if not id:
            return
        if part.part_kind in _WRITTEN:
            signature = getattr(part, "signature", None)
            extras = {part.provider_name or PROVIDER: {"signature": signature}} if signature else None
            out.append(_WRITTEN[part.part_kind].end(id=id, provider_metadata=extras))
        elif isinstance(part.args, dict):
            out.append(ev.ToolInputAvailable(**_call(part), input=plain_json(part.args)))
        else:
            out.append(tool_input(_call(part), part.args or "", empty={}, reader=ArgumentsReader()))

    def _write(self, kind: str, text: str | None, out: list[ev.Event], *, id: str) -> None:
        if text:
            self._meter.count(text)
            out.append(_WRITTEN[kind].delta(id=id, delta=text))

    def _write_input(self, id: str, args: Any, out: list[ev.Event]) -> None:
        """Arguments that come as an object are no text to show: the part's end has them."""
        if isinstance(args, str) and args:
            self._meter.count(args)
            out.append(ev.ToolInputDelta(tool_call_id=id, input_text_delta=args))

    # --------------------------------------------------------------------------------------------------------- tools

    def _called(self, part: Any, out: list[ev.Event]) -> None:
        """A call that the model has not streamed."""
        if part.tool_call_id not in self._calls:
            self._begin_step(out)
            self._calls.add(part.tool_call_id)
            self._parts[-1] = (part, part.tool_call_id)
            out.append(ev.ToolInputStart(**_call(part)))
            self._end_part(-1, part, out)

    def _returned(self, part: Any, out: list[ev.Event]) -> None:
        content = plain_json(part.content)
        if part.part_kind in _RETURNS and getattr(part, "outcome", "success") == "success":
            out.append(ev.ToolOutputAvailable(tool_call_id=part.tool_call_id, output=content))
        else:
            out.append(ev.ToolOutputError(tool_call_id=part.tool_call_id, error_text=as_text(content)))

    # --------------------------------------------------------------------------------------------------------- steps

    def _begin_step(self, out: list[ev.Event]) -> None:
        if not self._is_in_step:
            self._is_in_step = True
            out.append(ev.StartStep())

    def _end_step(self, out: list[ev.Event], reason: ev.FinishReason | None = None) -> None:
        if self._is_in_step:
            self._close_parts(out)
            self._is_in_step = False
            out.append(ev.FinishStep(finish_reason=reason))

    def _close_parts(self, out: list[ev.Event]) -> None:
        for index, (part, _) in list(self._parts.items()):
            self._end_part(index, part, out)

    def _finish_reason(self) -> ev.FinishReason | None:
        found = self._result or self._container
        raw = getattr(_value(found, "response"), "finish_reason", None) or getattr(found, "finish_reason", None)
        return _REASONS.get(raw, "other") if isinstance(raw, str) else None


def _value(holder: Any, name: str) -> Any:
    """A value that some releases offer as a method."""
    value = getattr(holder, name, None)
    return value() if inspect.ismethod(value) else value


def _call(part: Any) -> dict[str, Any]:
    is_providers = True if part.part_kind == "builtin-tool-call" else None
    return {"tool_call_id": part.tool_call_id, "tool_name": part.tool_name, "provider_executed": is_providers}


def _passed(item: Any) -> ev.DataEvent:
    return ev.DataEvent(type=f"data-{PROVIDER}", data=plain_json(item))
