"""The events of one call to a feed's writer, until they are in the log or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broadcaster.core.cursor import Cursor


class PendingAppend:
    """The events of one call; ``result`` is None for append_nowait, ``raws`` is empty for flush."""

    __slots__ = ("is_done", "is_sent", "raws", "result", "size")

    def __init__(self, raws: Sequence[bytes], result: asyncio.Future[list[Cursor]] | None) -> None:
        self.raws = raws
        self.size = sum(map(len, raws))
        self.result = result
        self.is_sent = False
        self.is_done = False

    @classmethod
    def awaited(cls, raws: Sequence[bytes]) -> PendingAppend:
        """One whose caller awaits its result, on the running loop."""
        return cls(raws, asyncio.get_running_loop().create_future())

    async def wait(self) -> list[Cursor]:
        """The cursors of its entries; raises the error that refused them."""
        assert self.result is not None
        return await self.result

    def resolve(self, outcome: list[Cursor] | Exception) -> None:
        """Give its caller the outcome, if the caller still waits."""
        if self.result is None or self.result.done():
            return
        if isinstance(outcome, Exception):
            self.result.set_exception(outcome)
        else:
            self.result.set_result(outcome)


def is_wanted(batch: Sequence[PendingAppend]) -> bool:
    """Whether a caller still waits for a part of the batch, or append_nowait gave it."""
    return any(waiting.result is None or not waiting.result.done() for waiting in batch if waiting.raws)
