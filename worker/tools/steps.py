"""Steps: the events of one provider call, read for an agent loop. Pure; the loop is in worker/tools/agent.py.

Rules
1. The calls of a step are those that the provider does not run itself, in the order in which their arguments became
   complete. The index of a call is part of its idempotency key.
2. A ``data-tool-begun`` in the log means that a call's function may have run, and that its step's answer is complete.
3. A step is over with its ``finish-step``. Another one is resumable if one of its calls was begun or has its output;
   otherwise it is requested from the provider once more.
4. After lost attempts the log may contain several: the one that came furthest counts, because each repeats the one
   before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any, Final, TypeAlias

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.events import Event

BEGUN_TYPE: Final = "data-tool-begun"

Output: TypeAlias = ev.ToolOutputAvailable | ev.ToolOutputError


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedCall:
    """A call that the model requests. ``fault``: its arguments are not JSON, and ``input`` is their text."""

    step: int
    index: int
    id: str
    name: str
    input: Any
    fault: str | None = None


class AgentStep:
    """One provider call, with the tool calls in it and their outputs."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.events: list[Event] = []
        self.calls: list[RequestedCall] = []
        self.outputs: dict[str, Output] = {}
        self.begun: set[str] = set()
        self.is_over = False
        self.pending: list[ev.FinishStep | ev.TerminalEvent] = []
        self.finish_reason: ev.FinishReason | None = None

    @property
    def is_resumable(self) -> bool:
        """Rule 3."""
        return self.is_over or bool(self.begun or self.outputs)

    def add(self, event: Event) -> None:
        """The next event of the step."""
        self.events.append(event)
        match event:
            case ev.ToolInputAvailable(provider_executed=None | False):
                self._call(event, fault=None)
            case ev.ToolInputError(provider_executed=None | False):
                self._call(event, fault=event.error_text)
            case ev.ToolOutputAvailable(provider_executed=None | False, preliminary=None | False):
                self.outputs[event.tool_call_id] = event
            case ev.ToolOutputError(provider_executed=None | False):
                self.outputs[event.tool_call_id] = event
            case ev.DataEvent(type=type, data={"toolCallId": str(id)}) if type == BEGUN_TYPE:
                self.begun.add(id)
            case ev.FinishStep():
                self.is_over, self.finish_reason = True, event.finish_reason

    def ending(self) -> list[Event]:
        """The events that remain if no step follows: the end of the step and of the answer.

        If a lost worker had received them, they are derived from the step.
        """
        events = [*self.step_ending(), *(each for each in self.pending if not isinstance(each, ev.FinishStep))]
        reason = self.finish_reason or "tool-calls"
        return events if self.pending else [*events, ev.Finish(finish_reason=reason)]

    def step_ending(self) -> list[Event]:
        """The end of the step alone; empty if it is over."""
        if self.is_over:
            return []
        known = [each for each in self.pending if isinstance(each, ev.FinishStep)]
        return [*known[:1]] or [ev.FinishStep(finish_reason=self.finish_reason or "tool-calls")]

    def _call(self, event: ev.ToolInputAvailable | ev.ToolInputError, *, fault: str | None) -> None:
        self.calls.append(
            RequestedCall(
                step=self.number,
                index=len(self.calls),
                id=event.tool_call_id,
                name=event.tool_name,
                input=event.input,
                fault=fault,
            )
        )


def begun(call: RequestedCall, idempotency_key: str) -> ev.DataEvent:
    """Rule 2. It is no part of the answer."""
    place = {"toolCallId": call.id, "toolName": call.name, "step": call.step, "index": call.index}
    return ev.DataEvent(type=BEGUN_TYPE, id=idempotency_key, data=place, transient=True)


def recorded_steps(events: Iterable[Event]) -> list[AgentStep]:
    """The steps of earlier attempts that need not be repeated (rule 4); all but the last are over."""
    attempts: list[list[AgentStep]] = [[]]
    for event in events:
        if isinstance(event, ev.Attempt):
            attempts.append([])
        else:
            _add(attempts[-1], event)
    return max(map(_whole_part, attempts), key=_reach)


def _add(steps: list[AgentStep], event: Event) -> None:
    if not steps or (isinstance(event, ev.StartStep) and _has_begun(steps[-1])):
        steps.append(AgentStep(len(steps) + 1))
    steps[-1].add(event)


def _has_begun(step: AgentStep) -> bool:
    return any(isinstance(each, ev.StartStep) for each in step.events)


def _whole_part(steps: list[AgentStep]) -> list[AgentStep]:
    over = list(takewhile(lambda step: step.is_over, steps))
    return over + [step for step in steps[len(over) :][:1] if step.is_resumable]


def _reach(steps: list[AgentStep]) -> tuple[int, ...]:
    last = steps[-1] if steps else AgentStep(0)
    return sum(step.is_over for step in steps), len(steps), len(last.begun), len(last.outputs)


def compacted(events: Iterable[Event]) -> list[Event]:
    """The same in fewer events: deltas without metadata are joined, and only the last progress of each call stays."""
    found: list[Event] = []
    places: dict[str, int] = {}
    for key, run in groupby(events, _run_key):
        if key is not None:
            found.append(_joined(list(run)))
            continue
        for event in run:
            match event:
                case ev.DataEvent(type="data-progress", id=str(id)) if id in places:
                    found[places[id]] = event
                    continue
                case ev.DataEvent(type="data-progress", id=str(id)):
                    places[id] = len(found)
            found.append(event)
    return found


def _run_key(event: Event) -> tuple[type, str] | None:
    """What neighbours must share to become one delta; None: the event stays as it is."""
    match event:
        case ev.TextDelta(provider_metadata=None) | ev.ReasoningDelta(provider_metadata=None):
            return type(event), event.id
        case ev.ToolInputDelta(provider_metadata=None):
            return type(event), event.tool_call_id
        case _:
            return None


def _joined(run: list[Event]) -> Event:
    field = "input_text_delta" if isinstance(run[0], ev.ToolInputDelta) else "delta"
    return msgspec.structs.replace(run[0], **{field: "".join(getattr(each, field) for each in run)})
