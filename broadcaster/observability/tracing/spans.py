"""Spans, without OpenTelemetry in sight: it is imported only where ``TRACES`` is ``otlp`` (opening.py).

Rules
1. Without tracing a span costs one small object, and passes on its parent's context: a trace that a caller has begun
   keeps its id in our logs.
2. A span that is not ended is not exported.
3. Parents are passed explicitly. A task that outlives a request (a tail, a timer) belongs to no span.
4. No attribute holds what a caller or a model has written (genai_attributes.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from broadcaster.core.requests.origins import TraceContext

SpanKind = Literal["internal", "server", "client"]
Attributes = Mapping[str, str | int | float | bool | list[str] | None]
"""By name; None is left out."""


class Span(Protocol):
    """One piece of work in a trace."""

    @property
    def context(self) -> TraceContext | None:
        """What its children and the logs need; None: there is no trace."""

    def end(
        self,
        attributes: Attributes | None = None,
        *,
        name: str | None = None,
        error: str | None = None,
        at_ms: float | None = None,
    ) -> None:
        """End it now, or at this Unix time. ``name`` is a better one; ``error`` the stable code of a failure."""


class Tracing(Protocol):
    """The spans of one process."""

    @property
    def is_on(self) -> bool:
        """Whether spans are exported."""

    def begin(
        self,
        name: str,
        *,
        parent: TraceContext | None,
        kind: SpanKind = "internal",
        attributes: Attributes | None = None,
        at_ms: float | None = None,
    ) -> Span:
        """Begin a span, now or at this Unix time; without ``parent`` it begins a trace."""

    def close(self) -> None:
        """Export what is left, within a few seconds."""


@dataclass(frozen=True, slots=True)
class UntracedSpan:
    """Rule 1."""

    context: TraceContext | None

    def end(
        self,
        attributes: Attributes | None = None,
        *,
        name: str | None = None,
        error: str | None = None,
        at_ms: float | None = None,
    ) -> None:
        """See Span."""


NO_SPAN: Final = UntracedSpan(None)


class Untraced:
    """Implements ``Tracing`` where it is off."""

    is_on = False

    def begin(
        self,
        name: str,
        *,
        parent: TraceContext | None,
        kind: SpanKind = "internal",
        attributes: Attributes | None = None,
        at_ms: float | None = None,
    ) -> Span:
        """See Tracing."""
        return UntracedSpan(parent)

    def close(self) -> None:
        """See Tracing."""


UNTRACED: Final = Untraced()
