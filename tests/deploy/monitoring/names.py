"""The names of metrics in queries, held to the table of metrics."""

from __future__ import annotations

import re
from typing import Final

from broadcaster.observability.metrics import METRICS, Kind

_NAME: Final = re.compile(r"\bbroadcaster_\w+")


def known_names() -> set[str]:
    """Every name that a query may have: a histogram has three series."""
    names = set(METRICS)
    for spec in METRICS.values():
        if spec.kind is Kind.HISTOGRAM:
            names |= {f"{spec.name}_{part}" for part in ("bucket", "count", "sum")}
    return names


def unknown_metrics(text: str) -> set[str]:
    """Names of ours that no process serves."""
    return set(_NAME.findall(text)) - known_names()
