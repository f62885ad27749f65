"""A real Prometheus over real processes, with the shipped rules, on a free port of the loopback.

An alert that holds "for 5m" over a window of 15 minutes cannot be awaited in a test. ``quicker`` is the one thing that
a test changes in the rules: it divides each duration (``for``, and ``[window]``) by ``TIMES``. Thresholds stay. The
durations as they are shipped are tested by promtool (tests/deploy/monitoring/alerts.yml).
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import yaml

from broadcaster.process.lifeline import die_with_parent
from tests.support.servers.ports import free_port
from tests.support.servers.programs import find_program

CONFIGURATION: Final = Path(__file__).resolve().parents[3] / "deploy" / "prometheus"
REMEDY: Final = "get it with `make prometheus`, or install it, e.g. apt install prometheus"
TIMES: Final = 60
SCRAPE_S: Final = 0.5
START_TIMEOUT_S: Final = 30.0
FIRING_TIMEOUT_S: Final = 100.0
_POLL_S: Final = 0.1

_DURATION: Final = re.compile(r"(?P<before>\[|for: )(?P<number>\d+)(?P<unit>[smh])\b")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


class Sample(NamedTuple):
    """One value of a query's result, with its labels."""

    labels: Mapping[str, str]
    value: float


def quicker(text: str) -> str:
    """Rules whose durations are shorter by ``TIMES``."""

    def shorter(match: re.Match[str]) -> str:
        milliseconds = int(match["number"]) * _SECONDS[match["unit"]] * 1000 // TIMES
        return f"{match['before']}{milliseconds}ms"

    return _DURATION.sub(shorter, text)


@dataclass(eq=False)
class Prometheus:
    """A running one."""

    url: str
    process: asyncio.subprocess.Process
    log: Path

    async def query(self, expression: str) -> list[Sample]:
        """The result of an instant query."""
        result = (await self._get("query", query=expression))["result"]
        return [Sample(each["metric"], float(each["value"][1])) for each in result]

    async def firing(self) -> dict[str, Mapping[str, str]]:
        """The alerts that fire, with the labels of one of their series."""
        alerts = (await self._get("alerts"))["alerts"]
        return {each["labels"]["alertname"]: each["labels"] for each in alerts if each["state"] == "firing"}

    async def until_firing(self, *names: str) -> dict[str, Mapping[str, str]]:
        """Until these alerts fire, all at one time; their labels."""
        async with asyncio.timeout(FIRING_TIMEOUT_S):
            while not set(names) <= set(firing := await self.firing()):
                await asyncio.sleep(_POLL_S)
        return firing

    async def until_calm(self) -> None:
        """Until no alert fires or is about to."""
        async with asyncio.timeout(FIRING_TIMEOUT_S):
            while (await self._get("alerts"))["alerts"]:
                await asyncio.sleep(_POLL_S)

    async def until_data(self, expression: str, *, timeout_s: float = FIRING_TIMEOUT_S) -> list[Sample]:
        """Until the query has a result; it."""
        async with asyncio.timeout(timeout_s):
            while not (samples := await self.query(expression)):
                await asyncio.sleep(_POLL_S)
        return samples

    async def _get(self, path: str, **parameters: str) -> Any:
        async with httpx2.AsyncClient() as client:
            response = await client.get(f"{self.url}/api/v1/{path}", params=parameters)
        document = response.json()
        assert document["status"] == "success", document
        return document["data"]


def configure(folder: Path, targets: Mapping[str, Sequence[int]]) -> Path:
    """The shipped configuration in ``folder``, for these ports of the loopback by job, and with quicker rules."""
    (folder / "rules").mkdir(parents=True)
    for rules in (CONFIGURATION / "rules").glob("*.yml"):
        (folder / "rules" / rules.name).write_text(quicker(rules.read_text()))
    configuration = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text())
    pace = f"{int(SCRAPE_S * 1000)}ms"
    configuration["global"] = {"scrape_interval": pace, "scrape_timeout": pace, "evaluation_interval": pace}
    jobs = configuration["scrape_configs"]
    assert {job["job_name"] for job in jobs} == set(targets)
    for job in jobs:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in targets[job["job_name"]]]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path


@asynccontextmanager
async def open_prometheus(
    folder: Path, *, front_ends: Sequence[int], workers: Sequence[int]
) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes these ports of the loopback, and has scraped each of them once."""
    targets = {"broadcaster-front-end": front_ends, "broadcaster-worker": workers}
    configuration = configure(folder, targets)
    port, log = free_port(), folder / "prometheus.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            find_program("prometheus", remedy=REMEDY),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
    prometheus = Prometheus(f"http://127.0.0.1:{port}", process, log)
    try:
        await _until_scraped(prometheus, len(front_ends) + len(workers))
        yield prometheus
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        shutil.rmtree(folder / "data", ignore_errors=True)


async def _until_scraped(prometheus: Prometheus, count: int) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            assert prometheus.process.returncode is None, prometheus.log.read_text()
            try:
                if len(await prometheus.query("up == 1")) == count:
                    return
            except (httpx2.TransportError, ValueError):  # it does not listen yet, or answers that it is starting
                pass
            await asyncio.sleep(_POLL_S)
