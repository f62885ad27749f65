"""What a runner works with, and its times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.log.access.daily_usage import DailyUsage
from broadcaster.log.jobs.claims import Claims
from broadcaster.log.jobs.job_reader import JobReader
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.jobs.queue_depth import QueueDepth
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.control import ControlListener
from broadcaster.log.streams.reader import Streams
from broadcaster.observability.tracing.spans import UNTRACED, Tracing
from worker.attempt import DEFAULT_RETRY, AttemptTimes
from worker.providers.registry import Providers
from worker.tools.agent import AgentSetup

if TYPE_CHECKING:
    from worker.webhooks.courier import WebhookCourier


@dataclass(frozen=True, slots=True)
class Engine:
    """What the runner works with, built by worker/main.py."""

    queue: Queue
    reader: JobReader
    claims: Claims
    streams: Streams
    appender: Appender
    keeper: LeaseKeeper
    steadiness: Steadiness
    control: ControlListener
    providers: Providers
    courier: WebhookCourier | None = None  # None: webhooks are off
    agent: AgentSetup | None = None  # None: every tool is the caller's
    depth: QueueDepth | None = None  # None: nothing reads the queue's depth
    usage: DailyUsage | None = None  # None: tokens are not counted
    tracing: Tracing = UNTRACED


@dataclass(frozen=True, slots=True)
class RunnerTimes:
    """Times of the runner, in seconds, and how its attempts retry their providers."""

    lease_ttl_s: float
    resend_keep_s: float
    attempt: AttemptTimes
    retry: RetryBounds = DEFAULT_RETRY
