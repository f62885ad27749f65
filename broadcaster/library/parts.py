"""Pieces of text and reasoning → parts that open and close by themselves, for one writer of a feed.

Rules
1. A piece continues the open part of its kind, or opens a new one. Every other event, and a piece of the other kind,
   closes the open part first: the parts stand in the order in which the program wrote them. ``usage`` is in no order
   with them, and closes nothing.
2. The ids of parts begin with a random text of this writer. So they never collide with ids that the program chooses
   itself, nor with the parts of other writers of the feed.
3. An append that was refused changes nothing. If an append may not be in the log, a part that it has opened is not
   continued: the next piece opens another one. The same holds after events of this writer were lost.

Not safe for threads: `sync.Feed` calls it under a lock.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from broadcaster.core.events import REASONING, TEXT, Event, Usage, WrittenEvents
from broadcaster.errors import BroadcasterError, LogUnavailable

PartKind: TypeAlias = Literal["text", "reasoning"]
Given: TypeAlias = Sequence[Mapping[str, Any] | Event]

_SERIES_BYTES: Final = 4
_WRITTEN: Final[Mapping[PartKind, WrittenEvents]] = {"text": TEXT, "reasoning": REASONING}
_REMEDIES: Final[Mapping[type, str]] = {
    bytes: ": decode it first, with .decode()",
    bytearray: ": decode it first, with .decode()",
}


@dataclass(frozen=True, slots=True, eq=False)
class _OpenPart:
    kind: PartKind
    id: str


class Parts:
    """The open part of one writer. Each context gives what to append; leave it by the error if that was refused.

    ``lost``: how many events of this writer were lost so far (rule 3).
    """

    def __init__(self) -> None:
        self._series = secrets.token_hex(_SERIES_BYTES)
        self._opened = 0
        self._open: _OpenPart | None = None
        self._lost = 0

    @contextmanager
    def piece(self, kind: PartKind, text: str, *, lost: int) -> Iterator[Given]:
        """A piece of a part; an empty one appends nothing. Raises TypeError for another type than str."""
        if not isinstance(text, str):
            raise TypeError(f"{kind} is a str, not {type(text).__name__}{_REMEDIES.get(type(text), '')}")
        self._forget_after(lost)
        before, part = self._open, self._open
        events: list[Event] = []
        if text and (part is None or part.kind != kind):
            events += self._end_of(part)
            part = _OpenPart(kind, f"{self._series}-{self._opened}")
            self._opened += 1
            events.append(_WRITTEN[kind].start(id=part.id))
        if text and part is not None:
            events.append(_WRITTEN[kind].delta(id=part.id, delta=text))
        with self._appending(before, part):
            yield events

    @contextmanager
    def events(self, *events: Mapping[str, Any] | Event, lost: int) -> Iterator[Given]:
        """Other events, after the end of the open part; without any, only that end."""
        self._forget_after(lost)
        before = self._open
        if events and all(map(_is_usage, events)):
            yield events
            return
        with self._appending(before, None):
            yield [*self._end_of(before), *events]

    @contextmanager
    def _appending(self, before: _OpenPart | None, after: _OpenPart | None) -> Iterator[None]:
        """Rule 3. Another task may have appended meanwhile: then the part is no longer ours to change."""
        self._open = after
        try:
            yield
        except BaseException as error:
            is_refused = isinstance(error, BroadcasterError | TypeError) and not isinstance(error, LogUnavailable)
            if self._open is after and after is not before:
                self._open = before if is_refused else None
            raise

    def _forget_after(self, lost: int) -> None:
        if lost != self._lost:
            self._lost, self._open = lost, None

    @staticmethod
    def _end_of(part: _OpenPart | None) -> list[Event]:
        return [] if part is None else [_WRITTEN[part.kind].end(id=part.id)]


def _is_usage(event: Mapping[str, Any] | Event) -> bool:
    return event.get("type") == "usage" if isinstance(event, Mapping) else isinstance(event, Usage)
