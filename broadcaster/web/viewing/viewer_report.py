"""What the log says about one viewer of a response: written once, when the viewer leaves, whichever driver it has.

Thousands of viewers stay for hours: a report holds its line and nothing else of the request.
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

    __slots__ = ("_begun_at", "_line", "_trace", "_viewer")

    def __init__(self, viewer: Viewer, line: EndedViewer, *, begun_at: float, trace: ViewerTrace | None) -> None:
        self._viewer = viewer
        self._line = line
        self._begun_at = begun_at
        self._trace = trace

    @classmethod
    def attach(cls, viewer: Viewer, record: RequestRecord, *, meta: Meta | None = None) -> None:
        """Report the end of this viewer as the end of its request. ``meta``: of its stream."""
        record.has_viewer = True
        record.stream = viewer.stream_id
        line = record.fill(EndedViewer(status=record.status, dialect=viewer.dialect_name))
        trace = None
        if record.tracing.is_on:
            trace = ViewerTrace(record, viewer, meta=meta)
        viewer.observer = cls(viewer, line, begun_at=record.begun_at, trace=trace)

    def first_entry(self, *, is_first_here: bool) -> None:
        """See ViewerObserver."""
        self._line.first_entry_s = time.monotonic() - self._begun_at
        if self._trace is not None and is_first_here:
            self._trace.delivered()

    def left(self) -> None:
        """See ViewerObserver."""
        viewer, line = self._viewer, self._line
        viewer.observer = None  # they refer to each other
        reason = viewer.stop_reason or StopReason.CLIENT_GONE
        line.reason = reason.code
        line.duration_s = time.monotonic() - self._begun_at
        line.entries, line.sent_bytes, line.lag = viewer.entries, viewer.sent_bytes, viewer.lag
        if self._trace is not None:
            self._trace.end(reason, is_fault=reason in _FAULTS)
        (_log.warning if reason in _FAULTS else _log.info)(line.event, **line.values())
