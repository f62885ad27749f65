"""What delivering webhooks stands on, opened from the settings: the courier's part of the composition root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from broadcaster.core.webhook_signature import read_secrets
from broadcaster.core.webhook_url import WebhookHosts
from broadcaster.log.connect import LogConnection
from broadcaster.log.queue import Queue
from broadcaster.log.streams import Streams
from broadcaster.log.webhooks import PendingWebhooks
from broadcaster.settings import Settings
from worker.webhook_delivery import DeliveryBounds, WebhookDelivery
from worker.webhook_post import WebhookPoster
from worker.webhooks import WebhookCourier

# Of the calls at once, what one failing receiver may have.
_SHARE: Final = 4


@asynccontextmanager
async def open_courier(
    settings: Settings, connection: LogConnection, *, queue: Queue, streams: Streams
) -> AsyncIterator[WebhookCourier | None]:
    """The courier of this worker; None where no webhook may go anywhere."""
    hosts = WebhookHosts(settings.webhook_hosts)
    if hosts.is_off or settings.webhook_secret is None:
        yield None
        return
    poster = WebhookPoster(hosts, timeout_s=settings.webhook_timeout_s)
    pending = PendingWebhooks(connection, max_pending=settings.max_webhooks)
    delivery = WebhookDelivery(
        pending,
        streams,
        hosts=hosts,
        poster=poster,
        secrets=read_secrets(settings.webhook_secret.get_secret_value()),
        bounds=DeliveryBounds(
            timeout_s=settings.webhook_timeout_s,
            max_attempts=settings.webhook_max_attempts,
            max_bytes=settings.webhook_max_bytes,
            per_failing_host=max(1, settings.webhook_concurrency // _SHARE),
        ),
    )
    yield WebhookCourier(
        pending,
        delivery,
        streams=streams,
        concurrency=settings.webhook_concurrency,
        woken=queue.webhook_due,
    )
