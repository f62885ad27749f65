"""A scraper: reads /metrics over a socket, and parses it with prometheus-client's own parser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from broadcaster.observability.metrics import METRICS
from tests.support.servers.processes import Running

DEADLINE_S = 40.0
PLAIN = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@dataclass(frozen=True)
class Scraped:
    """The samples of one scrape: name and labels → value."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        wanted = set(labels.items())
        return sum(value for (each, has), value in self.samples.items() if each == name and wanted <= has)

    def labels(self, name: str, label: str) -> set[str]:
        """The values of a label."""
        return {dict(has)[label] for each, has in self.samples if each == name}


def parse_plain(text: str) -> Scraped:
    """The samples of the plain text format. Each family is in the table of metrics, with its type and labels."""
    samples = {}
    for family in parser.text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        spec = METRICS[name]
        assert (spec.kind.value, spec.meaning) == (family.type, family.documentation), name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(spec.labels), sample
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, f"twice: {key}"
            samples[key] = sample.value
    return Scraped(samples)


async def port_of(running: Running) -> int:
    """The port at which a process serves its metrics."""
    line = await running.logged("metrics_served")
    return int(json.loads(line)["port"])


async def exchange(port: int, request: bytes) -> bytes:
    """What the server answers to these bytes, until it closes."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.transport.abort()


async def get(port: int, *, accept: str = PLAIN, method: str = "GET", path: str = "/metrics") -> tuple[str, str]:
    """Head and body of a response."""
    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {accept}\r\n\r\n".encode()
    head, _, body = (await exchange(port, request)).partition(b"\r\n\r\n")
    return head.decode(), body.decode()


async def scrape(port: int) -> Scraped:
    """The metrics now."""
    head, body = await get(port)
    assert " 200 " in head, head
    return parse_plain(body)


async def scrape_until(port: int, is_reached: Callable[[Scraped], bool], timeout_s: float = DEADLINE_S) -> Scraped:
    """Scrape until this holds; the last scrape."""
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_s
    while not is_reached(scraped := await scrape(port)):
        assert loop.time() < until, {key: value for key, value in scraped.samples.items() if value}
        await asyncio.sleep(0.1)
    return scraped


def parse_openmetrics(text: str) -> int:
    """How many families the strict parser of OpenMetrics reads; it raises for every fault."""
    return len(list(openmetrics_parser.text_string_to_metric_families(text)))
