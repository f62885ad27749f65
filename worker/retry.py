"""One answer, through retries and fallbacks: from the targets of a model to the first that answers.

Rules
1. No event is passed on before the first content: events that only open an answer (``start``, ``start-step``, counts, a
   part without text) are kept back, so that a failed try leaves no trace.
2. After the first content there is no other try: a failure is raised, and ``has_begun`` is true.
3. core/providers/retrying.py decides about retries, fallbacks and pauses. Targets without a ready key come last.
4. Cancelling ``run`` ends a try or a pause at once.
5. The ``finish`` of an answer that did not come at the first try names its origin: ``providerMetadata.broadcaster``
   has ``provider``, ``model`` and ``tries``.
6. A request costs its input once a provider has accepted it. Where the provider has not reported the input, the counts
   have an estimate of it. A try that was refused, or failed before any event of an answer, costs no input.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final, TypeAlias

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.events import Event, Finish, Usage
from broadcaster.core.providers.metering import estimated_input_tokens
from broadcaster.core.providers.model_routing import ModelTarget
from broadcaster.core.providers.retrying import Course, RetryBounds, RetryStep
from broadcaster.core.requests.passed_calls import passed_request
from broadcaster.errors import ProviderFailed
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from worker.observing.attempt_report import CallFacts
from worker.observing.counts import ProviderCall
from worker.providers.base import ProviderRequest, ProviderStream
from worker.providers.keys import Key
from worker.providers.registry import Providers

_log = get_logger(__name__)

MAX_PENDING_EVENTS: Final = 256
"""No opening has more events: beyond this they are passed on as if they were content."""

_TERMINALS: Final = (ev.Finish, ev.Error, ev.Abort)
_OPENING: Final = (ev.Start, ev.StartStep, ev.Usage)

Give: TypeAlias = Callable[[Iterable[Event]], None]


class ModelAnswer:
    """See the module's rules; ``run`` once."""

    def __init__(
        self,
        request: ProviderRequest,
        providers: Providers,
        *,
        bounds: RetryBounds,
        deadline: float,
        name: str,
        facts: CallFacts | None = None,
    ) -> None:
        """``deadline`` is when the caller will cancel (loop time), ``name`` the stream's, for the logs.

        ``facts`` are those of the attempt.
        """
        self._request = request
        self._providers = providers
        self._bounds = bounds
        self._deadline = deadline
        self._name = name
        self._facts = facts or CallFacts()
        self._stream: ProviderStream | None = None
        self._call: ProviderCall
        self._tried: list[Key] = []
        self._has_opened = self._costs_input = False
        self.has_begun = False

    def usage_so_far(self) -> Usage | None:
        """The counts of the newest try (rule 6); None while no provider has accepted it."""
        if self._stream is None:
            return None
        usage = self._stream.usage_so_far()
        return self._with_input(usage) if self._costs_input else usage

    def spent_so_far(self) -> Usage | None:
        """The same: one call is all of its answer."""
        return self.usage_so_far()

    def _with_input(self, usage: Usage) -> Usage:
        """Rule 6."""
        if usage.input_tokens is not None or self._estimated_input is None:
            return usage
        return msgspec.structs.replace(usage, input_tokens=self._estimated_input, estimated=True)

    @cached_property
    def _estimated_input(self) -> int | None:
        request = self._request
        if request.call is not None:
            return estimated_input_tokens(passed_request(request.call, request.extra))
        read = {"messages": request.messages, "system": request.system, "tools": request.tools}
        return estimated_input_tokens({**request.extra, **read})

    @property
    def received_bytes(self) -> int:
        """The bytes that the newest try has received from its provider."""
        return self._stream.received_bytes if self._stream is not None else 0

    async def pause(self, failure: ProviderFailed) -> None:
        """Wait before this answer replaces one that broke off with this failure."""
        luck, left_s = random.random(), self._left_s()
        pause_s = self._bounds.pause_s(0, luck=luck, requested_s=failure.retry_after_s, left_s=left_s)
        # If the provider wants a longer pause than we wait, trying finds the next target.
        await asyncio.sleep(0.0 if pause_s is None else pause_s)

    async def run(self, give: Give) -> Sequence[Event]:
        """Pass on the events as they come; returns the last ones, which are not passed on, the terminal event last.

        Raises (1) UnknownModel if no pattern matches the model, (2) ProviderFailed: a try failed after its first
        content, or core/providers/retrying.py gave up.
        """
        routed = self._providers.targets_for(self._request.model, call=self._request.call)
        targets = self._in_order(routed)
        course = Course(self._bounds, len(targets))
        while True:
            target = targets[course.target]
            try:
                last = await self._try(target, give)
            except ProviderFailed as failure:
                if self.has_begun:
                    raise
                step = self._after(failure, course, target=target)
            else:
                return last if course.tries == 1 and target == routed[0] else self._signed(last, target, course.tries)
            if isinstance(step, ProviderFailed):
                # Raised outside the ``except``, so that no older failure becomes its context.
                raise step
            if step.course.target != course.target:
                self._tried = []
            course = step.course
            await asyncio.sleep(step.pause_s)

    def _in_order(self, routed: Sequence[ModelTarget]) -> Sequence[ModelTarget]:
        """Rule 3."""
        return sorted(routed, key=lambda target: not self._providers.keys_of(target.provider).has_ready())

    async def _try(self, target: ModelTarget, give: Give) -> Sequence[Event]:
        self._stream, self._has_opened = None, False
        keys = self._providers.keys_of(target.provider)
        self._call = self._providers.counted_call(self._request.model, target)
        with keys.taken(but=self._tried) as key, self._call:
            self._tried.append(key)
            provider = await self._providers.named(target.provider)
            model = target.model_for(self._request.model)
            with self._facts.call(target.provider, model) as traced:
                request = replace(self._request, model=model, api_key=key.value, trace=traced.context)
                try:
                    async with provider.stream(request) as stream:
                        self._stream, self._costs_input = stream, True
                        last = await self._relay(stream, give)
                        traced.last = last[-1]
                        return last
                except ProviderFailed as failure:
                    self._costs_input = self._has_opened
                    if failure.reason == "provider_timeout" and failure.refusal is None:
                        limit_reached("PROVIDER_TIMEOUT_S")
                    keys.failed(key, failure, provider=target.provider)
                    raise
                finally:
                    self._call.usage = traced.usage = self.usage_so_far()

    async def _relay(self, stream: ProviderStream, give: Give) -> Sequence[Event]:
        """Rules 1, 2 and 6."""
        pending: list[Event] = []
        async for events in stream:
            if not self.has_begun:
                self._has_opened = True
                pending += events
                if len(pending) <= MAX_PENDING_EVENTS and not any(map(_is_content, events)):
                    continue
                events, self.has_begun = pending, True
                self._facts.content(events)
                self._call.content()
            if isinstance(events[-1], _TERMINALS):
                return [self._with_input(event) if isinstance(event, Usage) else event for event in events]
            give(events)
        raise ProviderFailed("the provider's answer ended without its end", reason="provider_truncated", retryable=True)

    def _after(self, failure: ProviderFailed, course: Course, *, target: ModelTarget) -> RetryStep:
        step = course.after(
            failure,
            luck=random.random(),
            has_other_key=self._providers.keys_of(target.provider).has_ready(but=self._tried),
            left_s=self._left_s(),
        )
        details = {"provider": target.provider, "reason": failure.reason, "tries": course.tries}
        if failure.retry_after_s is not None and failure.retry_after_s > self._bounds.cap_s:
            limit_reached("PROVIDER_RETRY_CAP_S")
        elif failure.retryable and course.retried >= self._bounds.retries:
            limit_reached("PROVIDER_RETRIES")
        if isinstance(step, ProviderFailed):
            _log.warning("provider_given_up", stream=self._name, **details)
        elif step.course.target != course.target:
            _log.warning("provider_fallback", stream=self._name, **details)
        else:
            _log.info("provider_retry", stream=self._name, pause_s=round(step.pause_s, 3), **details)
        return step

    def _signed(self, last: Sequence[Event], target: ModelTarget, tries: int) -> Sequence[Event]:
        """Rule 5."""
        *rest, end = last
        if not isinstance(end, Finish):
            return last
        answered_by = {"provider": target.provider, "model": target.model_for(self._request.model), "tries": tries}
        metadata = {**(end.provider_metadata or {}), ev.ANSWERED_BY: answered_by}
        return [*rest, msgspec.structs.replace(end, provider_metadata=metadata)]

    def _left_s(self) -> float:
        return max(0.0, self._deadline - asyncio.get_running_loop().time())


def _is_content(event: Event) -> bool:
    """Whether a viewer could see a part of the answer in this event."""
    if isinstance(event, _OPENING):
        return False
    if isinstance(event, ev.TextStart | ev.ReasoningStart):
        return event.provider_metadata is not None  # a redacted thought has all its content in there
    if isinstance(event, ev.TextDelta | ev.ReasoningDelta):
        return bool(event.delta) or event.provider_metadata is not None
    return True
