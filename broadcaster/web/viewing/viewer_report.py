"""The log's line about one viewer of a response: written once, when the viewer leaves, whichever driver it has.

Thousands of viewers stay for hours: a report makes its line at the end, and keeps nothing else of the request.
"""

from __future__ import annotations

import time
from typing import Final

from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.streams.reader import Meta
from broadcaster.observability import genai_attributes as names
from broadcaster.observability.lines import EndedViewer
from broadcaster.observability.logs import get_logger
from broadcaster.web.guards.request_log import RequestRecord

_FAULTS: Final = frozenset(
    {StopReason.SLOW, StopReason.LIMIT, StopReason.LOG_UNAVAILABLE, StopReason.LOG_GONE, StopReason.FEED_LOST}
)
"""Reasons that need attention."""

_FIRST_DELIVERY: Final = "first delivery"

_log = get_logger(__name__)


class ViewerTrace:
    """The span of a viewer's request, and that of the first delivery, where tracing is on."""

    __slots__ = ("_attributes", "_delivery", "_name", "_span", "_tracing")

    def __init__(self, record: RequestRecord, viewer: Viewer, *, meta: Meta | None) -> None:
        self._tracing = record.tracing
        self._span = record.span
        self._name = record.span_name
        self._attributes = {**record.span_attributes(), names.DIALECT: viewer.dialect_name}
        # An answer that was over before the viewer came is not delivered late.
        is_awaited = meta is not None and meta.kind == "generation" and not meta.is_over
        self._delivery = (meta.origin.trace, meta.created_ms) if meta is not None and is_awaited else None

    def delivered(self) -> None:
        """The first entry of the stream has been given to a viewer of this front-end."""
        if self._delivery is None:
            return
        trace, created_ms = self._delivery
        now_ms = time.time() * 1000
        begun_ms = min(created_ms, now_ms)  # Redis's clock may be ahead of this one
        attributes = {names.STREAM: self._attributes[names.STREAM]}
        span = self._tracing.begin(_FIRST_DELIVERY, parent=trace, attributes=attributes, at_ms=begun_ms)
        span.end(at_ms=now_ms)

    def end(self, reason: StopReason, *, is_fault: bool) -> None:
        """The viewer has left."""
        attributes = {**self._attributes, names.STOP_REASON: reason.code}
        self._span.end(attributes, name=self._name, error=reason.code if is_fault else None)


class ViewerReport:
    """Implements ``ViewerObserver``."""

    __slots__ = ("_begun_at", "_facts", "_first_entry_s", "_request_id", "_status", "_trace", "_trace_id", "_viewer")

    def __init__(self, viewer: Viewer, record: RequestRecord, *, trace: ViewerTrace | None) -> None:
        self._viewer = viewer
        self._facts = record.facts
        self._status = record.status
        self._request_id = record.request_id
        self._trace_id = record.trace_id
        self._begun_at = record.begun_at
        self._first_entry_s: float | None = None
        self._trace = trace

    @classmethod
    def attach(cls, viewer: Viewer, record: RequestRecord, *, meta: Meta | None = None) -> None:
        """Report the end of this viewer as the end of its request. ``meta``: of its stream."""
        record.has_viewer = True
        record.stream = viewer.stream_id
        trace = ViewerTrace(record, viewer, meta=meta) if record.tracing.is_on else None
        viewer.observer = cls(viewer, record, trace=trace)

    def was_served(self, *, is_first_here: bool) -> None:
        """See ViewerObserver."""
        if self._first_entry_s is None:
            self._first_entry_s = time.monotonic() - self._begun_at
        if self._trace is not None and is_first_here:
            self._trace.delivered()

    def left(self) -> None:
        """See ViewerObserver."""
        viewer = self._viewer
        viewer.observer = None  # they refer to each other
        reason = viewer.stop_reason or StopReason.CLIENT_GONE
        line = EndedViewer(
            stream=viewer.stream_id,
            request_id=self._request_id,
            trace_id=self._trace_id,
            status=self._status,
            dialect=viewer.dialect_name,
            reason=reason.code,
            duration_s=time.monotonic() - self._begun_at,
            first_entry_s=self._first_entry_s,
            entries=viewer.entries,
            sent_bytes=viewer.sent_bytes,
            lag=viewer.lag,
        )
        self._facts.fill(line)
        if self._trace is not None:
            self._trace.end(reason, is_fault=reason in _FAULTS)
        (_log.warning if reason in _FAULTS else _log.info)(line.event, **line.values())
