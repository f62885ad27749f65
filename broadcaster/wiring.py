"""The parts over generations that front-ends, workers and commands open alike, from the same settings."""

from __future__ import annotations

from dataclasses import replace

from broadcaster.core.requests.stored_requests import most_stored_bytes
from broadcaster.log.jobs.claims import ClaimPolicy, Claims
from broadcaster.log.jobs.endings import Endings
from broadcaster.log.jobs.generations import GenerationLives, Generations
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.jobs.queue_limits import QueueLimits
from broadcaster.log.jobs.rescue.kept_ends import KeptEnds
from broadcaster.log.jobs.rescue.rescue import Rescue
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.jobs.webhooks import PendingWebhooks, WebhookLimits
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.presence import Abandonment, Presence
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tenant_storage import TenantStorage
from broadcaster.settings import Settings
from broadcaster.webhooks.schedule import longest_s


def longest_open_ms(settings: Settings) -> int:
    """From the creation of a generation to its end, at most: one that lost its worker ends before its log expires."""
    return int((settings.queue_timeout_s + settings.generation_timeout_s + settings.live_ttl_s) * 1000)


class JobParts:
    """The parts that decide over generations: their workers, and their end. Made without I/O."""

    def __init__(self, settings: Settings, connection: LogConnection, *, owner: str, streams: Streams) -> None:
        """``owner`` is the name of this process in the queue and in its claims."""
        self._settings = settings
        self._connection = connection
        self.streams = streams
        self.steadiness = Steadiness(connection, lease_ttl_s=settings.lease_ttl_s)
        limits = QueueLimits(settings.max_queue, settings.tenant_queued, settings.priority_head_start_s)
        self.queue = Queue(connection, consumer=owner, limits=limits)
        policy = ClaimPolicy(
            lease_ttl_s=settings.lease_ttl_s,
            live_ttl_s=settings.live_ttl_s,
            queue_timeout_s=settings.queue_timeout_s,
            max_attempts=settings.max_attempts,
            attempt_backoff_s=settings.attempt_backoff_s,
        )
        self.claims = Claims(connection, policy, owner=owner)
        self.ends = KeptEnds(
            connection,
            queue=self.queue,
            endings=Endings(self.claims, streams),
            streams=streams,
            steadiness=self.steadiness,
            keep_s=settings.resend_keep_s,
        )

    def abandonment(self, *, grace_s: float) -> Abandonment:
        """Which generations have had no viewers for so long."""
        ttl_s = self._settings.presence_ttl_s
        return Abandonment(self._connection, grace_s=grace_s, presence_ttl_s=ttl_s, steadiness=self.steadiness)

    def sweeper(self, *, silent_ms: int | None = None) -> Sweeper:
        """The sweep of this process; ``silent_ms`` as in SweepTimes."""
        times = SweepTimes.of_seconds(
            queue_timeout_s=self._settings.queue_timeout_s,
            stall_timeout_s=self._settings.stall_timeout_s,
            generation_timeout_s=self._settings.generation_timeout_s,
            redis_timeout_s=self._settings.redis_timeout_s,
        )
        return Sweeper(
            replace(times, silent_ms=silent_ms),
            queue=self.queue,
            claims=self.claims,
            streams=self.streams,
            steadiness=self.steadiness,
            abandonment=self.abandonment(grace_s=self._settings.abandon_grace_s),
            ends=self.ends,
        )

    def generations(
        self,
        *,
        presence: Presence | None = None,
        storage: TenantStorage | None = None,
        rescue: Rescue | None = None,
    ) -> Generations:
        """What creates, reads, stops and deletes generations; the optional parts as Generations has them."""
        settings = self._settings
        lives = GenerationLives(
            open_ms=longest_open_ms(settings),
            live_ttl_ms=int(settings.live_ttl_s * 1000),
            retention_ms=int(settings.retention_s * 1000),
            idempotency_ttl_ms=int(settings.idempotency_ttl_s * 1000),
            webhook_ms=int(longest_s(settings.webhook_max_attempts, timeout_s=settings.webhook_timeout_s) * 1000),
            resend_ms=int(settings.resend_keep_s * 1000),
        )
        return Generations(
            self._connection,
            lives,
            queue=self.queue,
            claims=self.claims,
            streams=self.streams,
            steadiness=self.steadiness,
            webhooks=PendingWebhooks(
                self._connection, limits=WebhookLimits(settings.max_webhooks, settings.tenant_webhooks)
            ),
            max_metadata_bytes=settings.max_metadata_bytes,
            max_stored_bytes=most_stored_bytes(settings.max_body_bytes),
            presence=presence,
            storage=storage,
            rescue=rescue,
        )
