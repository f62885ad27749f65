"""The courier's part of the composition root: everything that delivers webhooks, built from the settings."""

from __future__ import annotations

from typing import Final

from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.jobs.webhooks import PendingWebhooks, WebhookLimits
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.reader import Streams
from broadcaster.settings import Settings
from broadcaster.webhooks.signature import read_secrets
from broadcaster.webhooks.url import WebhookHosts
from worker.webhooks.courier import WebhookCourier
from worker.webhooks.delivery import DeliveryBounds, WebhookDelivery
from worker.webhooks.post import WebhookPoster

# One failing receiver may have this fraction of the concurrent calls.
_SHARE: Final = 4


def create_courier(
    settings: Settings, connection: LogConnection, *, queue: Queue, streams: Streams, steadiness: Steadiness
) -> WebhookCourier | None:
    """The courier of this worker; None if webhooks are off."""
    hosts = WebhookHosts(settings.webhook_hosts)
    if hosts.is_off or settings.webhook_secret is None:
        return None
    delivery = WebhookDelivery(
        PendingWebhooks(connection, limits=WebhookLimits(settings.max_webhooks, settings.tenant_webhooks)),
        streams,
        Lapses(connection, steadiness=steadiness).end,
        hosts=hosts,
        poster=WebhookPoster(hosts, timeout_s=settings.webhook_timeout_s),
        secrets=read_secrets(settings.webhook_secret.get_secret_value()),
        bounds=DeliveryBounds(
            timeout_s=settings.webhook_timeout_s,
            max_attempts=settings.webhook_max_attempts,
            max_bytes=settings.webhook_max_bytes,
            per_failing_host=max(1, settings.webhook_concurrency // _SHARE),
        ),
    )
    return WebhookCourier(delivery, concurrency=settings.webhook_concurrency, woken=queue.webhook_due)
