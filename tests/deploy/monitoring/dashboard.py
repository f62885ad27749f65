"""The Grafana dashboard as a table of panels; ``python -m tests.deploy.monitoring.dashboard`` writes its JSON.

    python -m tests.deploy.monitoring.dashboard > deploy/grafana/broadcaster.json

The committed JSON is what this prints (test_grafana.py). Every panel is a time series with the same options, so that a
change of one is a change of all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

COLUMNS: Final = 24
PANEL_WIDTH: Final = 8
PANEL_HEIGHT: Final = 7
JOB: Final = '{job=~"$job"}'


class Panel(NamedTuple):
    """One panel: its queries by their legends. ``unit`` is one of Grafana's."""

    title: str
    unit: str
    queries: Mapping[str, str]


def rate(metric: str, by: str = "", where: str = "") -> str:
    """A counter's rate, added up over all processes."""
    grouping = f" by ({by})" if by else ""
    labels = f'{{job=~"$job"{", " + where if where else ""}}}'
    return f"sum{grouping} (rate(broadcaster_{metric}_total{labels}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "") -> str:
    """A quantile of a histogram over all processes."""
    grouping = f"le, {by}" if by else "le"
    return (
        f"histogram_quantile({share}, sum by ({grouping}) (rate(broadcaster_{metric}_bucket{JOB}[$__rate_interval])))"
    )


def gauge(metric: str, by: str = "", function: str = "sum", where: str = "") -> str:
    """A gauge of all processes as one."""
    grouping = f" by ({by})" if by else ""
    return f'{function}{grouping} (broadcaster_{metric}{{job=~"$job"{", " + where if where else ""}}})'


def share(metric: str, setting: str) -> str:
    """A gauge as a part of what a setting allows."""
    return gauge(metric) + " / " + gauge("limit", where=f'limit="{setting}"')


def quantiles(metric: str) -> dict[str, str]:
    """The median and what one in a hundred exceeds."""
    return {"p50": quantile(0.5, metric), "p99": quantile(0.99, metric)}


ROWS: Final[Mapping[str, Sequence[Panel]]] = {
    "Viewers and delivery": (
        Panel("Viewers", "short", {"{{dialect}}": gauge("viewers", "dialect")}),
        Panel(
            "Viewers that came, came back, and left",
            "reqps",
            {
                "opened": rate("viewers_opened"),
                "reconnected": rate("reconnects"),
                "left: {{reason}}": rate("viewers_closed", "reason"),
            },
        ),
        Panel("Entries delivered", "ops", {"{{path}}": rate("deliveries", "path")}),
        Panel("Bytes delivered", "Bps", {"{{path}}": rate("delivered_bytes", "path")}),
        Panel("Delivery, in the front-end", "s", quantiles("delivery_lag_seconds")),
        Panel("Time to a viewer's first event", "s", quantiles("time_to_first_event_seconds")),
        Panel(
            "Gaps and stalls",
            "ops",
            {"gap: {{reason}}": rate("gaps", "reason"), "stall: {{reason}}": rate("stalls", "reason")},
        ),
        Panel("Repairs from the log", "ops", {"{{cause}}": rate("repairs", "cause"), "pages": rate("log_pages")}),
        Panel("Requests", "reqps", {"{{surface}} {{code}}": rate("http_requests", "surface, code")}),
    ),
    "Generations and queue": (
        Panel("Queue", "short", {"{{state}}": gauge("queue_depth", "state", "max")}),
        Panel(
            "Running generations and free slots",
            "short",
            {"running": gauge("running_generations"), "free": gauge("slots_free")},
        ),
        Panel(
            "Wait for a worker",
            "s",
            {"p50": quantile(0.5, "queue_wait_seconds"), "p90": quantile(0.9, "queue_wait_seconds")},
        ),
        Panel(
            "Attempts",
            "ops",
            {"started": rate("attempts_started"), "{{outcome}} {{code}}": rate("attempts", "outcome, code")},
        ),
        Panel("Take-overs from lost workers", "ops", {"take-overs": rate("take_overs")}),
        Panel("Webhooks", "ops", {"{{outcome}}": rate("webhook_deliveries", "outcome")}),
    ),
    "Providers and tokens": (
        Panel("Calls", "reqps", {"{{provider}} {{outcome}}": rate("provider_calls", "provider, outcome")}),
        Panel("Errors", "reqps", {"{{provider}} {{reason}}": rate("provider_errors", "provider, reason")}),
        Panel("Whole call, p90", "s", {"{{provider}}": quantile(0.9, "provider_seconds", "provider")}),
        Panel(
            "Time to first token, p90",
            "s",
            {"{{provider}} {{model}}": quantile(0.9, "time_to_first_token_seconds", "provider, model")},
        ),
        Panel(
            "Tokens a second of one answer, median",
            "short",
            {"{{provider}} {{model}}": quantile(0.5, "tokens_per_second", "provider, model")},
        ),
        Panel("Tokens", "short", {"{{model}} {{direction}}": rate("tokens", "model, direction")}),
    ),
    "Redis": (
        Panel(
            "Steady, as the least steady process sees it",
            "bool_yes_no",
            {"steady": gauge("redis_steady", function="min")},
        ),
        Panel(
            "Breaks and lost connections",
            "ops",
            {
                "breaks": rate("redis_breaks"),
                "subscriber connections lost": rate("subscriber_connections_lost"),
                "subscriber probes lost": rate("subscriber_probes_lost"),
            },
        ),
        Panel("Appends", "ops", {"{{outcome}}": rate("appends", "outcome"), "events": rate("appended_events")}),
        Panel("Append", "s", quantiles("append_seconds")),
        Panel("Push: from publishing to the front-end", "s", quantiles("subscriber_probe_seconds")),
        Panel("Probe of every server", "s", quantiles("redis_probe_seconds")),
    ),
    "Limits and processes": (
        Panel(
            "Limits that were reached",
            "ops",
            {"{{limit}}": f"{rate('limit_reached', 'limit')} > 0"},
        ),
        Panel(
            "Of the viewers and bytes that front-ends may hold",
            "percentunit",
            {
                "viewers": share("viewers", "MAX_VIEWERS"),
                "bytes": share("hub_bytes", "HUB_BYTES"),
            },
        ),
        Panel("Event loop lag, p99", "s", {"{{instance}}": quantile(0.99, "event_loop_lag_seconds", "instance")}),
        Panel("CPU cores", "short", {"{{kind}}": rate("process_cpu_seconds", "kind")}),
        Panel("Resident memory", "bytes", {"{{kind}}": gauge("process_resident_memory_bytes", "kind")}),
        Panel(
            "Processes and versions",
            "short",
            {"{{kind}}": gauge("processes", "kind"), "{{version}}": gauge("build_info", "version", "count")},
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The JSON model that Grafana imports."""
    return {
        "title": "broadcaster",
        "uid": "broadcaster",
        "description": "docs/operations.md has the meaning of every metric.",
        "tags": ["broadcaster"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_datasource(), _job()]},
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def _job() -> dict[str, Any]:
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(broadcaster_processes, job)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for title, panels in ROWS.items():
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top += 1
        for place, panel in enumerate(panels):
            number += 1
            line, column = divmod(place * PANEL_WIDTH, COLUMNS)
            yield _panel(panel, number, {"x": column, "y": top + line * PANEL_HEIGHT})
        number += 1
        top += -(-len(panels) * PANEL_WIDTH // COLUMNS) * PANEL_HEIGHT


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
        for index, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {**place, "w": PANEL_WIDTH, "h": PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }


def text() -> str:
    """The dashboard as it is committed."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
