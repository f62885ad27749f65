"""A subscription: one stream read over as many connections as it takes.

A connection that ends without the terminal entry, a 204, a refusal (4xx) or a ``hub.bye`` that forbids reconnecting is
followed by another one, from the last entry that was returned.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import httpx2

from broadcaster.client.errors import BadAnswer
from broadcaster.client.responses import is_busy, read_error, retry_after_s
from broadcaster.client.resuming import ResumingReader
from broadcaster.client.stream import Notice, StreamEvent, StreamTorn
from broadcaster.core.cursor import Cursor
from broadcaster.core.sse import SseDecoder
from broadcaster.errors import BadFrame

MEDIA_TYPE: Final = "text/event-stream"


class _NotNow(Exception):
    """The response is not the stream, but a later one may be."""


class Subscription(ResumingReader):
    """A reader over HTTP. Beside GaveUp, ``run`` raises StreamClosed, BadAnswer, or ClientError for a refusal."""

    _broken_by = (httpx2.TransportError, StreamTorn, _NotNow)

    def __init__(self, http: httpx2.AsyncClient, path: str, *, after: Cursor | None, give_up_after_s: float) -> None:
        super().__init__(after, SseDecoder(), give_up_after_s=give_up_after_s)
        self._http = http
        self._path = path

    async def _connection(self) -> AsyncGenerator[StreamEvent, None]:
        headers = {"accept": MEDIA_TYPE, "accept-encoding": "identity"}
        if self._reading.cursor is not None:
            headers["last-event-id"] = str(self._reading.cursor)
        try:
            async with self._http.stream("GET", self._path, headers=headers) as response:
                if response.status_code == httpx2.codes.NO_CONTENT:
                    self._reading.is_over = True
                    return
                await self._check(response)
                self._pace.connected(self._now())
                try:
                    async for chunk in response.aiter_bytes():
                        self._pace.received(self._now())
                        for event in self._events_in(chunk):
                            yield event
                            if isinstance(event, Notice) and (refusal := self._reading.refusal(event)) is not None:
                                raise refusal
                        if self._reading.is_over:
                            return
                finally:
                    self._decoder.flush()
                    if self._decoder.retry_ms is not None:
                        self._requested_s = self._decoder.retry_ms / 1000
        except (httpx2.DecodingError, BadFrame) as error:
            raise BadAnswer(f"not an event stream of a front-end: {error}") from error

    async def _check(self, response: httpx2.Response) -> None:
        """Raises unless the response is an event stream."""
        if response.status_code == httpx2.codes.OK:
            kind = response.headers.get("content-type", "")
            if kind.partition(";")[0].strip().lower() != MEDIA_TYPE:
                raise BadAnswer(f"the answer is {kind or 'untyped'}, not an event stream: is this a front-end?")
            return
        error = await read_error(response)
        if not is_busy(response.status_code):
            raise error
        self._requested_s = retry_after_s(response) or self._requested_s
        raise _NotNow(error.detail)
