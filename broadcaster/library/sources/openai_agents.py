"""Events of the OpenAI Agents SDK (``Runner.run_streamed(…)``) → events.

Rules
1. A raw event is an event of the Responses API, whichever API the model has, and the decoder of that wire reads it.
   Each response is an answer of the model, and a step of ours (`answers.Answers`).
2. The outputs of tools and of handoffs are the outputs of calls. The other items of a run repeat what the raw events
   have brought, and are left out.
3. The agent that runs is ``data-openai-agents`` with ``{"agent": name}``, at the beginning and after each handoff.
4. Closing the events of a run cancels the run. The SDK's own iterator would wait for the run's end, and a program that
   stops reading should not pay for more.
"""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from broadcaster.core import events as ev
from broadcaster.library.sources.plain_json import plain_json
from broadcaster.library.sources.wires import responses_items

PROVIDER: Final = "openai-agents"
_RAW: Final = "raw_response_event"
_ITEM: Final = "run_item_stream_event"
_AGENT: Final = "agent_updated_stream_event"
KINDS: Final = frozenset({_RAW, _ITEM, _AGENT})
_OUTPUTS: Final = frozenset({"tool_call_output_item", "handoff_output_item"})


class OpenAIAgentsItems:
    """One response of a run's model, after the outputs that led to it; see ItemDecoder."""

    def __init__(self) -> None:
        self._response = responses_items()
        self._has_response = False

    @property
    def is_whole(self) -> bool:
        """See ItemDecoder. A run may end with the output of a tool."""
        return not self._has_response or self._response.is_whole

    def begins_another(self, item: Any) -> bool:
        """See ItemDecoder."""
        if item.type == _RAW:
            return self._response.begins_another(item.data)
        return self._has_response and self.is_whole and (item.type == _AGENT or _is_output(item))

    def decode(self, item: Any) -> list[ev.Event]:
        """See ItemDecoder."""
        if item.type == _RAW:
            self._has_response = True
            return self._response.decode(item.data)
        if item.type == _AGENT:
            return [ev.DataEvent(type=f"data-{PROVIDER}", data={"agent": item.new_agent.name})]
        return [_output_of(item.item)] if _is_output(item) else []

    def flush(self) -> list[ev.Event]:
        """See ItemDecoder."""
        return self._response.flush() if self._has_response else []

    def usage_so_far(self) -> ev.Usage:
        """See ItemDecoder."""
        return self._response.usage_so_far() if self._has_response else ev.Usage(output_tokens=0)


class RunEvents:
    """The events of a run, which is cancelled when they are closed (rule 4)."""

    def __init__(self, run: Any) -> None:
        """``run`` is what ``Runner.run_streamed`` returns."""
        self._run = run
        self._events = run.stream_events()

    def __aiter__(self) -> RunEvents:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Cancel the run, unless it has ended."""
        if not self._run.is_complete:
            self._run.cancel()
        await self._events.aclose()


def is_run(source: Any) -> TypeGuard[Any]:
    """Whether this is the result of ``Runner.run_streamed``."""
    return all(callable(getattr(source, name, None)) for name in ("stream_events", "cancel", "to_input_list"))


def _is_output(item: Any) -> bool:
    return item.type == _ITEM and item.item.type in _OUTPUTS and _call_of(item.item) is not None


def _output_of(item: Any) -> ev.Event:
    output = getattr(item, "output", None) if item.type == "tool_call_output_item" else _field(item.raw_item, "output")
    return ev.ToolOutputAvailable(tool_call_id=_call_of(item) or "", output=plain_json(output))


def _call_of(item: Any) -> str | None:
    id = _field(item.raw_item, "call_id")
    return id if isinstance(id, str) else None


def _field(raw: Any, name: str) -> Any:
    """A field of an item of the API, which is a mapping or a model."""
    return raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)
