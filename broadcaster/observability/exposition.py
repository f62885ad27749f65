"""Readings → the text that Prometheus scrapes, in the format that the scraper's ``Accept`` negotiates.

The text is made family by family, with a turn of the event loop between two of them: a scrape delays no viewer by
more than the time of one family.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from broadcaster.observability.counting import Buckets, Reading
from broadcaster.observability.metrics import METRICS, Kind, MetricSpec

_TOTAL: Final = "_total"
_OPENMETRICS_END: Final = b"# EOF\n"


class _OneFamily(Collector):
    """What the library's encoders read."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        return (self._family,)


def families(readings: Iterable[Reading]) -> Iterator[Family]:
    """The families of these readings, by their metrics. Values with the same labels are added up.

    Raises KeyError for a metric that metrics.py does not list, ValueError for the wrong number of labels.
    """
    found: dict[str, dict[tuple[str, ...], float | Buckets]] = {}
    for reading in readings:
        spec = METRICS[reading.metric]
        if len(reading.labels) != len(spec.labels):
            raise ValueError(f"{reading.metric} has the labels {spec.labels}, not {len(reading.labels)} values")
        values = found.setdefault(reading.metric, {})
        before = values.get(reading.labels)
        is_sum = isinstance(before, int | float) and isinstance(reading.value, int | float)
        values[reading.labels] = before + reading.value if is_sum else reading.value  # type: ignore[operator]
    for name, values in found.items():
        yield _family(METRICS[name], values)


async def expose(found: Iterable[Family], *, accept: str) -> tuple[bytes, str]:
    """The text of these families, and its content type."""
    encode, content_type = choose_encoder(accept)
    parts = []
    for family in found:
        parts.append(encode(_OneFamily(family)).removesuffix(_OPENMETRICS_END))
        await asyncio.sleep(0)
    if content_type.startswith("application/openmetrics-text"):
        parts.append(_OPENMETRICS_END)
    return b"".join(parts), content_type


def cumulative(buckets: Buckets) -> list[tuple[str, float]]:
    """The buckets as Prometheus has them: each bound with the count of all values up to it, ``+Inf`` last."""
    rows: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*buckets.bounds, float("inf")), buckets.counts, strict=True):
        total += count
        rows.append((floatToGoString(bound), total))
    return rows


def _family(spec: MetricSpec, values: dict[tuple[str, ...], float | Buckets]) -> Family:
    if spec.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(spec.name, spec.meaning, labels=spec.labels)
        for labels, value in values.items():
            if isinstance(value, Buckets):
                histogram.add_metric(labels, buckets=cumulative(value), sum_value=value.sum)
        return histogram
    if spec.kind is Kind.COUNTER:
        family: CounterMetricFamily | GaugeMetricFamily = CounterMetricFamily(
            spec.name.removesuffix(_TOTAL), spec.meaning, labels=spec.labels
        )
    else:
        family = GaugeMetricFamily(spec.name, spec.meaning, labels=spec.labels)
    for labels, value in values.items():
        if not isinstance(value, Buckets):
            family.add_metric(labels, value)
    return family
