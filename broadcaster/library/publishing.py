"""The items of an iterator → a feed that ends as the iterator does.

Rules
1. A text opens a text part, or continues the open one; every other event, and the end, closes it first. Parts are
   numbered from "0".
2. A terminal event from the iterator is the end: no further item is requested. Otherwise the iterator's end becomes
   ``finish``, its failure ``error``, a cancellation of the publishing task ``abort`` (`library.feed`).
3. The next item is requested when there is room for it: a fast iterator waits for the log.
4. The iterator is closed before the feed ends, in every case: its resources (a connection to a provider, paid by the
   token) are released first, even when the log is unavailable.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeGuard

from broadcaster.core.cursor import Cursor
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
)
from broadcaster.library.feed import OpenFeed
from broadcaster.observability.logs import get_logger

Piece: TypeAlias = str | Mapping[str, Any] | Event

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


async def publish(create_feed: Callable[[], OpenFeed], source: AsyncIterable[Piece]) -> Cursor:
    """Append what ``source`` yields; returns the cursor of the end. Raises what ``source`` and the feed raise."""
    async with _closing(source) as pieces, create_feed() as feed:
        # Closed twice: here before the feed ends, and outside in case there is no feed or it does not open.
        async with _closing(pieces):
            end = await _append_all(feed, pieces)
        return await feed.close(end)


async def _append_all(feed: OpenFeed, pieces: AsyncIterator[Piece]) -> TerminalEvent | Mapping[str, Any] | None:
    texts = TextParts()
    end: TerminalEvent | Mapping[str, Any] | None = None
    async for piece in pieces:
        if is_end(piece):
            end = piece
            break
        for event in texts.events_of(piece):
            await feed.put(event)
    for event in texts.close():
        await feed.put(event)
    return end


def is_end(piece: Piece) -> TypeGuard[TerminalEvent | Mapping[str, Any]]:
    """Whether this piece is a terminal event."""
    if isinstance(piece, Mapping):
        return piece.get("type") in TERMINAL_TYPES
    return isinstance(piece, Finish | Error | Abort)


@asynccontextmanager
async def _closing(source: AsyncIterable[Piece]) -> AsyncIterator[AsyncIterator[Piece]]:
    """Its iterator, closed at the end; a failure to close hides no earlier error."""
    iterator = aiter(source)
    try:
        yield iterator
    except BaseException:
        try:
            await _close(iterator)
        except Exception:
            _log.warning("published_iterator_not_closed", exc_info=True)
        raise
    await _close(iterator)


async def _close(iterator: AsyncIterator[Piece]) -> None:
    if (aclose := getattr(iterator, "aclose", None)) is not None:
        await aclose()
