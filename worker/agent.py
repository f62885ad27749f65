"""The agent loop: provider, tools, provider, … as one answer, from its ``start`` to its terminal event.

Rules
1. A tool that a request names alone (``{"name": "weather"}``) is the worker's: the model is told its schema, and its
   calls are run here. Every other tool is the caller's: a step that calls one ends the answer with ``tool-calls``,
   after the worker's own calls in it have been run.
2. A step is one provider call: ``start-step``, what the model says, the outputs of the worker's tools, ``finish-step``.
   The provider is asked again with all of it until a step calls no tool of ours, or was the last that may be. Calls of
   a step that ended otherwise than well (``length``, ``content-filter``, …) are not run.
3. What was told stands: one ``start``, ids of calls that no two steps share, ``usage`` over all steps.
4. Before a function runs, the log has confirmed ``data-tool-begun``; before the model hears of outputs, the outputs.
5. An attempt that takes over repeats the steps that the log holds, in fewer events, and neither asks the provider nor
   runs a tool for them. A call that was begun and has no output is made again with the same key if its tool is
   ``repeatable``; otherwise nobody knows what became of it, and the generation ends with ``tool_outcome_unknown``.
6. From the second step on no tool is forced: a ``tool_choice`` that forces one would never let the model answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import structlog

from broadcaster.core import events as ev
from broadcaster.core.cursor import START
from broadcaster.core.events import Event
from broadcaster.dialects.openai_chat_messages import OPENAI
from broadcaster.errors import LogUnavailable, ProviderFailed, ToolOutcomeUnknown
from broadcaster.log.streams import Meta, Streams
from broadcaster.log.writer import StreamWriter
from worker.providers.base import ProviderRequest
from worker.retry import Answer, Give
from worker.step_messages import messages_of
from worker.step_relay import StepRelay
from worker.steps import Call, Step, begun, compacted, recorded_steps, total
from worker.tool_runner import ToolRunner
from worker.tool_set import ToolSet
from worker.tools import ToolContext

_log = structlog.get_logger(__name__)

CALLS_AT_ONCE: Final = 16
"""Of one step: a model that calls a tool for each of a thousand rows leaves room for other generations."""
_GOOD_ENDS: Final = (None, "stop", "tool-calls")
_READ_AT_ONCE: Final = 1000
_RETRY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """What the loops of a worker stand on; ``max_steps`` bounds what a request may ask for."""

    runner: ToolRunner
    streams: Streams
    max_steps: int


class AgentLoop:
    """See the module's rules; ``run`` once. It has the mouth of an ``Answer``."""

    def __init__(
        self,
        request: ProviderRequest,
        setup: AgentSetup,
        writer: StreamWriter,
        *,
        meta: Meta,
        ask: Callable[[ProviderRequest], Answer],
    ) -> None:
        """``request`` is what ``meta`` asks for, in the words of providers; ``ask`` makes the answer of one step."""
        self._request = request
        self._meta = meta
        self._setup = setup
        self._writer = writer
        self._max_steps = min(meta.request.get("max_steps", setup.max_steps), setup.max_steps)
        self._ask = ask
        self._answer = ask(request)  # of the newest step
        self._is_asking = False
        self._received_bytes = 0  # of the steps before
        self._epoch = writer.epoch
        self._has_history = writer.last_seq > 0
        self._messages: list[Mapping[str, Any]] = list(request.messages)
        self._call_ids: set[str] = set()
        self._counted: ev.Usage | None = None
        self._give: Give = _nowhere

    @property
    def has_begun(self) -> bool:
        """Whether the newest step has given its first content."""
        return self._answer.has_begun

    def usage_so_far(self) -> ev.Usage | None:
        """The counts of all steps; None when no provider has been asked."""
        now = self._answer.usage_so_far() if self._is_asking else None
        known = [each for each in (self._counted, now) if each is not None]
        return total(known) if known else None

    @property
    def received_bytes(self) -> int:
        """What all steps have received of their providers."""
        return self._received_bytes + self._answer.received_bytes

    async def pause(self, failure: ProviderFailed) -> None:
        """See Answer.pause."""
        await self._answer.pause(failure)

    async def run(self, give: Give) -> Sequence[Event]:
        """Give on what comes; returns the last events, the terminal one last, which are not given.

        Raises (1) what ``Answer.run`` does, (2) UnknownTool, (3) ToolOutcomeUnknown (rule 5).
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
            if number >= self._max_steps or any(tools.is_callers(call.name) for call in step.calls):
                return step.ending()
            self._tell(step, step.step_ending())
            self._messages += messages_of(step)
            await self._writer.confirmed()

    # ---------------------------------------------------------------------------------------------------- one step

    async def _next(self, number: int) -> Step:
        """Ask the provider. Its ``finish-step`` is held until the outputs are there."""
        extra = self._request.extra if number == 1 else _unforced(self._request.extra)
        self._received_bytes = self.received_bytes
        self._answer = self._ask(replace(self._request, messages=tuple(self._messages), extra=extra))
        _log.info("agent_step", stream=self._writer.stream_id, step=number)
        step = Step(number)
        relay = StepRelay(step, is_first=number == 1, taken=self._call_ids, counted=self._counted)
        self._is_asking = True
        last = await self._answer.run(lambda events: self._give(relay.take(events)))
        rest = relay.take(last)
        self._counted, self._is_asking = self.usage_so_far(), False
        self._give(rest)
        return step

    async def _run_calls(self, step: Step, tools: ToolSet) -> None:
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

    async def _run_call(self, call: Call, step: Step, tools: ToolSet, *, room: asyncio.Semaphore) -> None:
        known = tools.ours.get(call.name)
        if known is None:
            told = f"there is no tool of this name; there are: {', '.join(sorted(tools.ours))}"
            self._tell(step, [ev.ToolOutputError(tool_call_id=call.id, error_text=told)])
            return
        context = ToolContext(
            generation_id=self._writer.stream_id,
            tenant=self._meta.tenant,
            metadata=self._meta.request.get("metadata", {}),
            step=call.step,
            index=call.index,
            tool_call_id=call.id,
            tell=lambda event: self._tell(step, [event]),
        )
        async with room:
            begin = partial(self._begin, call, step, context)
            self._tell(step, [await self._setup.runner.run(call, known, context, begin=begin)])

    async def _begin(self, call: Call, step: Step, context: ToolContext) -> None:
        """Rule 4. One that an earlier attempt has begun was told again with its step."""
        if call.id not in step.begun:
            self._tell(step, [begun(call, context.idempotency_key)])
        await self._writer.confirmed()

    def _tell(self, step: Step, events: Sequence[Event]) -> None:
        for event in events:
            step.add(event)
        self._give(events)

    # -------------------------------------------------------------------------------------------------- a take-over

    async def _repeat(self) -> deque[Step]:
        """Rule 5: what the log holds of earlier attempts, told again."""
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
        found: list[Event] = []
        after = START
        while True:
            try:
                entries = await self._setup.streams.read(self._writer.stream_id, after=after, count=_READ_AT_ONCE)
            except LogUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            earlier = [entry for entry in entries if entry.epoch < self._epoch]
            if not earlier:
                return found
            found += [ev.read_event(entry.event) for entry in earlier]
            after = earlier[-1].cursor


def _unforced(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rule 6, in the words of any wire."""
    match extra.get("tool_choice"):
        case None | "auto" | "none" | {"type": "auto" | "none"}:
            return extra
        case {"type": "any" | "tool", **rest}:
            kept = {name: value for name, value in rest.items() if name != "name"}
            return {**_without_own_choice(extra), "tool_choice": {"type": "auto", **kept}}
        case _:
            return {**_without_own_choice(extra), "tool_choice": "auto"}


def _without_own_choice(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """A choice that was asked for in OpenAI's own words stands beside the one that all wires know, and before it."""
    own = extra.get(OPENAI)
    if not isinstance(own, Mapping):
        return extra
    return {**extra, OPENAI: {name: value for name, value in own.items() if name != "tool_choice"}}


def _nowhere(events: Iterable[Event]) -> None:
    """Before ``run`` there is nobody to give to."""
