"""The agent loop: provider, tools, provider, … as one answer, from its ``start`` to its terminal event.

Rules
1. A tool that a request gives only by name (``{"name": "weather"}``) is the worker's: the model gets its schema, and
   the worker runs its calls. Every other tool is the caller's: a step that calls one ends the answer with
   ``tool-calls``, after the worker's own calls in it have run.
2. A step is one provider call: ``start-step``, the model's output, the outputs of the worker's tools, ``finish-step``.
   The next request contains all of it. The loop ends with a step that calls no tool of the worker, or with the last
   step allowed. Calls of a step that did not end normally (``length``, ``content-filter``, …) are not run.
3. All steps are one answer: one ``start``, ids of calls that no two steps share, ``usage`` over all steps.
4. A function runs only after the log has confirmed ``data-tool-begun``. The model gets outputs only after the log has
   confirmed them.
5. An attempt that takes over repeats the steps in the log, in fewer events, without calling the provider or a tool for
   them. If a call was begun and has no output, it is repeated with the same key if its tool is ``repeatable``.
   Otherwise its outcome is unknown, and the generation ends with ``tool_outcome_unknown``.
6. From the second step on no tool is forced: with a ``tool_choice`` that forces one, the model could never answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.events import Event
from broadcaster.core.providers.metering import total_usage
from broadcaster.dialects.openai.own_fields import OPENAI
from broadcaster.errors import LogUnavailable, ProviderFailed, ToolOutcomeUnknown
from broadcaster.log.streams.pages import read_pages
from broadcaster.log.streams.reader import Meta, Streams
from broadcaster.log.streams.writer import StreamWriter
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from worker.observing.attempt_report import CallFacts
from worker.providers.base import ProviderRequest
from worker.retry import Give, ModelAnswer
from worker.tools import ToolContext
from worker.tools.step_messages import messages_of
from worker.tools.step_relay import StepRelay
from worker.tools.steps import AgentStep, RequestedCall, begun, compacted, recorded_steps
from worker.tools.tool_runner import ToolRunner
from worker.tools.tool_set import ToolSet

_log = get_logger(__name__)

CALLS_AT_ONCE: Final = 16
"""Calls of one step: a model may call a tool for each of a thousand rows and must leave room for other generations."""
_GOOD_ENDS: Final = (None, "stop", "tool-calls")
_RETRY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """What the loops of a worker share; ``max_steps`` is the most that a request may set."""

    runner: ToolRunner
    streams: Streams
    max_steps: int


class AgentLoop:
    """See the module's rules; ``run`` once. It has the same interface as ``ModelAnswer``."""

    def __init__(
        self,
        request: ProviderRequest,
        setup: AgentSetup,
        writer: StreamWriter,
        *,
        meta: Meta,
        create_answer: Callable[[ProviderRequest], ModelAnswer],
        facts: CallFacts | None = None,
    ) -> None:
        """``request`` is the request of ``meta`` for providers; ``create_answer`` creates the answer of one step."""
        self._facts = facts or CallFacts()
        self._request = request
        self._meta = meta
        self._setup = setup
        self._writer = writer
        self._max_steps = min(meta.request.get("max_steps", setup.max_steps), setup.max_steps)
        self._create_answer = create_answer
        self._answer = create_answer(request)  # of the newest step
        self._is_requesting = False
        self._received_bytes = 0  # of the steps before
        self._epoch = writer.epoch
        self._has_history = writer.last_seq > 0
        self._messages: list[Mapping[str, Any]] = list(request.messages)
        self._call_ids: set[str] = set()
        # Both are of the steps before the newest. The answer begins with the steps that earlier attempts recorded, and
        # each of these has counted its own. What a killed worker recorded is counted by no attempt, as is the rest of
        # its attempt (log/access/daily_usage.py, rule 2).
        self._counted: ev.Usage | None = None
        self._spent: ev.Usage | None = None
        self.steps: int = 0  # that this attempt has requested
        self._give: Give = lambda _: None  # before ``run``

    @property
    def has_begun(self) -> bool:
        """Whether the newest step has its first content."""
        return self._answer.has_begun

    def usage_so_far(self) -> ev.Usage | None:
        """The counts of the answer, of all its steps; None before the first one."""
        return self._with_newest(self._counted)

    def spent_so_far(self) -> ev.Usage | None:
        """What the steps have cost that this attempt requested, and no repeated one; None before the first request."""
        return self._with_newest(self._spent)

    def _with_newest(self, before: ev.Usage | None) -> ev.Usage | None:
        now = self._answer.usage_so_far() if self._is_requesting else None
        known = [each for each in (before, now) if each is not None]
        return total_usage(known) if known else None

    @property
    def received_bytes(self) -> int:
        """The bytes that all steps have received from their providers."""
        return self._received_bytes + self._answer.received_bytes

    async def pause(self, failure: ProviderFailed) -> None:
        """See ModelAnswer.pause."""
        await self._answer.pause(failure)

    async def run(self, give: Give) -> Sequence[Event]:
        """Pass on the events as they come; returns the last ones, which are not passed on, the terminal event last.

        Raises (1) what ``ModelAnswer.run`` does, (2) UnknownTool, (3) ToolOutcomeUnknown (rule 5).
        """
        self._give = give
        tools = ToolSet.of(self._request.tools, self._setup.runner.box)
        self._request = replace(self._request, tools=tools.definitions)
        recorded = await self._repeat()
        number = 0
        while True:
            number += 1
            step = recorded.popleft() if recorded else await self._next(number)
            self._call_ids |= {call.id for call in step.calls}
            if step.finish_reason not in _GOOD_ENDS or all(tools.is_callers(call.name) for call in step.calls):
                return step.ending()
            await self._run_calls(step, tools)
            if number >= self._max_steps:
                limit_reached("MAX_STEPS")
                return step.ending()
            if any(tools.is_callers(call.name) for call in step.calls):
                return step.ending()
            self._emit(step, step.step_ending())
            self._messages += messages_of(step)
            await self._writer.confirmed()

    # ---------------------------------------------------------------------------------------------------- one step

    async def _next(self, number: int) -> AgentStep:
        """Request one step. Its ``finish-step`` is kept back until the outputs are there."""
        extra = self._request.extra if number == 1 else _unforced(self._request.extra)
        self._received_bytes = self.received_bytes
        self._answer = self._create_answer(replace(self._request, messages=tuple(self._messages), extra=extra))
        self.steps += 1
        _log.info("agent_step", stream=self._writer.stream_id, step=number)
        step = AgentStep(number)
        relay = StepRelay(step, is_first=number == 1, taken=self._call_ids, counted=self._counted)
        self._is_requesting = True
        last = await self._answer.run(lambda events: self._give(relay.take(events)))
        rest = relay.take(last)
        self._counted, self._spent, self._is_requesting = self.usage_so_far(), self.spent_so_far(), False
        self._give(rest)
        return step

    async def _run_calls(self, step: AgentStep, tools: ToolSet) -> None:
        missing = [call for call in step.calls if call.id not in step.outputs and not tools.is_callers(call.name)]
        for call in missing:
            known = tools.ours.get(call.name)
            if call.id in step.begun and not (known and known.repeatable):
                _log.error("tool_outcome_unknown", stream=self._writer.stream_id, tool=call.name, step=step.number)
                raise ToolOutcomeUnknown(
                    f"the worker was lost while it ran the tool {call.name}, which may not be run twice"
                )
        room = asyncio.Semaphore(CALLS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for call in missing:
                group.create_task(self._run_call(call, step, tools, room=room))

    async def _run_call(self, call: RequestedCall, step: AgentStep, tools: ToolSet, *, room: asyncio.Semaphore) -> None:
        known = tools.ours.get(call.name)
        if known is None:
            text = f"there is no tool of this name; there are: {', '.join(sorted(tools.ours))}"
            self._emit(step, [ev.ToolOutputError(tool_call_id=call.id, error_text=text)])
            return
        context = ToolContext(
            generation_id=self._writer.stream_id,
            tenant=self._meta.tenant,
            metadata=self._meta.request.get("metadata", {}),
            step=call.step,
            index=call.index,
            tool_call_id=call.id,
            tell=lambda event: self._emit(step, [event]),
        )
        async with room:
            begin = partial(self._begin, call, step, context)
            with self._facts.tool_call(call.name, call.id) as outputs:
                outputs.append(await self._setup.runner.run(call, known, context, begin=begin))
            self._emit(step, outputs)

    async def _begin(self, call: RequestedCall, step: AgentStep, context: ToolContext) -> None:
        """Rule 4. If an earlier attempt has begun the call, its ``data-tool-begun`` was repeated with the step."""
        if call.id not in step.begun:
            self._emit(step, [begun(call, context.idempotency_key)])
        await self._writer.confirmed()

    def _emit(self, step: AgentStep, events: Sequence[Event]) -> None:
        for event in events:
            step.add(event)
        self._give(events)

    # -------------------------------------------------------------------------------------------------- a take-over

    async def _repeat(self) -> deque[AgentStep]:
        """Rule 5: repeat the steps of earlier attempts from the log."""
        if not self._has_history:
            return deque()
        steps = recorded_steps(await self._history())
        events = compacted(event for step in steps for event in step.events)
        if events:
            _log.info("steps_repeated", stream=self._writer.stream_id, steps=len(steps), events=len(events))
            self._give(events)
        self._counted = next((event for event in reversed(events) if isinstance(event, ev.Usage)), None)
        return deque(steps)

    async def _history(self) -> list[Event]:
        while True:
            try:
                return [
                    ev.read_event(entry.event)
                    async for entries in read_pages(self._setup.streams, self._writer.stream_id)
                    for entry in entries
                    if entry.epoch < self._epoch
                ]
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)


def _unforced(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rule 6, on any wire."""
    match extra.get("tool_choice"):
        case None | "auto" | "none" | {"type": "auto" | "none"}:
            return extra
        case {"type": "any" | "tool", **rest}:
            kept = {name: value for name, value in rest.items() if name != "name"}
            return {**_own_unforced(extra), "tool_choice": {"type": "auto", **kept}}
        case _:
            return {**_own_unforced(extra), "tool_choice": "auto"}


def _own_unforced(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without OpenAI's own ``tool_choice``, which takes precedence over the one that all wires know.

    One that limits the tools stays, and forces none of them.
    """
    own = extra.get(OPENAI)
    if not isinstance(own, Mapping):
        return extra
    kept = {name: value for name, value in own.items() if name != "tool_choice"}
    match own.get("tool_choice"):
        case {"type": "allowed_tools", "allowed_tools": Mapping() as allowed}:
            kept["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {**allowed, "mode": "auto"}}
    return {**extra, OPENAI: kept}
