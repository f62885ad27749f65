"""What a run consists of: sizes, steps, and the servers that are up while a scenario lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bench.measuring import Bench
from bench.programs import CannotRun
from bench.servers import Server

Outcome = tuple[dict[str, float], list[str]]
"""Values, with their units in their names, and what was wrong."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is. Rates are events a second of one stream; ``_s`` are durations in seconds.

    ``keeps_servers``: they serve all scenarios, so that a small run does not spend its time on starting them.
    """

    servers: Sequence[str]
    keeps_servers: bool
    settle_s: float
    idle_s: float
    stall_s: float
    append_s: float
    warm_up_s: float
    work_s: float

    rounds: int
    seconds: float  # of W1, W2 and each point of a curve
    viewers: int
    rates: Sequence[float]
    overload_rate: float
    streams: int
    replay_events: int
    replay_viewers: int
    idle_viewers: int
    stalled: int
    generations: int
    answers: int
    viewer_curve: Sequence[int]
    stream_curve: Sequence[int]
    rate_curve: Sequence[float]


ON_PRIMARIES: Final = ("ours-on-1", "ours-on-2", "ours-on-3")
"""Ours over a cluster of so many primaries."""

FULL: Final = Size(
    servers=(
        *("floor", "ours", "nchan", "centrifugo", "naive", "better-sse", "resumable-stream"),
        *("ours-2", "ours-3", "ours-4", *ON_PRIMARIES),
    ),
    keeps_servers=False,
    settle_s=1.0,
    idle_s=2.0,
    stall_s=4.0,
    append_s=3.0,
    warm_up_s=3.0,
    work_s=6.0,
    rounds=3,
    seconds=3.0,
    viewers=1000,
    rates=(20, 40, 100),
    overload_rate=2000,
    streams=1000,
    replay_events=5000,
    replay_viewers=200,
    idle_viewers=10_000,
    stalled=50,
    generations=200,
    answers=50,
    viewer_curve=(10, 100, 1000, 10_000, 20_000),
    stream_curve=(10, 100, 1000, 5000),
    rate_curve=(1, 10, 100, 1000),
)
QUICK: Final = Size(
    servers=("floor", "ours", "nchan", "centrifugo", "naive", "ours-2", *ON_PRIMARIES[:2]),
    keeps_servers=True,
    settle_s=0.2,
    idle_s=0.2,
    stall_s=0.5,
    append_s=0.5,
    warm_up_s=1.0,
    work_s=1.0,
    rounds=1,
    seconds=0.5,
    viewers=100,
    rates=(20, 100),
    overload_rate=500,
    streams=50,
    replay_events=500,
    replay_viewers=20,
    idle_viewers=300,
    stalled=5,
    generations=20,
    answers=5,
    viewer_curve=(10, 100),
    stream_curve=(1, 20),
    rate_curve=(10, 100),
)


def fit(size: Size, most_viewers: int) -> Size:
    """The same, with no more viewers at once than a process may have files: the larger points become that many."""

    def capped(counts: Sequence[int]) -> list[int]:
        return list(dict.fromkeys(min(count, most_viewers) for count in counts))

    return replace(
        size,
        idle_viewers=min(size.idle_viewers, most_viewers),
        viewer_curve=capped(size.viewer_curve),
        stream_curve=capped(size.stream_curve),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One measurement to make; ``expects_s`` is for the progress bar alone."""

    scenario: str
    case: str
    server: str
    round: int
    run: Callable[[], Outcome]
    expects_s: float


@dataclass(slots=True)
class Yard:
    """Servers by name: started when first asked for, ended together."""

    bench: Bench
    makers: Mapping[str, Callable[[], Server]]
    left_out: dict[str, str] = field(default_factory=dict)
    _up: dict[str, Server] = field(default_factory=dict)

    def known(self, *names: str) -> list[str]:
        """Those of the names that this machine can run; why the others are left out is kept."""
        return [name for name in names if name in self.makers and self._can(name)]

    def get(self, name: str) -> Server:
        """The server, running."""
        if name not in self._up:
            server = self.makers[name]()
            self._up[name] = server
            server.start(self.bench.folder)
        return self._up[name]

    def get_fresh(self, name: str) -> Server:
        """The server, started for the caller: it remembers nothing of earlier steps."""
        if name in self._up:
            self._up.pop(name).stop()
        return self.get(name)

    def close(self) -> None:
        """End every server."""
        while self._up:
            _, server = self._up.popitem()
            server.stop()

    def _can(self, name: str) -> bool:
        try:
            self.makers[name]()
        except CannotRun as error:
            self.left_out[name] = str(error)
            return False
        return True


@dataclass(frozen=True, slots=True)
class Site:
    """Everything a scenario stands on."""

    bench: Bench
    size: Size
    yard: Yard


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name for ONLY=, what it shows, and its steps."""

    name: str
    title: str
    steps: Callable[[Site], list[Step]]
