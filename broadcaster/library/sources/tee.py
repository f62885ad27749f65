"""A source that is published while the program reads it, too.

    async for chunk in broadcaster.tee(stream):     # the SDK's own chunks, unchanged
        ...

Rules
1. The publication reads the source, and gives each item to the loop. It reads at most ``BUFFER_ITEMS`` ahead of the
   loop: a loop that is slower than that slows the stream.
2. The loop ends when the stream has ended in the log. It raises what the source raised, and what ``publish`` raises.
3. A loop that is left early (``break``, an exception, a cancelled request) ends the stream with ``abort``, and closes
   the source: a program that stops reading its own SDK stops the answer in the same way, and pays for no more of it.
   With "continue" the publication reads on to the end.
4. ``async with``, or ``aclose``, leaves at the end of the block, also when Python keeps a left loop's iterator alive.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from broadcaster.errors import InvalidInput
from broadcaster.library.publications import Publication
from broadcaster.library.results import StreamResult
from broadcaster.library.sources.opening import PublishedSource, open_source

OnLeave: TypeAlias = Literal["abort", "continue"]
TeeIfExists: TypeAlias = Literal["fail", "replace"]
ON_LEAVE: Final = ("abort", "continue")

BUFFER_ITEMS: Final = 1000

Item = TypeVar("Item")
_Event_co = TypeVar("_Event_co", covariant=True)


class StreamedRun(Protocol[_Event_co]):
    """What ``Runner.run_streamed`` of the OpenAI Agents SDK returns."""

    def stream_events(self) -> AsyncIterator[_Event_co]: ...


TeeSource: TypeAlias = (
    AsyncIterable[Item]
    | Iterable[Item]
    | AbstractAsyncContextManager[AsyncIterable[Item]]
    | AbstractContextManager[Iterable[Item]]
    | StreamedRun[Item]
)

_leaving: Final[set[asyncio.Task[None]]] = set()


class Tee(Generic[Item]):
    """Iterate it once. Made by ``Broadcaster.tee``, which begins to publish at once; see the rules above."""

    def __init__(
        self,
        source: TeeSource[Item],
        publish: Callable[[PublishedSource], Publication],
        *,
        on_leave: OnLeave,
    ) -> None:
        """Raises TypeError for an object that cannot be published, ValueError for another ``on_leave``."""
        if on_leave not in ON_LEAVE:
            raise ValueError(f'on_leave is "abort" or "continue", not {on_leave!r}')
        opened = open_source(source)
        self._copies: ItemCopies[Item] = ItemCopies()
        opened.copy_to(self._copies)
        self._publication = publish(opened)
        self._publication.finishing.add_done_callback(lambda _: self._copies.close())
        self._on_leave = on_leave
        self._is_left = False

    @property
    def id(self) -> str:
        """The stream's id."""
        return self._publication.id

    @property
    def events_url(self) -> str:
        """The path for a viewer."""
        return self._publication.events_url

    async def result(self) -> StreamResult:
        """See Publication.result."""
        return await self._publication.result()

    async def __aiter__(self) -> AsyncGenerator[Item, None]:
        try:
            async for item in self._copies.read():
                yield item
            await self._publication.result()
        finally:
            await self.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave (rule 3), unless the stream has ended. Idempotent."""
        if self._is_left:
            return
        self._is_left = True
        self._copies.leave()
        if self._on_leave == "abort" and not self._publication.finishing.done():
            # In a task, because the task that leaves may be cancelled at each of its awaits.
            leaving = asyncio.create_task(self._publication.cancel_source(reason="stopped"))
            _leaving.add(leaving)
            leaving.add_done_callback(_leaving.discard)
            await asyncio.shield(leaving)


def check_tee_choice(if_exists: str) -> None:
    """Raises InvalidInput for another choice than "fail" and "replace"."""
    if if_exists == "join":
        raise InvalidInput('a tee cannot join a stream, which has no chunks: use publish_nowait(…, if_exists="join")')
    if if_exists not in ("fail", "replace"):
        raise InvalidInput(f'if_exists of a tee is "fail" or "replace", not {if_exists!r:.60}')


class ItemCopies(Generic[Item]):
    """The items between the publication and the loop; bounded (rule 1)."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._has_news = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_over = False
        self._is_left = False

    async def take(self, item: Any) -> None:
        """See ItemSink."""
        while len(self._items) >= BUFFER_ITEMS and not self._is_left:
            self._has_room.clear()
            await self._has_room.wait()
        if not self._is_left:
            self._items.append(item)
            self._has_news.set()

    def close(self) -> None:
        """See ItemSink."""
        self._is_over = True
        self._has_news.set()

    def leave(self) -> None:
        """Nothing is read any more."""
        self._is_left = True
        self._items.clear()
        self._has_room.set()

    async def read(self) -> AsyncGenerator[Item, None]:
        """The items, to the last."""
        while self._items or not self._is_over:
            if self._items:
                item = self._items.popleft()
                self._has_room.set()
                yield item
            else:
                self._has_news.clear()
                await self._has_news.wait()
