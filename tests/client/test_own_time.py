"""The caller's own time does not count as time without progress, whatever event it spends it on."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from broadcaster.client.errors import GaveUp
from broadcaster.client.pace import Pace
from broadcaster.client.resuming import ResumingReader
from broadcaster.client.stream import Notice, Reconnecting, StreamEvent
from broadcaster.core.sse import SseDecoder


class Reader(ResumingReader):
    """Each connection brings a notice and breaks, after ``lasts_s``; the clock is the test's."""

    _broken_by = (ConnectionError,)

    def __init__(self, *, lasts_s: float) -> None:
        super().__init__(None, SseDecoder(), give_up_after_s=60)
        self.clock_s = 0.0
        self._lasts_s = lasts_s
        self._now = lambda: self.clock_s
        self._pace = Pace(give_up_after_s=60, now=0.0)

    async def _connection(self) -> AsyncGenerator[StreamEvent, None]:
        self.clock_s += self._lasts_s
        yield Notice("hub.hello", {})
        raise ConnectionError("gone")


@pytest.mark.parametrize("kind", [Notice, Reconnecting])
async def test_a_caller_that_takes_its_time_over_a_notice_is_reconnected(kind: type) -> None:
    reader = Reader(lasts_s=0)
    seen: list[type] = []
    async for event in reader.run():
        seen.append(type(event))
        if isinstance(event, kind):
            reader.clock_s += 61
        if len(seen) == 4:
            break
    assert seen == [Notice, Reconnecting] * 2


async def test_the_time_of_connections_without_progress_counts() -> None:
    with pytest.raises(GaveUp):
        async for _ in Reader(lasts_s=61).run():
            pass
