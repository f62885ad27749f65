"""What a program passes to ``publish`` → pieces of a feed.

    async with aclosing(open_source(stream)) as source:
        async for piece in source:      # texts, mappings, events; at most one terminal event, last
            ...

Rules
1. Texts, mappings and events pass as they are; chunks of SDKs become events (`answers.Answers`). Some items of
   LangGraph are mappings, too.
2. When the provider fails in mid-answer, the pieces end as a worker ends it: ``usage``, ``error`` with the reason.
   ``failure`` then holds what the caller should see: the SDK's own exception, or ProviderFailed for an answer that was
   cut without one. A broken connection after the whole answer is logged, and the answer is whole.
3. Any other exception of the iterator is raised, after the ``usage`` of an answer that it cut.
4. Closing closes the iterator and the object that it belongs to, with its ``aclose`` or ``close``. A context manager
   (``messages.stream()``, ``run_stream_events()``) is entered at the first item and left at the close.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol, Self, TypeAlias

import msgspec

from broadcaster.core.events import DataEvent, Error, Event, UnknownEvent, Usage
from broadcaster.errors import ProviderFailed
from broadcaster.library.sources.answers import Answers
from broadcaster.library.sources.failures import provider_failure
from broadcaster.library.sources.formats import ACCEPTED, type_name
from broadcaster.library.sources.langgraph import part_in
from broadcaster.library.sources.openai_agents import RunEvents, is_run
from broadcaster.library.sources.threads import ThreadedIterator
from broadcaster.observability.logs import get_logger

Piece: TypeAlias = str | Mapping[str, Any] | Event

_log = get_logger(__name__)


def open_source(source: Any) -> PublishedSource:
    """The pieces of a source; reads nothing yet. Raises TypeError, which names the type and what is accepted."""
    return source if isinstance(source, PublishedSource) else PublishedSource(source)


class ItemSink(Protocol):
    """Gets the items of a source as they were read."""

    async def take(self, item: Any) -> None:
        """The next item, before it is published; the source waits until this returns."""

    def close(self) -> None:
        """No item follows."""


class PublishedSource:
    """See the module's rules. Iterate it once, and close it in any case."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._answers = Answers(source)
        self._items = _items_of(source, self._note_opened)
        self._ready: deque[Piece] = deque()
        self._error: BaseException | None = None
        self._is_over = False
        self._is_closed = False
        self._sink: ItemSink | None = None
        self.failure: BaseException | None = None
        """What the caller should see although the pieces have ended with a terminal event (rule 2)."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        while not self._ready:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopAsyncIteration
            await self._read()
        return self._ready.popleft()

    def copy_to(self, sink: ItemSink) -> None:
        """Give each item to a sink, too. Call it before the first item is read."""
        self._sink = sink

    def usage_so_far(self) -> Usage | None:
        """The counts of an answer that is left now; None: the source has none, or the pieces include them already."""
        return None if self._is_over else self._answers.usage_so_far()

    async def aclose(self) -> None:
        """Rule 4. Idempotent. Raises what the source raises."""
        if self._is_closed:
            return
        self._is_closed = True
        self._ready.clear()
        if self._sink is not None:
            self._sink.close()
        await _close(self._items)
        if self._source is not self._items and not isinstance(self._items, ThreadedIterator):
            await _close(self._source)

    async def _read(self) -> None:
        try:
            item = await anext(self._items)
        except StopAsyncIteration:
            self._finish()
        except Exception as error:
            self._fail(error)
        else:
            if self._sink is not None:
                await self._sink.take(item)
            try:
                self._ready += self._pieces_of(item)
            except ProviderFailed as failure:
                self._break_off(failure, shown=failure)

    def _note_opened(self, opened: Any) -> None:
        """A context manager was entered: what it has opened knows counts and the finish reason."""
        self._answers.container = opened

    def _pieces_of(self, item: Any) -> list[Piece]:
        if isinstance(item, str) or (isinstance(item, Mapping) and part_in(item) is None) or _is_event(item):
            return [*self._answers.before(item), item]
        return [*self._answers.decode(item)]

    def _finish(self) -> None:
        try:
            self._ready += self._answers.end()
        except ProviderFailed as failure:
            self._break_off(failure, shown=failure)
        self._is_over = True

    def _fail(self, error: Exception) -> None:
        """Rules 2 and 3."""
        failure = provider_failure(error)
        if failure is None or not self._answers.is_begun:
            if (usage := self._answers.usage_so_far()) is not None:
                self._ready.append(usage)
            self._error = error
            self._is_over = True
        elif self._answers.is_whole and failure.reason in ("provider_disconnected", "provider_timeout"):
            _log.warning("provider_broke_after_its_answer", reason=failure.reason)
            self._finish()
        else:
            self._break_off(failure, shown=error)

    def _break_off(self, failure: ProviderFailed, *, shown: BaseException) -> None:
        if (usage := self._answers.usage_so_far()) is not None:
            self._ready.append(usage)
        self._ready.append(Error(error_text=failure.detail, code=failure.reason))
        self.failure = shown
        self._is_over = True


def _items_of(source: Any, opened: Callable[[Any], None]) -> AsyncIterator[Any]:
    if is_run(source):
        return RunEvents(source)
    if inspect.iscoroutine(source):
        source.close()
    if isinstance(source, Awaitable) and not isinstance(source, AsyncIterable):
        raise TypeError(f"{type_name(source)} cannot be published: await it first, and publish what it returns")
    is_value = isinstance(source, str | bytes | bytearray | Mapping) or hasattr(source, "model_dump_json")
    if not is_value and isinstance(source, AsyncIterable) and not _is_blocking(source):
        return aiter(source)
    if not is_value and isinstance(source, Iterable):
        return ThreadedIterator(source)
    if isinstance(source, AbstractAsyncContextManager):
        return _entered(source, opened)
    if isinstance(source, AbstractContextManager):
        return ThreadedIterator(_EnteredInThread(source, opened))
    remedy = ", or a list with the text" if isinstance(source, str) else ""
    raise TypeError(f"{type_name(source)} cannot be published. A source is {ACCEPTED}{remedy}")


def _is_blocking(source: Any) -> bool:
    """Whether it only looks asynchronous: the stream of ``litellm.completion`` would block the loop, or break in it.

    The iterator of some of its providers looks asynchronous, too, and what that one reads does not.
    """
    inner = getattr(source, "completion_stream", None)
    inner = getattr(inner, "streaming_response", inner)
    return isinstance(source, Iterable) and inner is not None and not isinstance(inner, AsyncIterable)


async def _entered(manager: AbstractAsyncContextManager[Any], opened: Callable[[Any], None]) -> AsyncIterator[Any]:
    async with manager as source:
        if not isinstance(source, AsyncIterable):
            raise _not_iterable(manager, source)
        opened(source)
        async for item in source:
            yield item


class _EnteredInThread:
    """A blocking context manager, entered by the thread that reads it."""

    def __init__(self, manager: AbstractContextManager[Any], opened: Callable[[Any], None]) -> None:
        self._manager = manager
        self._opened = opened

    def __iter__(self) -> Iterator[Any]:
        with self._manager as source:
            if not isinstance(source, Iterable):
                raise _not_iterable(self._manager, source)
            self._opened(source)
            yield from source


def _not_iterable(manager: object, source: object) -> TypeError:
    remedy = ": publish agent.run_stream_events(…)" if type_name(source).startswith("pydantic_ai.") else ""
    return TypeError(
        f"{type_name(manager)} opens {type_name(source)}, which cannot be published{remedy}. A source is {ACCEPTED}"
    )


def _is_event(item: Any) -> bool:
    return isinstance(item, DataEvent | UnknownEvent) or (
        isinstance(item, msgspec.Struct) and type(item).__module__ == Usage.__module__
    )


async def _close(each: Any) -> None:
    close = getattr(each, "aclose", None) or getattr(each, "close", None)
    if callable(close) and isinstance(closing := close(), Awaitable):
        await closing
