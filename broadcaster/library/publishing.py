"""The items of an iterator → a feed that ends as the iterator does.

Rules
1. A text opens a text part, or continues the open one; every other event, and the end, closes it first. Parts are
   numbered from "0".
2. A terminal event from the iterator is the end: no further item is requested. Otherwise the iterator's end becomes
   ``finish``, its failure ``error``, a cancellation of the publishing task ``abort`` (`library.feed`).
3. The next item is requested when there is room for it: a fast iterator waits for the log.
4. The iterator is closed before the feed ends, in every case: its resources (a connection to a provider, paid by the
   token) are released first, even when the log is unavailable.
5. An answer of an SDK that is cut, also by a cancellation, has the counts that were known (``usage``) before its end.
6. Every event that is given to the feed is folded here, too: the result is known while Redis is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeGuard

from broadcaster.core.events import (
    TERMINAL_TYPES,
    Abort,
    Error,
    Event,
    Finish,
    TerminalEvent,
    TextDelta,
    TextEnd,
    TextStart,
    encode_event,
)
from broadcaster.core.fold import Fold
from broadcaster.errors import BroadcasterError
from broadcaster.library.feed import OpenFeed
from broadcaster.library.sources.opening import Piece, PublishedSource
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)


class TextParts:
    """Texts between events → text parts (rule 1)."""

    def __init__(self) -> None:
        self._opened = 0
        self._is_open = False

    def events_of(self, piece: Piece) -> list[Mapping[str, Any] | Event]:
        """What to append for this piece."""
        if not isinstance(piece, str):
            return [*self.close(), piece]
        if not piece:
            return []
        begun = [] if self._is_open else [TextStart(id=str(self._opened))]
        self._opened += not self._is_open
        self._is_open = True
        return [*begun, TextDelta(id=str(self._opened - 1), delta=piece)]

    def close(self) -> list[Event]:
        """What to append before any item that is not text."""
        if not self._is_open:
            return []
        self._is_open = False
        return [TextEnd(id=str(self._opened - 1))]


async def write_source(
    create_feed: Callable[[], OpenFeed], source: PublishedSource, *, fold: Fold, opened: Callable[[], None]
) -> None:
    """Append what ``source`` yields, and end the feed. Raises what ``source`` and the feed raise.

    ``opened`` is called once the feed is there; ``fold`` gets each event, without the end.
    """
    async with closing(source), create_feed() as feed:
        opened()
        # Closed twice: here before the feed ends, and outside in case there is no feed or it does not open.
        try:
            async with closing(source):
                end = await _append_all(feed, source, fold)
        except BaseException:
            _append_counts(feed, source, fold)
            raise
        await feed.close(Abort(reason=feed.stopped_for) if feed.stopped_for else end)  # the source hid its cancellation
    if source.failure is not None:
        raise source.failure


def _append_counts(feed: OpenFeed, source: PublishedSource, fold: Fold) -> None:
    """Rule 5. The end of the feed's block sends them."""
    if (usage := source.usage_so_far()) is not None:
        fold.apply(encode_event(usage))
        try:
            feed.append_nowait(usage)
        except BroadcasterError as refusal:
            _log.warning("publish_counts_lost", stream=feed.id, code=refusal.code)


async def _append_all(feed: OpenFeed, pieces: PublishedSource, fold: Fold) -> TerminalEvent | Mapping[str, Any] | None:
    texts = TextParts()
    end: TerminalEvent | Mapping[str, Any] | None = None
    async for piece in pieces:
        if is_end(piece):
            end = piece
            break
        for event in texts.events_of(piece):
            fold.apply(await feed.put(event))
    for event in texts.close():
        fold.apply(await feed.put(event))
    return end


def is_end(piece: Piece) -> TypeGuard[TerminalEvent | Mapping[str, Any]]:
    """Whether this piece is a terminal event."""
    if isinstance(piece, Mapping):
        return piece.get("type") in TERMINAL_TYPES
    return isinstance(piece, Finish | Error | Abort)


@asynccontextmanager
async def closing(source: PublishedSource) -> AsyncIterator[None]:
    """Close it at the end; a failure to close hides no earlier error."""
    try:
        yield
    except BaseException:
        try:
            await source.aclose()
        except Exception:
            _log.warning("published_iterator_not_closed", exc_info=True)
        raise
    await source.aclose()
