"""Every metric: its name, type, labels and meaning. docs/operations.md prints this table, and a test holds them equal.

Labels are closed lists: names of dialects, surfaces, providers and settings, reasons and codes of our own, and models
as the routes name them. No label holds a stream, a tenant, a key, an address or a text of a caller.

``merge`` is how the gauges of several processes become one (``shared_folder.py``); counters and histograms are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, NamedTuple


class Kind(StrEnum):
    """The type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricSpec(NamedTuple):
    """A row of the table. ``process``: whether front-ends, workers or both have it."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    merge: Literal["sum", "max", "min"] = "sum"
    process: Literal["front-end", "worker", "both"] = "both"


def _counter(name: str, meaning: str, *labels: str) -> MetricSpec:
    return MetricSpec(f"broadcaster_{name}_total", Kind.COUNTER, meaning, labels)


def _gauge(name: str, meaning: str, *labels: str, merge: Literal["sum", "max", "min"] = "sum") -> MetricSpec:
    return MetricSpec(f"broadcaster_{name}", Kind.GAUGE, meaning, labels, merge)


def _histogram(name: str, meaning: str, *labels: str) -> MetricSpec:
    return MetricSpec(f"broadcaster_{name}", Kind.HISTOGRAM, meaning, labels)


_FRONT_END: Final = (
    _gauge("viewers", "viewers that watch now", "dialect"),
    _gauge("watched_streams", "streams that have viewers"),
    _gauge("rooms", "streams that are held: watched, or left a moment ago"),
    _gauge("hub_bytes", "bytes that all rooms hold, with what viewers have not read yet"),
    _gauge("connections", "client connections"),
    _gauge("limit", "what a setting allows: MAX_VIEWERS and HUB_BYTES; of each process, so they add up", "limit"),
    _counter("viewers_opened", "viewers that began to watch", "dialect"),
    _counter("reconnects", "viewers that came back with a cursor", "dialect"),
    _counter(
        "viewers_closed", "viewers that ended, by reason; slow: the socket took nothing for SLOW_VIEWER_S", "reason"
    ),
    _counter(
        "deliveries",
        "entries handed to viewers: one entry to one viewer is one; live: as they came, replay: read back",
        "path",
    ),
    _counter("delivered_bytes", "bytes handed to viewers; replay: history, snapshots and notices", "path"),
    _histogram(
        "delivery_lag_seconds", "from the arrival of the oldest entry of a flush to the end of the flush's writes"
    ),
    _histogram(
        "time_to_first_event_seconds",
        "from a viewer's request to its first event, where the stream had one",
        "dialect",
    ),
    _counter("gaps", "gaps that viewers of a stream were notified of; once for each stream", "reason"),
    _counter("stalls", "times that a watched stream stalled", "reason"),
    _counter("repairs", "reads of a log because a push was missing or the connection was lost", "cause"),
    _counter("log_pages", "pages of logs that were read for watched streams"),
    _counter("subscriber_connections_lost", "subscriber connections to Redis that were lost or could not be opened"),
    _histogram(
        "subscriber_probe_seconds", "from publishing a probe in Redis to its arrival on the subscriber connection"
    ),
    _counter("subscriber_probes_lost", "probes that did not arrive: the connection was replaced"),
    _counter("http_requests", "requests, by surface and status", "surface", "code"),
    _counter("generations_created", "generations that were created here"),
)

_BOTH: Final = (
    _counter("limit_reached", "times that a limit refused, cut or delayed something, by its setting", "limit"),
    _gauge(
        "queue_depth",
        "in Redis: generations waiting, delayed (back-off), delivered, open, dead; and webhooks_due",
        "state",
        merge="max",
    ),
    _gauge("redis_steady", "1: Redis has answered without a break for one lease", merge="min"),
    _gauge("redis_steady_processes", "processes whose Redis has answered without a break for one lease"),
    _counter("redis_breaks", "breaks of Redis that this process saw: lost, late, replaced, or a stepped clock"),
    _histogram("redis_probe_seconds", "one probe of every Redis server (a write)"),
    _histogram("event_loop_lag_seconds", "how late the event loop called back; sampled twice a second"),
    _gauge("processes", "processes that are counted here", "kind"),
    _gauge("build_info", "always 1; the versions in use", "version", "python", merge="max"),
    _counter("process_cpu_seconds", "CPU time, user and system", "kind"),
    _gauge("process_resident_memory_bytes", "resident memory", "kind"),
    _gauge("process_open_fds", "open descriptors", "kind"),
    _gauge("process_start_time_seconds", "when the oldest process started, in Unix time", "kind", merge="min"),
)

_WORKER: Final = (
    _gauge("running_generations", "generations that run now"),
    _gauge("slots_free", "generations that could begin now"),
    _histogram("queue_wait_seconds", "from the creation of a generation to its first attempt, by Redis's clock"),
    _counter("attempts_started", "attempts that began"),
    _counter(
        "attempts",
        "attempts that ended, as in the log's `attempt_ended`; code: the reason, unless it finished",
        "outcome",
        "code",
    ),
    _counter("take_overs", "attempts taken over from a worker whose lease had lapsed"),
    _counter("appends", "appends to logs, by the log's reply; unavailable: they are repeated", "outcome"),
    _counter("appended_events", "events in appends that the log accepted"),
    _histogram("append_seconds", "one write of appends to Redis, from sending to the reply"),
    _counter("provider_calls", "calls of providers, by how they ended", "provider", "outcome"),
    _counter("provider_errors", "calls of providers that failed", "provider", "reason"),
    _histogram("provider_seconds", "calls of providers that gave a complete answer, as a whole", "provider"),
    _histogram("time_to_first_token_seconds", "from the call of a provider to the first content", "provider", "model"),
    _histogram("tokens_per_second", "output tokens a second after the first content", "provider", "model"),
    _counter("tokens", "tokens that providers counted", "provider", "model", "direction"),
    _counter("tool_calls", "calls of this worker's tools", "outcome"),
    _counter("webhook_deliveries", "attempts to deliver a webhook", "outcome"),
    _histogram("webhook_seconds", "one attempt to deliver a webhook"),
)

METRICS: Final[Mapping[str, MetricSpec]] = {
    **{spec.name: spec._replace(process="front-end") for spec in _FRONT_END},
    **{spec.name: spec for spec in _BOTH},
    **{spec.name: spec._replace(process="worker") for spec in _WORKER},
}


def metrics_table() -> str:
    """The metrics as a Markdown table."""
    rows = ["| Metric | Type | Labels | Where | Meaning |", "| --- | --- | --- | --- | --- |"]
    for spec in METRICS.values():
        labels = ", ".join(spec.labels) or "–"
        rows.append(f"| `{spec.name}` | {spec.kind.value} | {labels} | {spec.process} | {spec.meaning} |")
    return "\n".join(rows)
