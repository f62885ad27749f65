"""The write side: what Redis pays for an append, what a worker pays for a provider's event."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench.figures import per_us
from bench.measuring import publish
from bench.plan import Outcome, Site, Step
from bench.processes import Child, ProcessEnded, cpu_s, until_printed
from bench.servers import Ours
from bench.streams import create_generation, open_generations
from broadcaster.log.jobs.claims import ClaimPolicy, Claims
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.appender import HOLD_S
from broadcaster.log.streams.reader import Streams
from broadcaster.settings import Settings

_RATE: Final = 50.0  # events a second of one generation
_BATCHES: Final = (1, 4)
_TICK_US: Final = round(HOLD_S * 1e6)  # a write carries what a worker's would
_LAG_S: Final = 5.0
_MARGIN_S: Final = 6.0
_MODEL: Final = "claude-bench"


def appends(site: Site) -> list[Step]:
    """Appends of one event and of four, to as many streams as the worker scenario has generations; without viewers."""
    return [
        Step("appends", f"{batch} per append", "ours", number, partial(_append, site, batch, number), expects_s=5.0)
        for number in range(site.size.rounds)
        for batch in _BATCHES
    ]


def worker(site: Site) -> list[Step]:
    """Generations of the scripted provider, 50 events a second each, on one worker process."""
    case = f"{site.size.generations} x {_RATE:g} events/s"
    expects_s = site.size.warm_up_s + site.size.work_s + 8
    return [
        Step("worker", case, "ours", number, partial(_work, site, number), expects_s=expects_s)
        for number in range(site.size.rounds)
    ]


def _append(site: Site, batch: int, number: int) -> Outcome:
    server, streams = site.yard.get("ours"), site.size.generations
    target = server.publish_to(f"append-{batch}-{number}", streams)
    rate = streams * _RATE
    before, begun = cpu_s(server.redis_pids), time.monotonic()
    words = ["--streams", str(streams), "--rate", str(rate), "--seconds", str(site.size.append_s)]
    words += ["--batch", str(batch), "--tick-us", str(_TICK_US)]
    published = publish(site.bench, [*target, *words], timeout_s=3 * site.size.append_s)
    used_s, took_s = cpu_s(server.redis_pids) - before, time.monotonic() - begun
    values = {
        "redis_us_per_event": per_us(used_s, published["sent"]),
        "events_per_s": published["rate"],
        "redis_share": used_s / took_s,
    }
    return values, [f"{published['refused']} appends refused"] if published["refused"] else []


def _work(site: Site, number: int) -> Outcome:
    server = site.yard.get_fresh("ours")  # no worker shall take over what the one of an earlier round left
    assert isinstance(server, Ours)
    folder = site.bench.folder / f"worker-{number}"  # what an earlier round's processes logged is not there
    folder.mkdir()
    provider = _start_provider(folder, seconds=site.size.warm_up_s + site.size.work_s + _MARGIN_S)
    lags = folder / "lags.json"
    working = Child(
        [sys.executable, "-m", "bench.lag_probe", lags],
        log=folder / "worker.log",
        environment={
            "BROADCASTER_REDIS_URL": server.redis_url,
            "BROADCASTER_CONCURRENCY": str(site.size.generations),
            # All of them at once: each reserves the most that it may have to send again.
            "BROADCASTER_BUFFER_BYTES": str(site.size.generations * Settings().max_bytes),
            "BROADCASTER_LOG_LEVEL": "info",
            "ANTHROPIC_BASE_URL": until_printed(provider, "listening on ").partition("listening on ")[2].split()[0],
            "ANTHROPIC_API_KEY": "bench",
        },
    )
    try:
        until_printed(working, "worker_ready")
        ids = asyncio.run(_start_all(server.redis_url, site.size.generations))
        time.sleep(site.size.warm_up_s)
        working.send(signal.SIGUSR1)
        used, redis_used, events = cpu_s([working.pid]), cpu_s(server.redis_pids), _count(server.redis_url, ids)
        time.sleep(site.size.work_s)
        used, redis_used = cpu_s([working.pid]) - used, cpu_s(server.redis_pids) - redis_used
        events = _count(server.redis_url, ids) - events
        working.send(signal.SIGUSR2)
        lag = _lag(lags)
    finally:
        working.send(signal.SIGKILL)
        working.stop()
        provider.stop()
    values = {
        "worker_us_per_event": per_us(used, events),
        "redis_us_per_event": per_us(redis_used, events),
        "events_per_s": events / site.size.work_s,
        "worker_share": used / site.size.work_s,
        **lag,
    }
    offered = site.size.generations * _RATE
    behind = 1 - events / site.size.work_s / offered
    return values, [f"{behind:.0%} of the offered events did not come in time"] if behind > 0.1 else []


def _start_provider(folder: Path, *, seconds: float) -> Child:
    tokens = round(_RATE * seconds)
    command = [sys.executable, "-m", "broadcaster.testing", "--rate", str(_RATE), "--tokens", str(tokens)]
    return Child(command, log=folder / "provider.log")


async def _start_all(url: str, count: int) -> list[str]:
    ids = (f"work-{time.time_ns()}-{number}" for number in itertools.count())
    async with LogConnection(url) as connection:
        policy = ClaimPolicy(lease_ttl_s=5, live_ttl_s=3600, queue_timeout_s=300, max_attempts=1)
        generations = open_generations(connection, claims=Claims(connection, policy, owner="bench"), ids=ids)
        return list(await asyncio.gather(*(create_generation(generations, model=_MODEL) for _ in range(count))))


def _count(url: str, ids: Sequence[str]) -> int:
    """Events that the logs hold now."""

    async def read_tails() -> int:
        async with LogConnection(url) as connection:
            tails = await Streams(connection).tails(ids)
        return sum(tail.last.seq for tail in tails if tail.last is not None)

    return asyncio.run(read_tails())


def _lag(path: Path) -> dict[str, float]:
    deadline = time.monotonic() + _LAG_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise ProcessEnded("the worker's probe wrote nothing")
        time.sleep(0.05)
    measured: dict[str, float] = json.loads(path.read_text("utf-8"))
    return measured
