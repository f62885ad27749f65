"""Pieces of text and reasoning → parts that open and close by themselves, for one writer of a feed.

Rules
1. A piece continues the open part of its kind, or opens a new one. Every other event, and a piece of the other kind,
   closes the open part first: the parts stand in the order in which the program wrote them. ``usage`` is in no order
   with them, and closes nothing.
2. The ids of parts begin with a random text of this writer. So they never collide with ids that the program chooses
   itself, nor with the parts of other writers of the feed.
3. An append that was refused changes nothing. If an append may not be in the log, a part that it has opened is not
   continued: the next piece opens another one. The same holds after events of this writer were lost.

4. A plan changes nothing. Its writer counts it as written when its events are on their way.

The contexts are for one task or thread at a time. `sync.Feed` uses the plans.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

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


class Written(NamedTuple):
    """What the next append of a writer depends on: its open part, and how many of its events were lost by then."""

    open: _OpenPart | None = None
    lost: int = 0

    def after(self, lost: int) -> _OpenPart | None:
        """The part that is still open when so many events are lost (rule 3)."""
        return self.open if lost == self.lost else None


class Plan(NamedTuple):
    """What to append, and what is written then."""

    events: Given
    then: Written


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
        plan = self.plan_piece(kind, text, written=Written(self._open, self._lost), lost=lost)
        with self._appending(plan):
            yield plan.events

    @contextmanager
    def events(self, *events: Mapping[str, Any] | Event, lost: int) -> Iterator[Given]:
        """Other events, after the end of the open part; without any, only that end."""
        plan = self.plan_events(*events, written=Written(self._open, self._lost), lost=lost)
        with self._appending(plan):
            yield plan.events

    def plan_piece(self, kind: PartKind, text: str, *, written: Written, lost: int) -> Plan:
        """As ``piece``, after what is written."""
        if not isinstance(text, str):
            raise TypeError(f"{kind} is a str, not {type(text).__name__}{_REMEDIES.get(type(text), '')}")
        part = written.after(lost)
        events: list[Event] = []
        if text and (part is None or part.kind != kind):
            events += self._end_of(part)
            part = _OpenPart(kind, f"{self._series}-{self._opened}")
            self._opened += 1
            events.append(_WRITTEN[kind].start(id=part.id))
        if text and part is not None:
            events.append(_WRITTEN[kind].delta(id=part.id, delta=text))
        return Plan(events, Written(part, lost))

    def plan_events(self, *events: Mapping[str, Any] | Event, written: Written, lost: int) -> Plan:
        """As ``events``, after what is written."""
        part = written.after(lost)
        if events and all(map(_is_usage, events)):
            return Plan(events, Written(part, lost))
        return Plan([*self._end_of(part), *events], Written(None, lost))

    @contextmanager
    def _appending(self, plan: Plan) -> Iterator[None]:
        """Rule 3. Another task may have appended meanwhile: then the part is no longer ours to change."""
        after, lost = plan.then
        before = Written(self._open, self._lost).after(lost)
        self._open, self._lost = after, lost
        try:
            yield
        except BaseException as error:
            is_refused = isinstance(error, BroadcasterError | TypeError) and not isinstance(error, LogUnavailable)
            if self._open is after and after is not before:
                self._open = before if is_refused else None
            raise

    @staticmethod
    def _end_of(part: _OpenPart | None) -> list[Event]:
        return [] if part is None else [_WRITTEN[part.kind].end(id=part.id)]


def _is_usage(event: Mapping[str, Any] | Event) -> bool:
    return event.get("type") == "usage" if isinstance(event, Mapping) else isinstance(event, Usage)
