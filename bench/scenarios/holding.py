"""What viewers cost that nothing happens to: idle ones, and ones that stop reading."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from bench.figures import per_us
from bench.measuring import Traffic, Viewers, faults_of, publish
from bench.plan import Outcome, Site, Step
from bench.processes import cpu_s, kernel_tcp_bytes, pss_bytes
from bench.servers import Ours, Server

QUIET: Final = "idle, a stream for each"
# A front-end checks each stream every few seconds (broadcaster/log/tail/watch.py): this long is several checks of each.
_QUIET_TIMES: Final = 5

_NAIVE_VIEWERS: Final = 1000  # each holds a connection of Redis, which takes 10 000 in all
_KB: Final = 1024.0

_STALL_RATE: Final = 100.0
_STALL_BYTES: Final = 6000
_STALL_RECEIVE_BYTES: Final = 16_384
_READERS_PER_STALLED: Final = 4
_SKIPPED: Final = 150  # milliseconds of each second


def memory(site: Site) -> list[Step]:
    """Idle viewers of one stream; then one viewer for each of many quiet streams, which a front-end must check."""
    idle = [
        Step("memory", "idle", name, number, partial(_hold, site, name, number), expects_s=12.0)
        for number in range(site.size.rounds)
        for name in site.yard.known("floor", "ours", "nchan", "centrifugo", "naive", "better-sse")
        if number == 0 or name == "ours"
    ]
    quiet = [
        Step("memory", QUIET, "ours", number, partial(_hold_streams, site, number), expects_s=18.0)
        for number in range(site.size.rounds)
    ]
    return [*idle, *quiet]


def stalled(site: Site) -> list[Step]:
    """A fifth of the viewers reads nothing after the head; the same again without them."""
    return [
        Step("stalled", "a fifth stalled", name, number, partial(_stall, site, name, number), expects_s=16.0)
        for number in range(min(2, site.size.rounds))
        for name in site.yard.known("ours", "nchan")
    ]


def _hold(site: Site, name: str, number: int) -> Outcome:
    server = site.yard.get(name)
    count = min(site.size.idle_viewers, _NAIVE_VIEWERS) if name == "naive" else site.size.idle_viewers
    if number and isinstance(server, Ours):
        server.restart()  # memory that earlier viewers have left free would not grow
    run = f"idle-{number}"
    server.publish_to(run, 1)
    return hold(site, server, run, viewers=count)


def _hold_streams(site: Site, number: int) -> Outcome:
    server, run, count = site.yard.get("ours"), f"quiet-{number}", site.size.streams
    server.publish_to(run, count)
    return hold(site, server, run, viewers=count, streams=count, idle_s=_QUIET_TIMES * site.size.idle_s)


def hold(
    site: Site, server: Server, run: str, *, viewers: int, streams: int = 1, idle_s: float | None = None
) -> Outcome:
    """Connect viewers to streams that are there, and leave them alone for ``idle_s`` (None: the run's)."""
    idle_s = site.size.idle_s if idle_s is None else idle_s
    held, used = pss_bytes(server.pids), cpu_s(server.pids)
    words = ["--path", server.path(run), "--viewers", str(viewers), "--streams", str(streams), "--connect-s", "60"]
    holding = Viewers(site.bench, server, words)
    try:
        connected = holding.until_connected()
        time.sleep(site.size.settle_s)
        connecting_s, more = cpu_s(server.pids) - used, pss_bytes(server.pids) - held
        used = cpu_s(server.pids)
        time.sleep(idle_s)
        idle_cpu_s = cpu_s(server.pids) - used
        seen = holding.finish(0.0)
    finally:
        holding.stop()
    values = {
        "viewers": float(seen["open"]),
        "kb_per_viewer": more / _KB / max(1, seen["open"]),
        "base_mb": held / _KB / _KB,
        "cpu_us_per_connect": per_us(connecting_s, seen["open"]),
        "connect_p99_ms": seen["connect_us"]["p99"] / 1000,
        "idle_cpu_share": idle_cpu_s / idle_s,
    }
    return values, faults_of(seen, connected=connected)


def _stall(site: Site, name: str, number: int) -> Outcome:
    return stall(site, site.yard.get(name), str(number))


def stall(site: Site, server: Server, run: str) -> Outcome:
    """Readers alone, then the same with those that read nothing beside them."""
    without, faults = _stall_once(site, server, f"free-{run}", stalled=0)
    count = site.size.stalled
    held, more_faults = _stall_once(site, server, f"stall-{run}", stalled=count)
    grown = {key: max(0.0, held[key] - without[key]) / count for key in ("process_kb", "kernel_kb")}
    values = {
        "stalled_kb": grown["process_kb"] + grown["kernel_kb"],
        "process_kb": grown["process_kb"],
        "kernel_kb": grown["kernel_kb"],
        "p99_ms_without": without["p99_ms"],
        "p99_ms_with": held["p99_ms"],
        "p50_ms_without": without["p50_ms"],
        "p50_ms_with": held["p50_ms"],
    }
    return values, [*faults, *more_faults]


def _stall_once(site: Site, server: Server, run: str, *, stalled: int) -> Outcome:
    readers = site.size.stalled * _READERS_PER_STALLED
    traffic = Traffic(readers + stalled, 1, _STALL_RATE, site.size.stall_s, size_bytes=_STALL_BYTES, stalled=stalled)
    target = server.publish_to(run, 1)
    words = ["--path", server.path(run), "--viewers", str(traffic.viewers), "--stalled", str(stalled)]
    viewers = Viewers(
        site.bench,
        server,
        [*words, "--receive-bytes", str(_STALL_RECEIVE_BYTES), "--skip-ms", str(round(site.size.stall_s * _SKIPPED))],
    )
    try:
        connected = viewers.until_connected()
        time.sleep(site.size.settle_s)
        held, kernel = pss_bytes(server.pids), kernel_tcp_bytes()
        words = ["--rate", str(traffic.rate), "--count", str(traffic.events), "--size", str(traffic.size_bytes)]
        published = publish(site.bench, [*target, *words], timeout_s=3 * site.size.stall_s)
        time.sleep(site.size.settle_s)
        held, kernel = pss_bytes(server.pids) - held, kernel_tcp_bytes() - kernel
        seen = viewers.finish(0.0)
    finally:
        viewers.stop()
    values = {
        "process_kb": held / _KB,
        "kernel_kb": kernel / _KB,
        "p50_ms": seen["latency_us"]["p50"] / 1000,
        "p99_ms": seen["latency_us"]["p99"] / 1000,
    }
    faults = faults_of(seen, connected=connected, refused=published["refused"])
    missing = traffic.deliveries - seen["events"]
    return values, [*faults, f"{missing} deliveries missing"] if missing > 0 else faults
