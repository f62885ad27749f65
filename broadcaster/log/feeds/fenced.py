"""The calls of one writer: refused once its feed was replaced by another creation under the same id.

A creation is named by the digest of its configuration, which meta keeps. Writers that share a feed have the same one; a
publication's has a random owner in it, so it is its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from broadcaster.core.cursor import Cursor
from broadcaster.log.feeds.feeds import AppendResult, FeedConfig, Feeds


class FencedFeeds:
    """``Feeds`` for the writer that creates one feed with ``config``; ``replaces``: whatever had the id before."""

    def __init__(self, feeds: Feeds, config: FeedConfig, *, replaces: bool = False) -> None:
        self._feeds = feeds
        self._creation = config.digest()
        self._replaces = replaces

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str) -> bool:
        """As ``Feeds.create``; the first creation replaces, a repeated one (Redis came back empty) does not."""
        created = await self._feeds.create(stream_id, config, tenant=tenant, replaces=self._replaces)
        self._replaces = False
        return created

    async def append(
        self,
        stream_id: str,
        events: Sequence[bytes],
        *,
        tenant: str,
        idempotency_key: str | None = None,
        after: Cursor | None = None,
    ) -> AppendResult:
        """As ``Feeds.append``."""
        return await self._feeds.append(
            stream_id, events, tenant=tenant, idempotency_key=idempotency_key, creation=self._creation, after=after
        )

    async def close(self, stream_id: str, end: bytes, *, tenant: str, after: Cursor | None = None) -> AppendResult:
        """As ``Feeds.close``."""
        return await self._feeds.close(stream_id, end, tenant=tenant, creation=self._creation, after=after)

    async def renew(self, stream_id: str, *, tenant: str) -> bool:
        """As ``Feeds.renew``."""
        return await self._feeds.renew(stream_id, tenant=tenant, creation=self._creation)
