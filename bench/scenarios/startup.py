"""How long the programs take to start, and how soon the answer of a killed worker moves again.

1. Each start is timed from the exec: of a front-end to the first 200 of ``/readyz``, of a worker to its line
   ``worker_ready``, of ``--help`` to its end. The best of ``STARTS`` and their median count.
2. Modules are compiled, as they are where a wheel was installed: into a folder of the run, by a start before the first
   that counts.
3. A take-over is timed under ``broadcaster up`` with the default lease, from SIGKILL to the first text of the next
   attempt as a client reads it; what counts is the time beyond the lease.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from bench.plan import Outcome, Site, Step
from bench.processes import Child, ProcessEnded, free_ports, tree, until_printed
from bench.servers import Ours
from broadcaster.client import AsyncClient
from broadcaster.settings import Settings
from broadcaster.testing.server import ScriptedProvider

SCENARIO: Final = "startup"
HELP, SERVE, WORKER, TAKE_OVER = "broadcaster --help", "broadcaster serve", "broadcaster worker", "take-over under up"
STARTS: Final = 5
LEASE_S: Final = float(Settings.model_fields["lease_ttl_s"].default)

_POLL_S: Final = 0.005
_START_S: Final = 30.0
_MODEL: Final = "claude-bench"


def starts(site: Site) -> list[Step]:
    """Each program, then a take-over."""
    timed: dict[str, Callable[[Site, int], float]] = {HELP: _time_help, SERVE: _time_serve, WORKER: _time_worker}
    return [
        *(
            Step(SCENARIO, case, "ours", 0, partial(_best_of, site, start), expects_s=STARTS + 1.0)
            for case, start in timed.items()
        ),
        Step(SCENARIO, TAKE_OVER, "ours", 0, partial(_take_over, site), expects_s=LEASE_S + 4),
    ]


def _best_of(site: Site, start: Callable[[Site, int], float]) -> Outcome:
    start(site, 0)
    took_s = [start(site, number) for number in range(1, STARTS + 1)]
    return {"best_s": min(took_s), "median_s": statistics.median(took_s)}, []


def _time_help(site: Site, number: int) -> float:
    began = time.monotonic()
    child = _program(site, f"help-{number}", "-m", "broadcaster", "--help")
    if not child.wait(_START_S):
        child.stop()
        raise ProcessEnded("--help did not end")
    return time.monotonic() - began


def _time_serve(site: Site, number: int) -> float:
    (port,) = free_ports(1)
    began = time.monotonic()
    child = _program(site, f"serve-{number}", *("-m", "broadcaster", "serve", "--port", str(port)))
    try:
        while not _is_ready(port):
            if not child.is_running or time.monotonic() - began > _START_S:
                raise ProcessEnded(f"serve is not ready: {child.last_output()}")
            time.sleep(_POLL_S)
        return time.monotonic() - began
    finally:
        child.stop()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _time_worker(site: Site, number: int) -> float:
    began = time.monotonic()
    child = _program(site, f"worker-{number}", "-m", "broadcaster", "worker")
    try:
        until_printed(child, "worker_ready")
        return time.monotonic() - began
    finally:
        child.stop()


def _program(site: Site, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Child:
    server = site.yard.get("ours")
    assert isinstance(server, Ours)
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(site.bench.folder / "pycache")}
    return Child(
        [sys.executable, *arguments],
        log=site.bench.folder / f"startup-{name}.log",
        environment={"BROADCASTER_REDIS_URL": server.redis_url, **compiled, **(environment or {})},
    )


def _take_over(site: Site) -> Outcome:
    return asyncio.run(_time_take_over(site)), []


async def _time_take_over(site: Site) -> dict[str, float]:
    async with ScriptedProvider() as provider:
        torn, whole = provider.conversation(_MODEL), provider.conversation(_MODEL)
        (port,) = free_ports(1)
        up = _program(
            site,
            "up",
            *("-m", "broadcaster", "up", "--port", str(port), "--data-dir", str(site.bench.folder / "up")),
            environment={
                "BROADCASTER_REDIS_URL": "",
                "ANTHROPIC_BASE_URL": provider.base_url,
                "ANTHROPIC_API_KEY": "bench",
            },
        )
        try:
            await asyncio.to_thread(until_printed, up, "broadcaster is up")
            await asyncio.to_thread(until_printed, up, "worker_ready")
            async with AsyncClient(f"http://127.0.0.1:{port}") as client:
                answer = await client.start("go", model=_MODEL)
                await torn.send_text("torn")
                await _until_text(client, answer.id, "torn")
                began = time.monotonic()
                os.kill(_worker_of(up), signal.SIGKILL)
                await whole.send_text("whole")
                await _until_text(client, answer.id, "whole")
                took_s = time.monotonic() - began
                await whole.finish()
        finally:
            await asyncio.to_thread(up.stop)
    return {"took_s": took_s, "lease_s": LEASE_S, "beyond_lease_s": took_s - LEASE_S}


async def _until_text(client: AsyncClient, generation_id: str, text: str) -> None:
    async with asyncio.timeout(_START_S + _START_S):
        while (await client.get(generation_id)).text != text:
            await asyncio.sleep(_POLL_S)


def _worker_of(up: Child) -> int:
    """Process id of its worker."""
    for pid in tree(up.pid):
        with suppress(OSError):
            if b"\0-m\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise ProcessEnded("up has no worker")
