"""W3 and the morning after a restart: what was before, for many viewers at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from redis.asyncio import Redis

from bench.figures import per_us
from bench.measuring import Viewers, faults_of, publish
from bench.plan import Outcome, Site, Step
from bench.processes import cpu_s
from bench.servers import Naive, Nchan, Ours

_LIMIT_S: Final = 20.0
# Five viewers watch each stream that is live meanwhile: little CPU. Its publisher ends when about all are back.
_LIVE_STREAMS: Final = 10
_LIVE_RATE: Final = 50.0
_RETURNS_PER_S: Final = 2500
# What fills a room, and what finds a stream. The looks at all tails, every few seconds, are XREVRANGE and HMGET.
_LOG_READS: Final = ("xrange", "xread")
_META_READS: Final = ("hgetall",)


def w3(site: Site) -> list[Step]:
    """Stored events to viewers that come at once; our front-end has just been started and has read nothing."""
    rounds = site.size.rounds
    steps = [
        Step("w3", "cold", name, number, partial(_replay, site, name, f"w3-{number}"), expects_s=_LIMIT_S / 2)
        for number in range(rounds)
        for name in site.yard.known("ours", "nchan")
    ]
    # Once: it does not end within the limit.
    return steps + [
        Step("w3", "cold", name, 0, partial(_replay, site, name, "w3-0"), expects_s=_LIMIT_S)
        for name in site.yard.known("naive")
    ]


def reconnect(site: Site) -> list[Step]:
    """Every viewer of a killed front-end comes back to another one, with what it saw last."""
    viewers = site.size.idle_viewers
    return [
        Step(
            "reconnect",
            case_of(viewers, streams=streams),
            "ours",
            0,
            partial(_reconnect, site, streams),
            expects_s=_LIMIT_S,
        )
        for streams in (1, site.size.streams)
    ]


def case_of(viewers: int, *, streams: int) -> str:
    """The name of the case with so many of each."""
    return f"{viewers} viewers, {streams} stream{'s' if streams > 1 else ''}"


def _replay(site: Site, name: str, run: str) -> Outcome:
    size, server = site.size, site.yard.get(name)
    assert isinstance(server, Ours | Nchan | Naive), "the others keep no history"
    target = server.publish_to(run, 1) if not isinstance(server, Naive) else server.store_to(run)
    stored = publish(site.bench, [*target, "--rate", "0", "--count", str(size.replay_events)], timeout_s=_LIMIT_S)
    if isinstance(server, Ours):
        server.restart()
        time.sleep(site.size.settle_s)
    before, redis_before = cpu_s(server.pids), cpu_s(server.redis_pids)
    words = ["--path", server.replay_path(run), "--viewers", str(size.replay_viewers), "--connect-s", str(_LIMIT_S)]
    words += ["--in-flight", str(size.replay_viewers), "--per-viewer", str(size.replay_events)]
    viewers = Viewers(site.bench, server, words)
    try:
        connected = viewers.until_connected()
        seen = viewers.finish(_LIMIT_S)
        used_s, redis_s = cpu_s(server.pids) - before, cpu_s(server.redis_pids) - redis_before
    finally:
        viewers.stop()
    wanted = size.replay_viewers * size.replay_events
    values = {
        "cpu_us_per_delivery": per_us(used_s, seen["events"]),
        "cpu_s": used_s,
        "redis_cpu_s": redis_s,
        "delivered_share": seen["events"] / wanted,
        # One that was not done in time is at least as slow as what it had left lets expect.
        "done_s": seen["complete_s"] if seen["why"] == "complete" else _LIMIT_S * wanted / max(1, seen["events"]),
    }
    faults = faults_of(seen, connected=connected, refused=stored["refused"])
    return values, faults if seen["why"] == "complete" else [*faults, f"not done in {_LIMIT_S:.0f} s"]


def _reconnect(site: Site, streams: int) -> Outcome:
    """The viewers come to a second front-end, whose own viewers are sent events all the while."""
    count, server, run = site.size.idle_viewers, site.yard.get("ours"), f"reconnect-{streams}"
    assert isinstance(server, Ours)
    target, live_target = server.publish_to(run, streams), server.publish_to(f"{run}-live", _LIVE_STREAMS)
    with ExitStack() as ends:
        survivor = server.beside()
        ends.callback(survivor.kill)
        words = ["--path", server.path(run), "--viewers", str(count), "--streams", str(streams), "--connect-s", "60"]
        words += ["--reconnect", "--return-port", str(survivor.port), "--resumed", str(count)]
        viewers = Viewers(site.bench, server, words)
        ends.callback(viewers.stop)
        connected = viewers.until_connected()
        words = [*target, "--streams", str(streams), "--rate", "0", "--count", str(5 * streams)]
        publish(site.bench, words, timeout_s=10)
        words = ["--path", server.path(f"{run}-live"), "--viewers", str(5 * _LIVE_STREAMS)]
        live = Viewers(site.bench, survivor, [*words, "--streams", str(_LIVE_STREAMS)], name="live")
        ends.callback(live.stop)
        live.until_connected()
        time.sleep(site.size.settle_s)
        (log_reads, meta_reads), before = _reads(server.redis_socket), cpu_s(survivor.pids)
        ends.callback(server.restart)
        server.kill()
        events = round(_LIVE_RATE * count / _RETURNS_PER_S)
        words = [*live_target, "--streams", str(_LIVE_STREAMS), "--rate", str(_LIVE_RATE), "--count", str(events)]
        publish(site.bench, words, timeout_s=_LIMIT_S)
        seen = viewers.finish(3 * _LIMIT_S)
        used_s, disturbed = cpu_s(survivor.pids) - before, live.finish(0)
        log_now, meta_now = _reads(server.redis_socket)
    back = seen["resumed"]
    values = {
        "back_s": seen["resume_us"]["max"] / 1e6,
        "back_share": back / count,
        "cpu_us_per_connect": per_us(used_s, back),
        "p99_ms": disturbed["latency_us"]["p99"] / 1000,
        "log_reads_per_stream": (log_now - log_reads) / streams,
        "meta_reads_per_viewer": (meta_now - meta_reads) / count,
    }
    return values, faults_of({**seen, "lost": max(0, seen["lost"] - count)}, connected=connected)


def _reads(socket: str) -> tuple[int, int]:
    """Calls since the server's start that read logs, and that read metas."""

    async def fetch_stats() -> dict[str, Any]:
        redis = Redis(unix_socket_path=socket)
        try:
            stats: dict[str, Any] = await redis.info("commandstats")
        finally:
            await redis.aclose()
        return stats

    stats = asyncio.run(fetch_stats())

    def calls(names: Iterable[str]) -> int:
        return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in names)

    return calls(_LOG_READS), calls(_META_READS)
