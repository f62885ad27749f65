"""One answer, through retries and fallbacks: from the targets of a route to the first that answers.

Rules
1. Until the first content nothing is given on: what only opens an answer (``start``, ``start-step``, counts, a part
   without text) is held back, so that a failed try leaves no trace. Whoever answers, answers as if it were alone.
2. From the first content on there is one try only, this one: its failure is raised, and ``has_begun`` says so.
3. When to try what is core/retrying.py's to say. Targets none of whose keys is ready are asked after the others.
4. Whoever cancels ``run`` ends a try and a pause alike, at once.
5. An answer that did not come at the first try says in its ``finish`` who gave it: ``providerMetadata.broadcaster``
   has ``provider``, ``model`` and ``tries``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import msgspec
import structlog

from broadcaster.core import events as ev
from broadcaster.core.events import Event, Finish, Usage
from broadcaster.core.retrying import Course, GiveUp, RetryBounds, Step
from broadcaster.core.routing import Target
from broadcaster.errors import ProviderFailed
from worker.providers.base import ProviderRequest, ProviderStream
from worker.providers.keys import Key
from worker.providers.registry import Providers

_log = structlog.get_logger(__name__)

HELD_MOST: Final = 256
"""More than this opens no answer: it goes on to the viewers as if it were content."""

_TERMINALS: Final = (ev.Finish, ev.Error, ev.Abort)
_OPENING: Final = (ev.Start, ev.StartStep, ev.Usage)

Give: TypeAlias = Callable[[Iterable[Event]], None]


class Answer:
    """See the module's rules; ``run`` once."""

    def __init__(
        self, request: ProviderRequest, providers: Providers, *, bounds: RetryBounds, deadline: float, name: str
    ) -> None:
        """``deadline`` is when the caller will cancel (loop time), ``name`` the stream's, for the logs."""
        self._request = request
        self._providers = providers
        self._bounds = bounds
        self._deadline = deadline
        self._name = name
        self._stream: ProviderStream | None = None
        self._tried: list[Key] = []
        self.has_begun = False

    def usage_so_far(self) -> Usage | None:
        """The counts of the newest try; None when no provider has been asked."""
        return self._stream.usage_so_far() if self._stream is not None else None

    @property
    def received_bytes(self) -> int:
        """What the newest try has received of its provider."""
        return self._stream.received_bytes if self._stream is not None else 0

    async def pause(self, failure: ProviderFailed) -> None:
        """Before another answer in the place of one that broke off with this failure."""
        luck, left_s = random.random(), self._left_s()
        pause_s = self._bounds.pause_s(0, luck=luck, asked_s=failure.retry_after_s, left_s=left_s)
        # Where it wants more than we wait, the next target is found by asking.
        await asyncio.sleep(0.0 if pause_s is None else pause_s)

    async def run(self, give: Give) -> Sequence[Event]:
        """Give on what comes; returns the last events, the terminal one last, which are not given.

        Raises (1) UnknownModel when no route matches, (2) ProviderFailed as core/retrying.py says, or of a try that
        had begun.
        """
        route = self._providers.targets_for(self._request.model)
        targets = self._in_order(route)
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
                return last if course.tries == 1 and target == route[0] else self._signed(last, target, course.tries)
            if isinstance(step, GiveUp):
                # Out here, so that no older failure hangs on it.
                raise step.failure
            if step.course.target != course.target:
                self._tried = []
            course = step.course
            await asyncio.sleep(step.pause_s)

    def _in_order(self, route: Sequence[Target]) -> Sequence[Target]:
        """Rule 3."""
        return sorted(route, key=lambda target: not self._providers.keys_of(target.provider).has_ready())

    async def _try(self, target: Target, give: Give) -> Sequence[Event]:
        self._stream = None
        keys = self._providers.keys_of(target.provider)
        with keys.taken(but=self._tried) as key:
            self._tried.append(key)
            provider = await self._providers.named(target.provider)
            model = target.model_for(self._request.model)
            try:
                async with provider.stream(replace(self._request, model=model, api_key=key.value)) as stream:
                    self._stream = stream
                    return await self._relay(stream, give)
            except ProviderFailed as failure:
                keys.failed(key, failure, provider=target.provider)
                raise

    async def _relay(self, stream: ProviderStream, give: Give) -> Sequence[Event]:
        """Rules 1 and 2."""
        held: list[Event] = []
        async for events in stream:
            if not self.has_begun:
                held += events
                if len(held) <= HELD_MOST and not any(map(_is_content, events)):
                    continue
                events, self.has_begun = held, True
            if isinstance(events[-1], _TERMINALS):
                return events
            give(events)
        raise ProviderFailed("the provider's answer ended without its end", reason="provider_truncated", retryable=True)

    def _after(self, failure: ProviderFailed, course: Course, *, target: Target) -> Step:
        step = course.after(
            failure,
            luck=random.random(),
            has_other_key=self._providers.keys_of(target.provider).has_ready(but=self._tried),
            left_s=self._left_s(),
        )
        told = {"provider": target.provider, "reason": failure.reason, "tries": course.tries}
        if isinstance(step, GiveUp):
            _log.warning("provider_given_up", stream=self._name, **told)
        elif step.course.target != course.target:
            _log.warning("provider_fallback", stream=self._name, **told)
        else:
            _log.info("provider_retry", stream=self._name, pause_s=round(step.pause_s, 3), **told)
        return step

    def _signed(self, last: Sequence[Event], target: Target, tries: int) -> Sequence[Event]:
        """Rule 5."""
        *rest, end = last
        if not isinstance(end, Finish):
            return last
        said = {"provider": target.provider, "model": target.model_for(self._request.model), "tries": tries}
        metadata = {**(end.provider_metadata or {}), ev.ANSWERED_BY: said}
        return [*rest, msgspec.structs.replace(end, provider_metadata=metadata)]

    def _left_s(self) -> float:
        return max(0.0, self._deadline - asyncio.get_running_loop().time())


def _is_content(event: Event) -> bool:
    """Whether a viewer could have seen something of the answer in this event."""
    if isinstance(event, _OPENING):
        return False
    if isinstance(event, ev.TextStart | ev.ReasoningStart):
        return event.provider_metadata is not None  # a redacted thought has all it says in there
    if isinstance(event, ev.TextDelta | ev.ReasoningDelta):
        return bool(event.delta) or event.provider_metadata is not None
    return True
