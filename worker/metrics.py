"""A worker's counts as metrics: what its rooms count, under the names of ``observability/metrics.py``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broadcaster.observability.counting import Reading, counted, counted_by
from worker.engine import Engine
from worker.runner import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSource:
    """Where a worker counts; a ``Source``."""

    engine: Engine
    runner: Runner

    def __call__(self) -> Iterator[Reading]:
        engine, attempts = self.engine, self.runner.counts
        yield from engine.steadiness.readings()
        yield from () if engine.depth is None else engine.depth.readings()
        yield Reading("broadcaster_running_generations", len(self.runner.attempts))
        yield Reading("broadcaster_slots_free", self.runner.free_slots)
        yield Reading("broadcaster_queue_wait_seconds", attempts.queue_wait_s)
        yield Reading("broadcaster_attempts_started_total", attempts.started)
        yield from counted_by("broadcaster_attempts_total", attempts.ended)
        yield Reading("broadcaster_take_overs_total", attempts.take_overs)
        yield from _of_appends(engine)
        yield from _of_providers(engine)
        if engine.agent is not None:
            yield from counted("broadcaster_tool_calls_total", engine.agent.runner.outcomes)
        if engine.courier is not None:
            delivery = engine.courier.delivery
            yield from counted("broadcaster_webhook_deliveries_total", delivery.outcomes)
            yield Reading("broadcaster_webhook_seconds", delivery.attempt_s)


def _of_appends(engine: Engine) -> Iterator[Reading]:
    counts = engine.appender.counts
    yield from counted("broadcaster_appends_total", counts.outcomes)
    yield Reading("broadcaster_appended_events_total", counts.events)
    yield Reading("broadcaster_append_seconds", counts.write_s)


def _of_providers(engine: Engine) -> Iterator[Reading]:
    counts = engine.providers.counts
    yield from counted_by("broadcaster_provider_calls_total", counts.calls)
    yield from counted_by("broadcaster_provider_errors_total", counts.errors)
    yield from counted_by("broadcaster_provider_seconds", counts.whole_s)
    yield from counted_by("broadcaster_time_to_first_token_seconds", counts.first_s)
    yield from counted_by("broadcaster_tokens_per_second", counts.per_s)
    yield from counted_by("broadcaster_tokens_total", counts.tokens)
