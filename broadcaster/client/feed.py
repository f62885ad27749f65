"""A stream and an append as the front-end's JSON describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from broadcaster.core.cursor import Cursor
from broadcaster.core.status import OVER


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream stands; ``kind`` is ``feed`` or ``generation``. Times are Unix seconds.

    ``status`` of a feed is ``running`` until it is closed, then ``finished``, ``failed`` or ``aborted``. ``first_seq``
    is 0 when the log holds no event of it. A feed with ``lease_s`` ends (``error writer_lost``) when no writer
    has renewed its lease for that long.
    """

    id: str
    kind: str
    status: str
    first_seq: int = 0
    last_seq: int = 0
    last_id: str | None = None
    created_at: float | None = None
    ended_at: float | None = None
    metadata: dict[str, Any] = {}
    events_url: str = ""
    lease_s: float | None = None
    viewers: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the stream has its terminal event."""
        return self.status in OVER


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """Where the appended events stand, in their order."""

    ids: list[str]
    last_id: str
    last_seq: int

    @property
    def cursors(self) -> Sequence[Cursor]:
        """The ids as cursors. Raises BadCursor for a malformed one."""
        return [Cursor.parse(id) for id in self.ids]
