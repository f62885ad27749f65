"""A stream and an append as the front-end's JSON describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from broadcaster.client.generation import OVER
from broadcaster.core.cursor import Cursor


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream stands; ``kind`` is ``feed`` or ``generation``. Times are Unix seconds.

    ``status`` of a feed is ``running`` until it is closed, then ``finished``, ``failed`` or ``aborted``. ``first_seq``
    is 0 when none of its events is held any more. A feed with ``lease_s`` ends (``error writer_lost``) when none of its
    writers was heard for so long.
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
        """The ids as cursors. Raises BadCursor when the server's are none."""
        return [Cursor.parse(id) for id in self.ids]
