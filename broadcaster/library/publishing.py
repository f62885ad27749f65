"""The items of an iterator → a feed that ends as the iterator does.

Rules
1. A text is a piece of a text part, which opens and closes by itself (`library.parts`).
2. A terminal event from the iterator is the end: no further item is requested. Otherwise the iterator's end becomes
   ``finish``, its failure ``error``, a cancellation of the publishing task ``abort`` (`library.feed`).
3. The next item is requested when there is room for it: a fast iterator waits for the log.
4. The iterator is closed before the feed ends, in every case: its resources (a connection to a provider, paid by the
   token) are released first, even when the log is unavailable.
5. An answer of an SDK that is cut, also by a cancellation, has the counts that were known (``usage``) before its end.
6. Every event that is given to the feed is folded here, too: the result is known while Redis is away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeGuard

from broadcaster.core.events import TERMINAL_TYPES, Abort, Error, Finish, TerminalEvent, encode_event
from broadcaster.core.fold import Fold
from broadcaster.errors import BroadcasterError
from broadcaster.library.feed import OpenFeed
from broadcaster.library.sources.opening import Piece, PublishedSource
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)


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


async def end_without_source(feed: OpenFeed, source: PublishedSource, *, fold: Fold) -> None:
    """End the feed of a cancelled ``write_source`` whose source does not close. Its task may end at any time later."""
    if not feed.is_ending:
        _append_counts(feed, source, fold)
    await feed.end_from_outside()


def _append_counts(feed: OpenFeed, source: PublishedSource, fold: Fold) -> None:
    """Rule 5. The end of the feed's block sends them."""
    if (usage := source.usage_so_far()) is not None:
        fold.apply(encode_event(usage))
        try:
            feed.append_nowait(usage)
        except BroadcasterError as refusal:
            _log.warning("publish_counts_lost", stream=feed.id, code=refusal.code)


async def _append_all(feed: OpenFeed, pieces: PublishedSource, fold: Fold) -> TerminalEvent | Mapping[str, Any] | None:
    end: TerminalEvent | Mapping[str, Any] | None = None
    async for piece in pieces:
        if is_end(piece):
            end = piece
            break
        _apply(fold, await feed.put(piece))
    _apply(fold, await feed.end_part())
    return end


def _apply(fold: Fold, stored: Sequence[bytes]) -> None:
    for event in stored:
        fold.apply(event)


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
