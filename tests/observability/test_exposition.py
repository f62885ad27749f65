"""Readings become text that Prometheus's own parsers read, in both formats."""

from __future__ import annotations

from collections import Counter

import pytest

from broadcaster.observability.counting import Buckets, BucketsBy, Reading, counted, counted_by
from broadcaster.observability.exposition import expose, families
from tests.support.scraping import OPENMETRICS, PLAIN, parse_openmetrics, parse_plain


def readings() -> list[Reading]:
    lag, first = Buckets((0.1, 1.0)), BucketsBy((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        lag.observe(value)
    first["native",].observe(0.2)
    requests: Counter[tuple[str, ...]] = Counter({("streams", "200"): 4, ("streams", "404"): 1})
    return [
        Reading("broadcaster_watched_streams", 3),
        *counted("broadcaster_viewers", {"native": 5, "ai-sdk": 2}),
        *counted_by("broadcaster_http_requests_total", requests),
        Reading("broadcaster_delivery_lag_seconds", lag),
        *counted_by("broadcaster_time_to_first_event_seconds", first),
    ]


async def test_counts_gauges_and_histograms_are_read_back_as_they_were() -> None:
    text, content_type = await expose(families(readings()), accept=PLAIN)
    scraped = parse_plain(text.decode())
    assert content_type.startswith("text/plain; version=0.0.4")
    assert scraped.value("broadcaster_watched_streams") == 3
    assert scraped.value("broadcaster_viewers", dialect="native") == 5
    assert scraped.value("broadcaster_http_requests_total", surface="streams") == 5
    lag = {le: scraped.value("broadcaster_delivery_lag_seconds_bucket", le=le) for le in ("0.1", "1.0", "+Inf")}
    assert lag == {"0.1": 2, "1.0": 3, "+Inf": 4}  # a bound belongs to its bucket
    assert scraped.value("broadcaster_delivery_lag_seconds_sum") == pytest.approx(7.65)
    assert scraped.value("broadcaster_time_to_first_event_seconds_count", dialect="native") == 1


async def test_a_scraper_that_accepts_openmetrics_gets_it() -> None:
    text, content_type = await expose(families(readings()), accept=OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert parse_openmetrics(text.decode()) == 5
    assert text.count(b"# EOF") == 1


async def test_values_with_the_same_labels_are_added_up() -> None:
    twice = [Reading("broadcaster_rooms", 1), Reading("broadcaster_rooms", 2)]
    text, _ = await expose(families(twice), accept=PLAIN)
    assert parse_plain(text.decode()).value("broadcaster_rooms") == 3


@pytest.mark.parametrize(
    ("reading", "error"),
    [
        (Reading("broadcaster_viewers", 1), ValueError),  # without its label
        (Reading("broadcaster_invented", 1), KeyError),
    ],
)
def test_a_reading_that_the_table_does_not_list_is_a_defect(reading: Reading, error: type[Exception]) -> None:
    with pytest.raises(error):
        list(families([reading]))
