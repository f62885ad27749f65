"""Ending a generation that has no worker: its stop was requested, or its time is up.

The process that ends it writes the ``usage`` event that its worker would have written, before the terminal event. The
usage is estimated from the last attempt's entries, and its input, if no entry has it, from the request. The answer so
far stays.
"""

from __future__ import annotations

import math

from broadcaster.core.events import (
    Attempt,
    Event,
    ReasoningDelta,
    TextDelta,
    ToolInputDelta,
    Usage,
    encode_event,
    read_event,
)
from broadcaster.core.providers.metering import OutputMeter, estimated_input_tokens
from broadcaster.log.jobs.claims import Claim, Claims
from broadcaster.log.streams.pages import read_pages
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail


class Endings:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat."""

    def __init__(self, claims: Claims, streams: Streams) -> None:
        self._claims = claims
        self._streams = streams

    async def end(
        self,
        stream_id: str,
        terminal: bytes | None,
        *,
        tail: Tail,
        may_take_over: bool,
        answered_s: float = math.inf,
    ) -> Claim:
        """End it: with ``abort`` if a stop was requested, otherwise with ``terminal``; refused while a worker has it.

        ``tail`` is the stream's, read a moment ago: a stream that had a lease then is not taken over, though the lease
        may have lapsed since (an unnoticed break may have cost it). For the rest see Claims.claim.
        """
        is_unowned = not tail.leased and (may_take_over or tail.status == "queued")
        usage = await self.usage(stream_id) if is_unowned and tail.last is not None else b""
        return await self._claims.end(
            stream_id, terminal, may_take_over=may_take_over and not tail.leased, answered_s=answered_s, usage=usage
        )

    async def usage(self, stream_id: str) -> bytes:
        """The estimate, as an event; ``b""`` when the provider's exact counts are complete, or nothing was written.

        Text that an answer of several steps wrote after the newest exact counts is added to them.
        """
        meter, reported = OutputMeter(), Usage(estimated=True)
        async for entries in read_pages(self._streams, stream_id):
            for entry in entries:
                event = read_event(entry.event)
                if isinstance(event, Attempt):
                    meter, reported = OutputMeter(), Usage(estimated=True)
                elif isinstance(event, Usage):
                    reported = event
                    meter = meter if event.estimated else OutputMeter()
                else:
                    meter.count(_written(event))
        if meter.bytes == 0:
            return b""
        counted = 0 if reported.estimated else reported.output_tokens or 0
        output_tokens = counted + meter.estimated_tokens()
        input_tokens = reported.input_tokens
        if input_tokens is None and (meta := await self._streams.meta(stream_id)) is not None:
            input_tokens = estimated_input_tokens(meta.request)
        return encode_event(Usage(input_tokens=input_tokens, output_tokens=output_tokens, estimated=True))


def _written(event: Event) -> str:
    """The text of an event that the model has written."""
    match event:
        case TextDelta(delta=text) | ReasoningDelta(delta=text) | ToolInputDelta(input_text_delta=text):
            return text
        case _:
            return ""
