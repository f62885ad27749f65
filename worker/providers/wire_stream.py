"""One answer as it comes: the chunks of a response body through the decoder of its wire. The same for every provider.

Rules
1. Only the decoder decides that the answer is complete: with the wire's own terminal, or, if the body ends or breaks
   after the last content, with the events of ``flush``. Every other end raises.
2. If a complete answer lacks only its end (counts, terminal), the stream waits for it at most WHOLE_TIMEOUT_S. Content
   that still comes (openai_chat/decode.py, rule 4) begins the wait anew.
3. After the terminal the rest of the body is read for at most DRAIN_TIMEOUT_S, so that the next request can use the
   connection. A failure here costs only the connection. The reader of the answer does not wait for it
   (sdk_provider.py).
4. Silence means no message for ``silence_s``, even if comments arrive. (The transport's own timeout ends the absence of
   bytes.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Self

from broadcaster.core.events import Event, ReasoningDelta, TextDelta, ToolInputDelta, ToolInputStart, Usage
from broadcaster.dialects.errors import SILENT, TRUNCATED
from broadcaster.dialects.reading import ProviderDecoder
from broadcaster.errors import ProviderFailed
from worker.providers.errors import Failures

# Counts follow the last content at once, or a slow gateway has lost them; viewers wait only for the end.
WHOLE_TIMEOUT_S: Final = 2.0
# The body ends with the terminal event or right after it; a slower connection is not worth keeping.
DRAIN_TIMEOUT_S: Final = 0.25
_CONTENT: Final = (TextDelta, ReasoningDelta, ToolInputStart, ToolInputDelta)


class WireStream:
    """See ProviderStream."""

    def __init__(
        self, chunks: AsyncIterator[bytes], decoder: ProviderDecoder, *, failures: Failures, silence_s: float
    ) -> None:
        self._chunks = chunks
        self._decoder = decoder
        self._failures = failures
        self._silence_s = silence_s
        self.received_bytes = 0
        self._silent_until: float | None = None
        self._advanced_at = asyncio.get_running_loop().time()
        self._whole_until: float | None = None
        self._cut: ProviderFailed | None = None
        self._failure: ProviderFailed | None = None
        self._is_read = False

    @property
    def has_rest(self) -> bool:
        """Whether the answer is complete, and its body may have more: call ``drain``."""
        return self._decoder.terminal_seen and not self._is_read

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Event]:
        decoder = self._decoder
        if (failure := self._failure or decoder.failure) is not None:
            raise failure
        while not decoder.terminal_seen:
            chunk = await self._next_chunk()
            if events := self._decode(chunk) if chunk is not None else self._end():
                return events
        raise StopAsyncIteration

    def usage_so_far(self) -> Usage:
        """See ProviderStream.usage_so_far."""
        return self._decoder.usage_so_far()

    async def drain(self) -> None:
        """Rule 3."""
        with suppress(*self._failures.errors):
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                while await anext(self._chunks, None) is not None:
                    pass

    async def _next_chunk(self) -> bytes | None:
        """The next piece of the body; None at its end, with the failure for an incomplete answer in ``_cut``."""
        loop, until = asyncio.get_running_loop(), self._silent_until
        if self._decoder.is_whole:  # rule 2
            until = self._whole_until = self._whole_until or loop.time() + WHOLE_TIMEOUT_S
        elif until is not None and loop.time() >= until:  # bytes that wait to be read would never let the timer run
            self._cut = SILENT.failure()
            return None
        try:
            if until is None:  # most chunks: a timeout would cost a third more
                return await anext(self._chunks, None)
            async with asyncio.timeout_at(until):
                return await anext(self._chunks, None)
        except self._failures.errors as error:
            self._cut = self._failures.of(error)
        return None

    def _decode(self, chunk: bytes) -> list[Event]:
        """Rule 4: a chunk without a part of a message sets a deadline, a later one with a part removes it."""
        self.received_bytes += len(chunk)
        events = self._decoder.decode(chunk)
        if self._whole_until is not None and any(isinstance(event, _CONTENT) for event in events):
            self._whole_until = None  # rule 2
        if self._decoder.has_advanced:
            self._advanced_at, self._silent_until = asyncio.get_running_loop().time(), None
        else:
            self._silent_until = self._advanced_at + self._silence_s
        return events

    def _end(self) -> list[Event]:
        """Rule 1: the last events. An incomplete answer fails, after its last events."""
        self._is_read = True
        events = self._decoder.flush()
        if not self._decoder.terminal_seen:
            self._failure = self._cut or TRUNCATED.failure()
            if not events:
                raise self._failure
        return events
