"""The line that the log gets at the end of each attempt, and the facts about its provider calls on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from broadcaster.core import events as ev
from broadcaster.core.events import Event
from broadcaster.core.providers.request_ids import id_in
from broadcaster.log.streams.reader import Meta
from broadcaster.observability.lines import EndedAttempt
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

_FIRST: Final = 1
# Shorter, the time since the first content says nothing about the speed of a model.
_LEAST_S: Final = 0.001
_IN_ORDER: Final = ("finished", "aborted", "handed_back")


@dataclass(slots=True)
class CallFacts:
    """What the provider calls of one attempt have shown so far."""

    provider: str | None = None
    model: str | None = None
    tries: int = 0
    steps: int | None = None
    first_content_at: float | None = None
    request_id: str | None = None

    def tried(self, provider: str, model: str) -> None:
        """A call of this provider begins."""
        self.provider, self.model = provider, model
        self.tries += 1
        self.request_id = None

    def content(self, opening: Iterable[Event]) -> None:
        """The first content of a call has come; ``opening`` are its events until then."""
        if self.first_content_at is None:
            self.first_content_at = asyncio.get_running_loop().time()
        for event in opening:
            if isinstance(event, ev.Start | ev.StartStep):
                self.request_id = id_in(event.provider_metadata) or self.request_id


class AttemptReport:
    """One attempt, from its grant to its line."""

    def __init__(self, meta: Meta, *, epoch: int) -> None:
        """``epoch``: the time of its grant, by the clock of Redis."""
        self.facts: Final = CallFacts()
        self._begun_at = asyncio.get_running_loop().time()
        waited_ms = epoch - meta.created_ms if meta.attempts == _FIRST and meta.created_ms else None
        self._line = EndedAttempt(
            stream=meta.id,
            tenant=meta.tenant,
            model=meta.model,
            attempt=meta.attempts,
            queue_wait_s=None if waited_ms is None else max(0, waited_ms) / 1000,
        )

    def write(self, outcome: str, reason: str | None, *, usage: ev.Usage | None, entries: int) -> None:
        """Write the line; ``entries``: `seq` of the last entry."""
        line, facts, now = self._line, self.facts, asyncio.get_running_loop().time()
        line.outcome, line.reason, line.entries = outcome, reason, entries
        line.duration_s = now - self._begun_at
        line.provider, line.provider_model = facts.provider, facts.model
        line.tries, line.steps, line.provider_request_id = facts.tries, facts.steps, facts.request_id
        if usage is not None:
            line.input_tokens, line.output_tokens = usage.input_tokens, usage.output_tokens
            line.is_estimated = usage.estimated or None
        if facts.first_content_at is not None:
            line.first_token_s = facts.first_content_at - self._begun_at
            answering_s = now - facts.first_content_at
            if line.output_tokens is not None and answering_s > _LEAST_S:
                line.tokens_per_s = line.output_tokens / answering_s
        (_log.info if outcome in _IN_ORDER else _log.warning)(line.event, **line.values())
