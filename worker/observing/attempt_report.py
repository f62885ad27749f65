"""The line and the spans of one attempt, and the facts about its provider calls on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from broadcaster.core import events as ev
from broadcaster.core.events import Event
from broadcaster.core.providers.request_ids import id_in
from broadcaster.core.requests.origins import TraceContext
from broadcaster.errors import ProviderFailed
from broadcaster.log.streams.reader import Meta
from broadcaster.observability import genai_attributes as names
from broadcaster.observability.lines import EndedAttempt, showable
from broadcaster.observability.logs import get_logger
from broadcaster.observability.tracing.spans import NO_SPAN, UNTRACED, Attributes, Span, Tracing

_log = get_logger(__name__)

_FIRST: Final = 1
# Shorter, the time since the first content says nothing about the speed of a model.
_LEAST_S: Final = 0.001
_IN_ORDER: Final = ("finished", "aborted", "handed_back")


class TracedCall:
    """The span of one call of a provider."""

    __slots__ = ("_begun_at", "_is_traced", "_span", "first_content_at", "last", "usage")

    def __init__(self, span: Span, *, is_traced: bool) -> None:
        self._span = span
        self._is_traced = is_traced
        self._begun_at = asyncio.get_running_loop().time()
        self.first_content_at: float | None = None
        self.usage: ev.Usage | None = None
        self.last: Event | None = None

    @property
    def context(self) -> TraceContext | None:
        """What the provider's own spans may have as parent; None: tracing is off."""
        return self._span.context if self._is_traced else None

    def end(self, *, request_id: str | None, error: str | None) -> None:
        """The call is over."""
        usage, end = self.usage or ev.Usage(), self.last
        reason = end.finish_reason if isinstance(end, ev.Finish) else None
        first_s = None if self.first_content_at is None else self.first_content_at - self._begun_at
        self._span.end(
            {
                names.FINISH_REASONS: None if reason is None else [reason],
                names.FIRST_CHUNK_S: first_s,
                names.INPUT_TOKENS: usage.input_tokens,
                names.OUTPUT_TOKENS: usage.output_tokens,
                names.CACHE_READ_TOKENS: usage.cached_input_tokens,
                names.CACHE_WRITE_TOKENS: usage.cache_write_input_tokens,
                names.REASONING_TOKENS: usage.reasoning_tokens,
                names.PROVIDER_REQUEST_ID: request_id,
            },
            error=error,
        )


@dataclass(slots=True)
class CallFacts:
    """What the calls of one attempt have shown so far; their spans are children of ``span``."""

    tracing: Tracing = UNTRACED
    span: Span = NO_SPAN
    provider: str | None = None
    model: str | None = None
    tries: int = 0
    steps: int | None = None
    first_content_at: float | None = None
    request_id: str | None = None
    _call: TracedCall | None = None

    @contextmanager
    def call(self, provider: str, model: str) -> Iterator[TracedCall]:
        """A call of this provider, for the block."""
        self.provider, self.model = provider, showable(model)
        self.tries += 1
        self.request_id = None
        attributes: Attributes = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: provider,
            names.REQUEST_MODEL: self.model,
            names.REQUEST_STREAM: True,
        }
        name = names.CHAT if self.model is None else f"{names.CHAT} {self.model}"
        span = self.tracing.begin(name, parent=self.span.context, kind="client", attributes=attributes)
        call = self._call = TracedCall(span, is_traced=self.tracing.is_on)
        error: str | None = None
        try:
            yield call
        except ProviderFailed as failure:
            error = failure.reason
            self.request_id = failure.request_id or self.request_id
            raise
        except Exception as defect:
            error = type(defect).__name__
            raise
        finally:
            call.end(request_id=self.request_id, error=error)

    @contextmanager
    def tool_call(self, tool: str, call_id: str) -> Iterator[list[Event]]:
        """A call of a worker's tool, for the block, which puts its output into the list."""
        attributes: Attributes = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: tool,
            names.TOOL_CALL_ID: call_id,
            names.TOOL_TYPE: names.FUNCTION,
        }
        span = self.tracing.begin(f"{names.EXECUTE_TOOL} {tool}", parent=self.span.context, attributes=attributes)
        outputs: list[Event] = []
        try:
            yield outputs
        finally:
            has_failed = any(isinstance(output, ev.ToolOutputError) for output in outputs)
            span.end(error="tool_error" if has_failed else None)

    def content(self, opening: Iterable[Event]) -> None:
        """The first content of a call has come; ``opening`` are its events until then."""
        now = asyncio.get_running_loop().time()
        if self._call is not None:
            self._call.first_content_at = now
        if self.first_content_at is None:
            self.first_content_at = now
        for event in opening:
            if isinstance(event, ev.Start | ev.StartStep):
                self.request_id = id_in(event.provider_metadata) or self.request_id


class AttemptReport:
    """One attempt, from its grant to its line."""

    def __init__(self, meta: Meta, *, epoch: int, tracing: Tracing) -> None:
        """``epoch``: the time of its grant, by the clock of Redis."""
        self._begun_at = asyncio.get_running_loop().time()
        waited_ms = epoch - meta.created_ms if meta.attempts == _FIRST and meta.created_ms else None
        span = _begin_spans(meta, tracing, waited_ms=waited_ms)
        self.facts: Final = CallFacts(tracing, span)
        self._line = EndedAttempt(
            stream=meta.id,
            tenant=meta.tenant,
            surface=meta.origin.surface,
            request_id=meta.origin.request_id,
            trace_id=None if span.context is None else span.context.trace_id,
            model=showable(meta.model),
            attempt=meta.attempts,
            queue_wait_s=None if waited_ms is None else max(0, waited_ms) / 1000,
        )

    @property
    def trace_id(self) -> str | None:
        """The trace that it belongs to."""
        return self._line.trace_id

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
        is_fault = outcome not in _IN_ORDER
        attributes: Attributes = {
            names.OUTCOME: outcome,
            names.PROVIDER: facts.provider,
            names.INPUT_TOKENS: line.input_tokens,
            names.OUTPUT_TOKENS: line.output_tokens,
        }
        facts.span.end(attributes, error=(reason or outcome) if is_fault else None)
        (_log.warning if is_fault else _log.info)(line.event, **line.values())


def _begin_spans(meta: Meta, tracing: Tracing, *, waited_ms: int | None) -> Span:
    """The span of the attempt; the wait before it is over, and is a span of its own."""
    attributes: Attributes = {
        names.STREAM: meta.id,
        names.TENANT: meta.tenant,
        names.SURFACE: meta.origin.surface,
        names.REQUEST_ID: meta.origin.request_id,
        names.ATTEMPT: meta.attempts,
        names.REQUEST_MODEL: showable(meta.model),
    }
    trace = meta.origin.trace
    if waited_ms is not None and trace is not None:
        wait = tracing.begin("queue wait", parent=trace, attributes=attributes, at_ms=meta.created_ms)
        wait.end(at_ms=meta.created_ms + max(0, waited_ms))
    return tracing.begin("attempt", parent=trace, attributes=attributes)
