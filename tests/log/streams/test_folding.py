"""A log that is folded says whether its content is whole."""

from __future__ import annotations

import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.log.streams.folding import read_folded
from broadcaster.log.streams.pages import PAGE

ATTEMPT = b'{"type":"attempt","attempt":2,"reason":"worker_lost"}'
FINISH = b'{"type":"finish"}'


def delta(seq: int, *, epoch: int = 5) -> Entry:
    return Entry(epoch, seq, b'{"type":"text-delta","id":"t","delta":"."}')


class Log:
    """Entries; after the first page only those of ``later`` are there."""

    def __init__(self, *entries: Entry, later: list[Entry] | None = None) -> None:
        self._entries = list(entries)
        self._later = later

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = PAGE) -> list[Entry]:
        found = [entry for entry in self._entries if entry.cursor > after][:count]
        if self._later is not None:
            self._entries = self._later
        return found


WHOLE = {
    "nothing yet": Log(),
    "all": Log(delta(1), delta(2), Entry(5, 3, FINISH)),
    "two pages": Log(*(delta(seq) for seq in range(1, PAGE + 100))),
    "an end alone": Log(Entry(5, 1, FINISH)),
    "an attempt behind what is gone": Log(Entry(7, 4, ATTEMPT), delta(5, epoch=7)),
    "an attempt behind a hole": Log(delta(1), delta(3), Entry(7, 4, ATTEMPT), delta(5, epoch=7)),
}
MISSING = {
    "the beginning": Log(delta(2), delta(3)),
    "all but the end": Log(Entry(5, 3, FINISH)),
    "the middle": Log(delta(1), delta(3), delta(4)),
    "what came behind the attempt": Log(Entry(7, 4, ATTEMPT), delta(6, epoch=7)),
    "what expired behind the first page": Log(
        *(delta(seq) for seq in range(1, PAGE + 100)), later=[Entry(5, PAGE + 100, FINISH)]
    ),
}


@pytest.mark.parametrize("log", WHOLE.values(), ids=WHOLE)
async def test_a_log_without_a_hole_in_its_newest_attempt_is_whole(log: Log) -> None:
    assert (await read_folded(log, "g")).is_whole


@pytest.mark.parametrize("log", MISSING.values(), ids=MISSING)
async def test_a_log_that_misses_an_event_of_its_newest_attempt_is_not_whole(log: Log) -> None:
    assert not (await read_folded(log, "g")).is_whole
