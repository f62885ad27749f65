"""All that a caller can see of a decoder, whatever its wire."""

from __future__ import annotations

from typing import NamedTuple

from broadcaster.core import events as ev
from broadcaster.dialects.reading import ProviderDecoder
from broadcaster.errors import ProviderFailed


class Outcome(NamedTuple):
    """The events, the reason of a failure, whether the answer is whole and whether it has ended, the usage."""

    events: list[ev.Event]
    reason: str | None
    is_whole: bool
    is_ended: bool
    usage: ev.Usage


def read_all(decoder: ProviderDecoder, *chunks: bytes) -> Outcome:
    """Decode these chunks, then the end of the body."""
    events, reason = list[ev.Event](), None
    try:
        for chunk in chunks:
            events += decoder.decode(chunk)
        events += decoder.flush()
    except ProviderFailed as failure:
        reason = failure.reason
    return Outcome(events, reason, decoder.is_whole, decoder.terminal_seen, decoder.usage_so_far())
