"""The status of a stream: the one table from its terminal event, and how long Redis keeps the record of it. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

META_OUTLIVES_LOG_MS: Final = 3_600_000
"""How long a stream's meta outlives its log, and the tombstone of a deleted generation everything else of it. The Lua
scripts have the same number."""


class Status(StrEnum):
    """Where a stream stands, as far as its events show."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    ABORTED = "aborted"


STATUS_OF_TYPE: Final = {"finish": Status.FINISHED, "error": Status.FAILED, "abort": Status.ABORTED}
"""Type of the terminal event → status of the stream."""

OVER: Final = frozenset[str](STATUS_OF_TYPE.values())
"""The statuses of a stream that has its terminal event."""


def status_after(terminal: bytes) -> Status:
    """The status of a stream that ends with this stored event, read from the event's beginning (``{"type":"…"``)."""
    return STATUS_OF_TYPE[terminal.split(b'"', 4)[3].decode()]
