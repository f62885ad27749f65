"""Spans through OpenTelemetry's SDK to an OTLP/HTTP receiver: the only module that imports it.

The standard variables set the rest: ``OTEL_EXPORTER_OTLP_ENDPOINT`` and ``…_HEADERS``, ``OTEL_SERVICE_NAME``,
``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_TRACES_SAMPLER``, ``OTEL_BSP_*``. A thread of the SDK exports; its queue is bounded
(``OTEL_BSP_MAX_QUEUE_SIZE``, 2048 spans), and drops spans when it is full. A receiver that does not answer delays
nothing else.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, TraceState

from broadcaster import __version__
from broadcaster.core.requests.origins import TraceContext
from broadcaster.observability.genai_attributes import ERROR_TYPE
from broadcaster.observability.tracing.spans import Attributes, Span, SpanKind

CLOSE_S: Final = 3.0
"""Longest wait of a process that ends for the export of its last spans."""

_NS_PER_MS: Final = 1_000_000
_KINDS: Final = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
}


class ExportedSpan:
    """Implements ``Span``."""

    __slots__ = ("_span", "context")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.context = _context_of(span.get_span_context())

    def end(
        self,
        attributes: Attributes | None = None,
        *,
        name: str | None = None,
        error: str | None = None,
        at_ms: float | None = None,
    ) -> None:
        """See Span."""
        span = self._span
        if name is not None:
            span.update_name(name)
        span.set_attributes(_known(attributes))
        if error is not None:
            span.set_attribute(ERROR_TYPE, error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(_ns(at_ms))


class ExportingTracing:
    """Implements ``Tracing``. ``processor`` takes the spans that end."""

    is_on = True

    def __init__(self, processor: SpanProcessor, *, service: str) -> None:
        named = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: service}
        resource = Resource.create({SERVICE_VERSION: __version__, **named})
        # Its own end at the interpreter's exit could take half a minute.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("broadcaster", __version__)

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
        return ExportedSpan(
            self._tracer.start_span(
                name,
                # Never the context of the task (rule 3 of spans.py).
                context=trace.set_span_in_context(_remote(parent), Context()),
                kind=_KINDS[kind],
                attributes=_known(attributes),
                start_time=_ns(at_ms),
            )
        )

    def close(self) -> None:
        """See Tracing."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(CLOSE_S)


def open_exporting(service: str) -> ExportingTracing:
    """Spans to the receiver that the standard variables name."""
    return ExportingTracing(BatchSpanProcessor(OTLPSpanExporter()), service=service)


def _remote(parent: TraceContext | None) -> trace.Span:
    if parent is None:
        return trace.INVALID_SPAN
    state = TraceState.from_header([parent.state]) if parent.state else None
    flags = TraceFlags(int(parent.flags, 16))
    context = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), True, flags, state)
    return NonRecordingSpan(context)


def _context_of(context: SpanContext) -> TraceContext:
    trace_id, span_id = trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)
    return TraceContext(trace_id, span_id, f"{context.trace_flags:02x}", context.trace_state.to_header())


def _known(attributes: Attributes | None) -> dict[str, Any]:
    return {name: value for name, value in (attributes or {}).items() if value is not None}


def _ns(at_ms: float | None) -> int | None:
    return None if at_ms is None else int(at_ms * _NS_PER_MS)
