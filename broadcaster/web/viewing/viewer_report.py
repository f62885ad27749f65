"""What the log says about one viewer of a response: written once, when the viewer leaves, whichever driver it has.

Thousands of viewers stay for hours: a report holds its line and nothing else of the request.
"""

from __future__ import annotations

import time
from typing import Final

from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.observability.lines import EndedViewer
from broadcaster.observability.logs import get_logger
from broadcaster.web.guards.request_log import RequestRecord

_FAULTS: Final = frozenset(
    {StopReason.SLOW, StopReason.LIMIT, StopReason.LOG_UNAVAILABLE, StopReason.LOG_GONE, StopReason.FEED_LOST}
)
"""Reasons that need attention."""

_log = get_logger(__name__)


class ViewerReport:
    """Implements ``ViewerObserver``."""

    __slots__ = ("_begun_at", "_line", "_viewer")

    def __init__(self, viewer: Viewer, line: EndedViewer, *, begun_at: float) -> None:
        self._viewer = viewer
        self._line = line
        self._begun_at = begun_at

    @classmethod
    def attach(cls, viewer: Viewer, record: RequestRecord) -> None:
        """Report the end of this viewer as the end of its request."""
        record.has_viewer = True
        record.stream = viewer.stream_id
        line = record.fill(EndedViewer(status=record.status, dialect=viewer.dialect_name))
        viewer.observer = cls(viewer, line, begun_at=record.begun_at)

    def first_entry(self) -> None:
        """See ViewerObserver."""
        self._line.first_entry_s = time.monotonic() - self._begun_at

    def left(self) -> None:
        """See ViewerObserver."""
        viewer, line = self._viewer, self._line
        viewer.observer = None  # they refer to each other
        reason = viewer.stop_reason or StopReason.CLIENT_GONE
        line.reason = reason.code
        line.duration_s = time.monotonic() - self._begun_at
        line.entries, line.sent_bytes, line.lag = viewer.entries, viewer.sent_bytes, viewer.lag
        (_log.warning if reason in _FAULTS else _log.info)(line.event, **line.values())
