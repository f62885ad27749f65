"""The relay of one step: turns a provider's complete answer into one step of a longer answer.

Rules
1. Only the first step has a ``start``; the metadata of a later ``start`` moves to its ``start-step``.
2. A call with the id of an earlier step gets another id: some servers number their calls from 0 in every answer.
3. ``usage`` includes the earlier steps.
4. ``finish-step`` and the terminal event are kept back in ``AgentStep.pending``: the outputs of tools come before them.
   Both name the provider and the model, because the terminal event of a step that another one follows is never sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any, Final, TypeAlias

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.events import Event
from broadcaster.core.providers.metering import total_usage
from worker.tools.steps import AgentStep

_CallEvent: TypeAlias = (
    ev.ToolInputStart
    | ev.ToolInputDelta
    | ev.ToolInputAvailable
    | ev.ToolInputError
    | ev.ToolOutputAvailable
    | ev.ToolOutputError
)
_ENDS: Final = (ev.FinishStep, ev.Finish, ev.Error, ev.Abort)


class StepRelay:
    """See the module's rules."""

    def __init__(self, step: AgentStep, *, is_first: bool, taken: Set[str], counted: ev.Usage | None) -> None:
        """``taken`` are the ids of earlier calls, ``counted`` is the usage of earlier steps."""
        self._step = step
        self._is_first = is_first
        self._taken = taken
        self._counted = counted
        self._names: dict[str, str] = {}
        self._start: ev.Start | None = None

    def take(self, events: Iterable[Event]) -> list[Event]:
        """Take the next events of the provider; returns those to pass on."""
        given: list[Event] = []
        for event in events:
            if isinstance(event, _ENDS):
                self._hold(event)
            elif (fitted := self._fitted(event)) is not None:
                self._step.add(fitted)
                given.append(fitted)
        return given

    def _fitted(self, event: Event) -> Event | None:
        if isinstance(event, _CallEvent):
            return self._renamed(event)
        match event:
            case ev.Start() if not self._is_first:
                self._start = event
                return None
            case ev.StartStep() if self._start is not None:
                metadata = _merged(self._start.provider_metadata, event.provider_metadata)
                return msgspec.structs.replace(event, provider_metadata=metadata)
            case ev.Usage() if self._counted is not None:
                return total_usage([self._counted, event])
            case _:
                return event

    def _renamed(self, event: _CallEvent) -> _CallEvent:
        """Rule 2."""
        name = self._name(event.tool_call_id)
        return event if name == event.tool_call_id else msgspec.structs.replace(event, tool_call_id=name)

    def _name(self, id: str) -> str:
        if id not in self._names:
            name, number = id, self._step.number
            while name in self._taken or name in self._names.values():
                name, number = f"{id}-{number}", number + 1
            self._names[id] = name
        return self._names[id]

    def _hold(self, event: ev.FinishStep | ev.TerminalEvent) -> None:
        """Rule 4."""
        self._step.finish_reason = event.finish_reason if isinstance(event, ev.FinishStep | ev.Finish) else "error"
        pending = self._step.pending
        if isinstance(event, ev.Finish) and pending and isinstance(pending[-1], ev.FinishStep):
            answered_by: dict[str, Any] = (event.provider_metadata or {}).get(ev.ANSWERED_BY, {})
            if answered_by:
                metadata = _merged(pending[-1].provider_metadata, {ev.ANSWERED_BY: answered_by})
                pending[-1] = msgspec.structs.replace(pending[-1], provider_metadata=metadata)
        pending.append(event)


def _merged(first: ev.ProviderMetadata | None, second: ev.ProviderMetadata | None) -> ev.ProviderMetadata | None:
    whole = {name: dict(extras) for name, extras in (first or {}).items()}
    for name, extras in (second or {}).items():
        whole.setdefault(name, {}).update(extras)
    return whole or None
