"""What one call gave a feed's writer, until it is in the log or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broadcaster.core.cursor import Cursor


class Waiting:
    """What one call gave; ``answer`` is None for append_nowait, ``raws`` empty for flush."""

    __slots__ = ("answer", "is_sent", "is_settled", "raws", "size")

    def __init__(self, raws: Sequence[bytes], answer: asyncio.Future[list[Cursor]] | None) -> None:
        self.raws = raws
        self.size = sum(map(len, raws))
        self.answer = answer
        self.is_sent = False
        self.is_settled = False

    @classmethod
    def for_an_answer(cls, raws: Sequence[bytes]) -> Waiting:
        """One whose caller awaits it, on the running loop."""
        return cls(raws, asyncio.get_running_loop().create_future())

    async def wait(self) -> list[Cursor]:
        """Where its events stand, or what they are refused with."""
        assert self.answer is not None
        return await self.answer

    def tell(self, outcome: list[Cursor] | Exception) -> None:
        """Answer its caller, if there is one who still waits."""
        if self.answer is None or self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


def is_wanted(batch: Sequence[Waiting]) -> bool:
    """Whether anybody waits for it, or nobody ever did."""
    return any(waiting.answer is None or not waiting.answer.done() for waiting in batch if waiting.raws)
