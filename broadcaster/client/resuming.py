"""The loop of a reader that resumes: one stream, read over as many connections as it takes.

A connection that ends before the stream does is followed by another one, from the last entry that was returned.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import ClassVar

from broadcaster.client.errors import GaveUp
from broadcaster.client.pace import Pace
from broadcaster.client.stream import EntryReceived, GapReceived, Reconnecting, StreamEvent, StreamPosition
from broadcaster.core.cursor import Cursor
from broadcaster.core.sse import SseDecoder


class ResumingReader(ABC):
    """One reader of one stream; ``run`` it once, inside ``contextlib.aclosing`` if it may be left early."""

    _broken_by: ClassVar[tuple[type[Exception], ...]]
    """The errors that end a connection and not the reading."""
    _ended_early: ClassVar[str] = "the connection ended before the stream did"

    def __init__(self, after: Cursor | None, decoder: SseDecoder, *, give_up_after_s: float) -> None:
        self._reading = StreamPosition(after)
        self._decoder = decoder
        self._give_up_after_s = give_up_after_s
        self._requested_s: float | None = None  # the delay that the other side requests before the next connection
        self._now = asyncio.get_running_loop().time
        self._pace = Pace(give_up_after_s=give_up_after_s, now=self._now())

    async def run(self) -> AsyncGenerator[StreamEvent, None]:
        """Everything until the stream's end. Raises GaveUp, and what ``_connection`` does."""
        while True:
            reason = self._ended_early
            try:
                async with aclosing(self._connection()) as connection:
                    async for event in connection:
                        given_at = self._now()
                        yield event
                        self._pace.waited(self._now() - given_at)
                        self._note(event)
            except self._broken_by as error:
                reason = str(error) or type(error).__name__
            if self._reading.is_over:
                return
            delay_s = self._next_delay(reason)
            given_at = self._now()
            yield Reconnecting(reason, delay_s)
            self._pace.waited(self._now() - given_at)
            await asyncio.sleep(delay_s)

    @abstractmethod
    def _connection(self) -> AsyncGenerator[StreamEvent, None]:
        """One connection, until it ends or the stream does."""

    def _note(self, event: StreamEvent) -> None:
        """The caller has taken this event."""
        if isinstance(event, EntryReceived | GapReceived):
            self._pace.progressed(self._now())

    def _next_delay(self, reason: str) -> float:
        """Seconds until the next connection. Raises GaveUp."""
        delay_s = self._pace.next_delay(self._now(), requested_s=self._requested_s, dice=random.random())
        if delay_s is None:
            raise self._gave_up(reason)
        return delay_s

    def _gave_up(self, reason: str) -> GaveUp:
        detail = f"no progress for {self._give_up_after_s:g} s; last: {reason}"
        return GaveUp(detail, cursor=self._reading.cursor)

    def _events_in(self, chunk: bytes) -> Iterator[StreamEvent]:
        """One at a time: each event must be yielded before the next message may raise StreamTorn."""
        for message in self._decoder.decode(chunk):
            event = self._reading.take(message)
            if event is not None:
                yield event
            if self._reading.is_over:
                return
