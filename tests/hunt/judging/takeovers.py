"""How long after a worker's death the next call of its answers begins: one lease and ``TAKEOVER_S``.

A later one is a violation where nothing else can have caused it: no other fault was in force, the driver's own loop was
in time (so the machine was not overloaded), the other workers had room, and it was the answer's first loss (the second
attempt begins at once, later ones wait). Else it is a line of the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from tests.hunt.system.lag import MOST_LAG_S, Lag
from tests.hunt.system.provider import Call

TAKEOVER_S: Final = 3.0
CLOSED: Final = "closed by the worker"
# Faults that no take-over has to wait for.
HARMLESS: Final = ("front-end", "SCRIPT-FLUSH")


class Period(Protocol):
    """A fault while it was in force."""

    @property
    def name(self) -> str: ...

    @property
    def began(self) -> float: ...

    @property
    def ended(self) -> float: ...


class TakeOver(NamedTuple):
    """One that came late. ``causes``: what else may have caused it; empty: nothing."""

    answer: str
    took_s: float
    causes: tuple[str, ...]

    def __str__(self) -> str:
        detail = f"it went on {self.took_s:.1f} s after its worker's death"
        return f"{detail} ({', '.join(self.causes) or 'without another cause'})"


def late_takeovers(
    kills: Sequence[float],
    calls: Mapping[str, Sequence[Call]],
    windows: Sequence[Period],
    lag: Lag,
    *,
    lease_s: float,
    has_room: bool,
) -> Iterator[TakeOver]:
    """All that came late, with what may excuse them. ``has_room``: one worker may run all that is open."""
    for killed in kills:
        for name, each in calls.items():
            for before, after in pairwise(each):
                if before.outcome != CLOSED or not killed - 1 < before.ended < killed + 2:
                    continue
                took_s = after.began - killed
                if took_s <= lease_s + TAKEOVER_S:
                    continue
                causes = [*_faults(windows, killed, killed - lease_s, after.began)]
                if (late_s := lag.longest(killed - lease_s, after.began)) > MOST_LAG_S:
                    causes.append(f"the driver was {late_s:.2f} s late")
                if not has_room:
                    causes.append("few slots")
                if any(call.outcome == CLOSED for call in each[: before.number - 1]):
                    causes.append("not its first loss")
                yield TakeOver(name, took_s, tuple(causes))


def _faults(windows: Sequence[Period], killed: float, since: float, until: float) -> Iterator[str]:
    """Faults of that time, but the death itself and what is harmless."""
    for window in windows:
        is_death = window.name.startswith("SIGKILL worker") and window.began <= killed <= window.ended
        is_harmless = any(detail in window.name for detail in HARMLESS)
        if window.began < until and window.ended > since and not is_death and not is_harmless:
            yield window.name
