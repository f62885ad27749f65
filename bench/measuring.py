"""One measurement: viewers, a publisher, and what the server used between the first event and the last delivery.

Theory of operation. The viewers connect; when every one has its head, the CPU of the server (and of its Redis) is read,
the publisher runs at its rate, and when the last delivery has come, or nothing more is to be hoped for, the CPU is read
again. Nothing of the harness runs meanwhile but a sleep.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.figures import per_us
from bench.processes import Child, ProcessEnded, cpu_s, pss_bytes
from bench.programs import Programs
from bench.servers import Server

NAP_US: Final = 500
"""How long the viewers' program sleeps before each look at its sockets: on two cores it must not take the server's."""

_CONNECT_S: Final = 60.0
_POLL_S: Final = 0.02
_END_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a run works: its programs and its folder."""

    programs: Programs
    folder: Path


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many viewers on how many streams, and what is published: events a second over all streams, for so long."""

    viewers: int
    streams: int
    rate: float
    seconds: float
    size_bytes: int = 120
    stalled: int = 0
    receive_bytes: int = 0
    settle_s: float = 0.3

    @property
    def events(self) -> int:
        """Events of the whole run."""
        return max(self.streams, round(self.rate * self.seconds))

    @property
    def deliveries(self) -> int:
        """What viewers that read get of them in all: events and viewers are dealt out to the streams in turn."""
        each, left = divmod(self.events, self.streams)
        return sum(each + (viewer % self.streams < left) for viewer in range(self.stalled, self.viewers))


class Viewers:
    """The load generator, running; ``finish`` ends it and returns what it saw."""

    def __init__(self, bench: Bench, server: Server, words: Sequence[str], *, name: str = "viewers") -> None:
        """``name``: of its files; two that run at once have different ones."""
        self._printed = bench.folder / f"{name}.json"
        self._printed.unlink(missing_ok=True)
        native = ["--native-ids"] if server.has_native_ids else []
        command: list[str | Path] = [bench.programs.load, "--port", str(server.port), "--numbered", *native, *words]
        self._child = Child(command, log=bench.folder / f"{name}.log", output=self._printed)

    def until_connected(self) -> dict[str, Any]:
        """What it says when every viewer has its head. Raises ProcessEnded."""
        deadline = time.monotonic() + _CONNECT_S
        while not (lines := self._lines()):
            if time.monotonic() > deadline or not self._child.is_running:
                self._child.stop()
                raise ProcessEnded(f"the viewers did not connect: {self._child.last_output()}")
            time.sleep(_POLL_S)
        return lines[0]

    def finish(self, timeout_s: float) -> dict[str, Any]:
        """Wait until it has what its arguments name, or end it; returns what it printed last. Raises ProcessEnded."""
        self._child.wait(timeout_s)
        self._child.send(signal.SIGTERM)
        self._child.wait(_END_S)
        self._child.stop()
        lines = self._lines()
        if not lines or lines[-1]["phase"] != "done":
            raise ProcessEnded(f"the viewers printed nothing: {self._child.last_output()}")
        return lines[-1]

    def stop(self) -> None:
        """End it, whatever it has. Idempotent."""
        self._child.stop()

    def _lines(self) -> list[dict[str, Any]]:
        text = self._printed.read_text("utf-8") if self._printed.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]


def publish(bench: Bench, words: Sequence[str], *, timeout_s: float) -> dict[str, Any]:
    """Run the publisher to its end, or until ``timeout_s``; returns its figures. Raises ProcessEnded."""
    printed = bench.folder / "publisher.json"
    printed.unlink(missing_ok=True)
    child = Child([bench.programs.publish, *words], log=bench.folder / "publisher.log", output=printed)
    try:
        if not child.wait(timeout_s):
            child.send(signal.SIGTERM)
            child.wait(_END_S)
    finally:
        child.stop()
    text = printed.read_text("utf-8")
    if not text:
        raise ProcessEnded(f"the publisher printed nothing: {child.last_output()}")
    figures: dict[str, Any] = json.loads(text)
    return figures


def fan_out(bench: Bench, server: Server, traffic: Traffic, *, run: str) -> tuple[dict[str, float], list[str]]:
    """Deliver the traffic through the server: values, and what was wrong."""
    target = server.publish_to(run, traffic.streams)
    viewers = Viewers(bench, server, [*_watching(server, traffic, run=run), "--deliveries", str(traffic.deliveries)])
    try:
        connected = viewers.until_connected()
        time.sleep(traffic.settle_s)
        limit_s = 2 * traffic.seconds + 2
        held = pss_bytes(server.pids)
        before, redis_before = cpu_s(server.pids), cpu_s(server.redis_pids)
        published = publish(bench, [*target, *_publishing(traffic)], timeout_s=limit_s)
        seen = viewers.finish(max(2.0, traffic.seconds))
        used_s, redis_s = cpu_s(server.pids) - before, cpu_s(server.redis_pids) - redis_before
    finally:
        viewers.stop()
    events = seen["events"]
    values = {
        "cpu_us_per_delivery": per_us(used_s, events),
        "redis_us_per_event": per_us(redis_s, published["sent"]),
        "deliveries_per_s": events / seen["span_s"] if seen["span_s"] else 0.0,
        "p50_ms": seen["latency_us"]["p50"] / 1000,
        "p99_ms": seen["latency_us"]["p99"] / 1000,
        "server_mb": held / 2**20,
        "publisher_late_ms": published["late_us"]["p99"] / 1000,
        "viewer_us_per_delivery": per_us(seen["cpu_s"], events),
    }
    faults = faults_of(seen, connected=connected, refused=published["refused"])
    return values, [*faults, *_short_of(traffic, sent=published["sent"], events=events)]


def _short_of(traffic: Traffic, *, sent: int, events: int) -> list[str]:
    """What did not come in time, of what was sent; and what was not even sent."""
    held_back = [f"took {sent / traffic.events:.0%} of what was offered"] if sent < traffic.events else []
    due = traffic.deliveries * sent / traffic.events
    # A percentage that rounds to 100 would hide that some are missing.
    return [*held_back, f"{int(due - events)} of {int(due)} deliveries missing"] if events < int(due) else held_back


def faults_of(seen: dict[str, Any], *, connected: dict[str, Any], refused: int = 0) -> list[str]:
    """What must not be: in words, with its number; empty when all was well."""
    counted = {
        "not connected": connected["refused"] + connected["bad_status"],
        "connections lost": seen["lost"],
        "broken responses": seen["broken"],
        "gaps": seen["gaps"],
        "repeated": seen["repeated"],
        "out of order": seen["backward"],
        "appends refused": refused,
    }
    return [f"{count} {words}" for words, count in counted.items() if count]


def _watching(server: Server, traffic: Traffic, *, run: str) -> list[str]:
    return [
        *("--path", server.path(run), "--viewers", str(traffic.viewers), "--streams", str(traffic.streams)),
        *("--nap-us", str(NAP_US), "--skip-ms", str(round(min(500.0, traffic.seconds * 200)))),
        *("--stalled", str(traffic.stalled), "--receive-bytes", str(traffic.receive_bytes)),
        *("--connect-s", str(_CONNECT_S)),
    ]


def _publishing(traffic: Traffic) -> list[str]:
    return [
        *("--streams", str(traffic.streams), "--rate", str(traffic.rate)),
        *("--count", str(traffic.events), "--size", str(traffic.size_bytes)),
    ]
