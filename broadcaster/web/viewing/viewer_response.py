"""A response that a viewer drives, whatever carries it: server-sent events (sse.py) or a WebSocket (websocket.py)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from broadcaster.hub.stop_reasons import Refused
from broadcaster.hub.viewer import Viewer
from broadcaster.log.streams.reader import Meta


class ViewerResponse(Response):
    """Holds its viewer until it is sent, or discarded; or the one block of a refusal."""

    def __init__(
        self, source: Viewer | Refused, *, status: int, headers: Mapping[str, str], meta: Meta | None = None
    ) -> None:
        """``meta``: of the viewer's stream."""
        self.status_code = status
        self.background = None
        self.init_headers(headers)
        self._source = source
        self._meta = meta

    def discard(self) -> None:
        """The response will not be sent: its viewer leaves."""
        if isinstance(self._source, Viewer):
            self._source.leave()
