"""The feeds that front-ends, the library and jobs open alike, from the same settings."""

from __future__ import annotations

from broadcaster.log.feeds.bounds import FeedBounds, keys_kept
from broadcaster.log.feeds.feed_webhooks import FeedWebhooks
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.jobs.webhooks import PendingWebhooks, WebhookLimits
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tenant_storage import TenantStorage
from broadcaster.settings import Settings
from broadcaster.webhooks.schedule import longest_s
from broadcaster.webhooks.url import WebhookHosts


def open_feeds(
    settings: Settings,
    connection: LogConnection,
    *,
    streams: Streams,
    storage: TenantStorage | None = None,
    lapses: Lapses | None = None,
    steadiness: Steadiness | None = None,
) -> Feeds:
    """What creates, appends to, ends and deletes feeds; the optional parts as Feeds has them. Made without I/O."""
    webhooks = FeedWebhooks(
        PendingWebhooks(connection, limits=WebhookLimits(settings.max_webhooks, settings.tenant_webhooks)),
        WebhookHosts(settings.webhook_hosts),
        keep_ms=int(longest_s(settings.webhook_max_attempts, timeout_s=settings.webhook_timeout_s) * 1000),
    )
    return Feeds(
        connection,
        feed_bounds(settings),
        streams=streams,
        storage=storage,
        lapses=lapses,
        steadiness=steadiness,
        webhooks=webhooks,
    )


def feed_bounds(settings: Settings) -> FeedBounds:
    """The bounds in these settings: the same in a front-end and in a publisher beside it."""
    return FeedBounds(
        max_events=settings.max_events,
        max_bytes=settings.max_bytes,
        max_event_bytes=settings.max_event_bytes,
        appends_per_s=settings.feed_append_rate,
        push_max_bytes=settings.push_max_bytes,
        live_ttl_ms=int(settings.live_ttl_s * 1000),
        retention_ms=int(settings.retention_s * 1000),
        keys_kept=keys_kept(settings.feed_append_rate),
        max_metadata_bytes=settings.max_metadata_bytes,
    )
