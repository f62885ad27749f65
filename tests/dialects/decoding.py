"""What the tests of decoders share, whatever the wire: all that a caller can see of one, and its events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.reading import ProviderDecoder
from broadcaster.errors import ProviderFailed

T = TypeVar("T")

OPENING = 2  # start, start-step
ENDING = 3  # usage, finish-step, finish


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


@dataclass(frozen=True)
class WireDecoding:
    """Decodes whole streams of one wire."""

    create: Callable[..., ProviderDecoder]

    def decode(self, raw: bytes, *, request_id: str | None = None) -> list[ev.Event]:
        """The events of a stream whose body ends."""
        decoder = self.create(request_id=request_id)
        return decoder.decode(raw) + decoder.flush()

    def content(self, raw: bytes) -> list[ev.Event]:
        """The events of a whole answer between its opening and its ending."""
        return self.decode(raw)[OPENING:-ENDING]

    def failure_of(self, raw: bytes) -> ProviderFailed:
        """The failure in which the stream ends."""
        with pytest.raises(ProviderFailed) as caught:
            self.decode(raw)
        return caught.value


def the(kind: type[T], events: list[ev.Event]) -> T:
    """The only event of this kind."""
    (found,) = [event for event in events if isinstance(event, kind)]
    return found
