"""A front-end's counts as metrics: what the rooms count, under the names of ``observability/metrics.py``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broadcaster.core.notices import GapReason, StallReason
from broadcaster.hub.hub import Hub
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.log.jobs.generations import Generations
from broadcaster.log.jobs.queue_depth import QueueDepth
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.tail.counts import RepairCause
from broadcaster.log.tail.tail import LiveTail
from broadcaster.observability.counting import Reading, counted, counted_by


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEndCounts:
    """Where a front-end counts; a ``Source``. Its task is ``depth.run``."""

    hub: Hub
    tail: LiveTail
    steadiness: Steadiness
    generations: Generations
    depth: QueueDepth

    def __call__(self) -> Iterator[Reading]:
        yield from _of_hub(self.hub)
        yield from _of_tail(self.tail)
        yield from self.steadiness.readings()
        yield from self.depth.readings()
        yield Reading("broadcaster_generations_created_total", self.generations.created_count)


def _of_hub(hub: Hub) -> Iterator[Reading]:
    now, counts = hub.statistics(), hub.counts
    yield from counted("broadcaster_viewers", counts.viewers)
    yield Reading("broadcaster_watched_streams", now.watched)
    yield Reading("broadcaster_rooms", now.rooms)
    yield Reading("broadcaster_hub_bytes", now.bytes)
    yield from counted("broadcaster_viewers_opened_total", counts.opened)
    yield from counted("broadcaster_reconnects_total", counts.resumed)
    # Every reason is there from the start: Prometheus sees no increase in a series that begins with 1.
    yield from counted("broadcaster_viewers_closed_total", {each.code: now.stopped.get(each, 0) for each in StopReason})
    yield from counted("broadcaster_gaps_total", {each.value: counts.gaps[each] for each in GapReason})
    yield from counted("broadcaster_stalls_total", {each.value: counts.stalls[each] for each in StallReason})
    limits = {"MAX_VIEWERS": hub.limits.max_viewers, "HUB_BYTES": hub.limits.hub_bytes}
    yield from counted("broadcaster_limit", limits)
    yield from counted("broadcaster_deliveries_total", {"live": counts.live_entries, "replay": counts.replay_entries})
    yield from counted("broadcaster_delivered_bytes_total", {"live": counts.live_bytes, "replay": counts.replay_bytes})
    yield Reading("broadcaster_delivery_lag_seconds", hub.flush_lag)
    yield from counted_by("broadcaster_time_to_first_event_seconds", counts.first_event_s)


def _of_tail(tail: LiveTail) -> Iterator[Reading]:
    subscriber = tail.subscriber_counts
    yield from counted("broadcaster_repairs_total", {each.value: tail.counts.repairs[each] for each in RepairCause})
    yield Reading("broadcaster_log_pages_total", tail.counts.pages)
    yield Reading("broadcaster_subscriber_connections_lost_total", subscriber.connections_lost)
    yield Reading("broadcaster_subscriber_probe_seconds", subscriber.probe_s)
    yield Reading("broadcaster_subscriber_probes_lost_total", subscriber.probes_lost)
