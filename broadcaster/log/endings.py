"""Ending a generation that nobody runs: its stop was asked for, or its time is up.

What a worker would have said of the answer it leaves behind is said for it: ``usage``, estimated from what the log
holds of the last attempt, stands before the terminal event. The answer so far stays.
"""

from __future__ import annotations

import math

from broadcaster.core.cursor import START
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
from broadcaster.core.metering import OutputMeter
from broadcaster.log.claims import Claim, Claims
from broadcaster.log.streams import Streams, Tail

_READ_AT_ONCE = 1000


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
        """End it: with a stop asked for as ``abort``, otherwise with ``terminal``; refused while a worker has it.

        ``tail`` is the stream's, looked at a moment ago: what had a lease then is not taken over, though it may have
        lapsed since (a break that nobody could know of may have cost it). For the rest see Claims.claim.
        """
        is_nobodys = not tail.leased and (may_take_over or tail.status == "queued")
        usage = await self.usage(stream_id) if is_nobodys and tail.last is not None else b""
        return await self._claims.end(
            stream_id, terminal, may_take_over=may_take_over and not tail.leased, answered_s=answered_s, usage=usage
        )

    async def usage(self, stream_id: str) -> bytes:
        """The estimate, as an event; ``b""`` when there is nothing to estimate or the provider has said it all.

        What an answer of several steps wrote after the newest exact counts is added to them.
        """
        meter, told = OutputMeter(), Usage(estimated=True)
        after = START
        while entries := await self._streams.read(stream_id, after=after, count=_READ_AT_ONCE):
            after = entries[-1].cursor
            for entry in entries:
                event = read_event(entry.event)
                if isinstance(event, Attempt):
                    meter, told = OutputMeter(), Usage(estimated=True)
                elif isinstance(event, Usage):
                    told = event
                    meter = meter if event.estimated else OutputMeter()
                else:
                    meter.count(_written(event))
        if meter.bytes == 0:
            return b""
        counted = 0 if told.estimated else told.output_tokens or 0
        output_tokens = counted + meter.estimated_tokens()
        return encode_event(Usage(input_tokens=told.input_tokens, output_tokens=output_tokens, estimated=True))


def _written(event: Event) -> str:
    """What of an event the model has written."""
    match event:
        case TextDelta(delta=text) | ReasoningDelta(delta=text) | ToolInputDelta(input_text_delta=text):
            return text
        case _:
            return ""
