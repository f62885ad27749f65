"""The webhooks of feeds: promised before the feed is there, due when it has ended, dropped when it is deleted.

Rules
1. A webhook is promised before its feed is created, so that no end of the feed can miss it. A creation that is refused
   leaves its promise: under the same id there may be a feed whose promise it is. A promise of a feed that is not there,
   or that has no webhook, is dropped when it is checked.
2. The process that ends a feed makes its webhook due. If it dies before that, ``check_promised`` finds the end. That
   check also ends a feed whose writers have let its lease lapse, though nothing reads it.
3. A feed that is replaced takes its own webhook with it, called or not: the new feed has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from broadcaster.log.jobs.webhooks import PendingWebhooks
from broadcaster.webhooks.url import WebhookHosts


class FeedWebhooks:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat."""

    def __init__(self, pending: PendingWebhooks, hosts: WebhookHosts, *, keep_ms: int) -> None:
        """``keep_ms``: how long after its end a feed's webhook may still be delivered."""
        self._pending = pending
        self._hosts = hosts
        self._keep_ms = keep_ms

    def fields(self, webhook: Mapping[str, Any], *, retention_ms: int) -> dict[str, bytes | int]:
        """What the meta of a feed with this webhook has.

        Until the webhook is delivered the feed is kept for as long as that may take.
        """
        return {
            "webhook": msgspec.json.encode(dict(webhook)),
            "retention_ms": max(retention_ms, self._keep_ms),
            "asked_retention_ms": retention_ms,
        }

    async def promise(self, stored_id: str, webhook: Mapping[str, Any], *, tenant: str) -> None:
        """Rule 1. Raises WebhookNotAllowed, Busy, TenantLimit."""
        self._hosts.admit(webhook["url"])
        refusal = await self._pending.promise(stored_id, tenant=tenant, is_reused=True)
        if refusal is not None:
            raise refusal

    async def restore(self, stored_id: str) -> None:
        """Promise the webhook of an open feed, which was admitted once: Redis may have lost the promise."""
        await self._pending.restore(stored_id)

    async def make_due(self, stored_id: str, *, is_new: bool) -> None:
        """Rule 2; ``is_new``: this process has just ended the feed."""
        await self._pending.make_due([stored_id], is_new=is_new)

    async def drop(self, stored_id: str) -> None:
        """Its feed was deleted."""
        await self._pending.drop([stored_id])
