"""One answer as it comes: the chunks of a response body through the decoder of its wire. The same for every provider.

Rules
1. Only the decoder says that the answer is whole: with the wire's own terminal, or, when the body ends or breaks after
   the last content, by what ``flush`` then closes it with. Every other end raises.
2. An answer that is whole, but whose end dawdles (counts, terminal), is waited for at most WHOLE_TIMEOUT_S.
3. After the terminal the rest of the body is read for at most DRAIN_TIMEOUT_S, so that the connection serves the next
   request; a failure in there costs the connection and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Self

from broadcaster.core.events import Event, Usage
from broadcaster.dialects.reading import ProviderDecoder
from broadcaster.errors import ProviderFailed
from worker.providers.errors import TRUNCATED, Failures

# Counts follow the last content at once, or a slow gateway has lost them; viewers wait for nothing else by then.
WHOLE_TIMEOUT_S: Final = 2.0
# The end of the body comes with the terminal event or right after it; a connection that dawdles is not worth keeping.
DRAIN_TIMEOUT_S: Final = 0.25


class WireStream:
    """See ProviderStream."""

    def __init__(self, chunks: AsyncIterator[bytes], decoder: ProviderDecoder, *, failures: Failures) -> None:
        self._chunks = chunks
        self._decoder = decoder
        self._failures = failures
        self._whole_until: float | None = None
        self._failure: ProviderFailed | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Event]:
        decoder = self._decoder
        if (failure := self._failure or decoder.failure) is not None:
            raise failure
        while not decoder.terminal_seen:
            chunk, failure = await self._next_chunk()
            if events := decoder.decode(chunk) if chunk is not None else self._end(failure):
                return events
        await self._drain()
        raise StopAsyncIteration

    def usage_so_far(self) -> Usage:
        """See ProviderStream.usage_so_far."""
        return self._decoder.usage_so_far()

    async def _next_chunk(self) -> tuple[bytes | None, ProviderFailed]:
        """The next piece of the body; None at its end, with what that end means to an answer that is not whole."""
        deadline = asyncio.timeout_at(self._deadline())
        try:
            async with deadline:
                return await anext(self._chunks, None), TRUNCATED.failure()
        except self._failures.errors as error:
            return None, TRUNCATED.failure() if deadline.expired() else self._failures.of(error)

    def _deadline(self) -> float | None:
        """Rule 2."""
        if self._whole_until is None and self._decoder.is_whole:
            self._whole_until = asyncio.get_running_loop().time() + WHOLE_TIMEOUT_S
        return self._whole_until

    def _end(self, failure: ProviderFailed) -> list[Event]:
        """Rule 1: the last events. Raises the failure, after them if there are any, when the answer is not whole."""
        events = self._decoder.flush()
        if not self._decoder.terminal_seen:
            self._failure = failure
            if not events:
                raise failure
        return events

    async def _drain(self) -> None:
        """Rule 3."""
        with suppress(*self._failures.errors):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while await anext(self._chunks, None) is not None:
                    pass
