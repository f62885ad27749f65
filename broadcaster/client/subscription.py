"""A subscription: one stream read over as many connections as it takes.

A connection that ends without the terminal entry, a 204, a refusal (4xx) or a ``hub.bye`` that forbids reconnecting is
followed by another one, from the last entry that was returned.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import httpx2

from broadcaster.client.errors import BadAnswer, GaveUp
from broadcaster.client.pace import Pace
from broadcaster.client.responses import error_of, is_busy, retry_after_s
from broadcaster.client.stream import (
    EntryReceived,
    GapReceived,
    Notice,
    Reconnecting,
    StreamEvent,
    StreamPosition,
    StreamTorn,
)
from broadcaster.core.cursor import Cursor
from broadcaster.core.sse import SseDecoder
from broadcaster.errors import BadFrame

MEDIA_TYPE: Final = "text/event-stream"
ENDED_EARLY: Final = "the connection ended before the stream did"


class _NotNow(Exception):
    """The response is not the stream, but a later one may be."""


class Subscription:
    """One reader of one stream; ``run`` it once, inside ``contextlib.aclosing`` if it may be left early."""

    def __init__(self, http: httpx2.AsyncClient, path: str, *, after: Cursor | None, give_up_after_s: float) -> None:
        self._http = http
        self._path = path
        self._give_up_after_s = give_up_after_s
        self._reading = StreamPosition(after)
        self._decoder = SseDecoder()
        self._requested_s: float | None = None
        self._now = asyncio.get_running_loop().time
        self._pace = Pace(give_up_after_s=give_up_after_s, now=self._now())

    async def run(self) -> AsyncGenerator[StreamEvent, None]:
        """Everything until the stream's end. Raises GaveUp, StreamClosed, BadAnswer, or ClientError for a refusal."""
        while True:
            reason = ENDED_EARLY
            try:
                async with aclosing(self._connection()) as connection:
                    async for event in connection:
                        yield event
                        if isinstance(event, EntryReceived | GapReceived):
                            # After the yield: the caller's own time does not count as time without progress.
                            self._pace.progressed(self._now())
            except (httpx2.TransportError, StreamTorn, _NotNow) as error:
                reason = str(error) or type(error).__name__
            except (httpx2.DecodingError, BadFrame) as error:
                raise BadAnswer(f"not an event stream of a front-end: {error}") from error
            if self._reading.is_over:
                return
            delay_s = self._pace.next_delay(self._now(), requested_s=self._requested_s, dice=random.random())
            if delay_s is None:
                detail = f"no progress for {self._give_up_after_s:g} s; last: {reason}"
                raise GaveUp(detail, cursor=self._reading.cursor)
            yield Reconnecting(reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _connection(self) -> AsyncGenerator[StreamEvent, None]:
        """One connection, until it ends or the stream does."""
        headers = {"accept": MEDIA_TYPE, "accept-encoding": "identity"}
        if self._reading.cursor is not None:
            headers["last-event-id"] = str(self._reading.cursor)
        async with self._http.stream("GET", self._path, headers=headers) as response:
            if response.status_code == httpx2.codes.NO_CONTENT:
                self._reading.is_over = True
                return
            await self._check(response)
            self._pace.connected(self._now())
            try:
                async for chunk in response.aiter_bytes():
                    self._pace.received(self._now())
                    # One at a time: each event must be yielded before the next message may raise StreamTorn.
                    for message in self._decoder.decode(chunk):
                        event = self._reading.take(message)
                        if event is not None:
                            yield event
                        if isinstance(event, Notice) and (refusal := self._reading.refusal(event)) is not None:
                            raise refusal
                        if self._reading.is_over:
                            return
            finally:
                self._decoder.flush()
                if self._decoder.retry_ms is not None:
                    self._requested_s = self._decoder.retry_ms / 1000

    async def _check(self, response: httpx2.Response) -> None:
        """Raises unless the response is an event stream."""
        if response.status_code == httpx2.codes.OK:
            kind = response.headers.get("content-type", "")
            if kind.partition(";")[0].strip().lower() != MEDIA_TYPE:
                raise BadAnswer(f"the answer is {kind or 'untyped'}, not an event stream: is this a front-end?")
            return
        await response.aread()
        error = error_of(response)
        if not is_busy(response.status_code):
            raise error
        self._requested_s = retry_after_s(response) or self._requested_s
        raise _NotNow(error.detail)
