"""What the routes need: the rooms below as narrow doors, and a handful of plain values.

The doors are Protocols so that a test can hand in doubles; the classes of `broadcaster.log` fit them as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Protocol, cast

from fastapi import Depends, Request

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.routing import Routes
from broadcaster.core.webhook_url import WebhookHosts
from broadcaster.hub.hub import Hub
from broadcaster.log.feeds import Appended, FeedConfig
from broadcaster.log.generations import Created, GenerationRequest
from broadcaster.log.listing import Listed, Which
from broadcaster.log.streams import Meta, Tail

# While AUTH is off there is one tenant: everybody on this machine. With keys it is the key's (key_guard.py).
LOCAL_TENANT: Final = "local"


class GenerationDoor(Protocol):
    """Create, look up, list, stop, delete; see `broadcaster.log.generations.Generations`."""

    async def create(
        self, request: GenerationRequest, *, tenant: str, idempotency_key: str | None = None
    ) -> Created: ...

    async def get(self, generation_id: str, *, tenant: str) -> Meta: ...

    async def list(
        self, *, tenant: str, which: Which = "all", limit: int = 100, before: int | None = None
    ) -> Listed: ...

    async def stop(self, generation_id: str, *, tenant: str) -> None: ...

    async def delete(self, generation_id: str, *, tenant: str, timeout_s: float) -> None: ...


class FeedDoor(Protocol):
    """Create, look up (any stream), append, close; see `broadcaster.log.feeds.Feeds`."""

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str) -> bool: ...

    async def get(self, stream_id: str, *, tenant: str) -> Meta: ...

    async def append(
        self, stream_id: str, events: Sequence[bytes], *, tenant: str, idempotency_key: str | None = None
    ) -> Appended: ...

    async def close(self, stream_id: str, end: bytes, *, tenant: str) -> Appended: ...


class StreamDoor(Protocol):
    """Read entries and tails; see `broadcaster.log.streams.Streams`."""

    async def first(self, stream_id: str) -> Cursor | None: ...

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]: ...

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]: ...


class PresenceDoor(Protocol):
    """Viewers over all front-ends; see `broadcaster.log.presence.Presence`."""

    async def count(self, stream_ids: Sequence[str]) -> list[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a route may touch.

    ``ping_log`` raises LogUnavailable while Redis does not answer. ``draining`` is set when this front-end begins to
    go away: it is not ready any more, and viewers that come are sent elsewhere. ``routes`` maps model patterns to
    providers, first match wins. ``webhook_hosts`` says where webhooks may go.
    """

    generations: GenerationDoor
    feeds: FeedDoor
    streams: StreamDoor
    hub: Hub
    presence: PresenceDoor
    ping_log: Callable[[], Awaitable[None]]
    log_timeout_s: float
    long_poll_timeout_s: float
    delete_timeout_s: float
    default_model: str
    default_max_tokens: int
    routes: Routes
    webhook_hosts: WebhookHosts = field(default_factory=WebhookHosts)
    draining: asyncio.Event = field(default_factory=asyncio.Event)


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


def _tenant(request: Request) -> str:
    return cast(str, getattr(request.state, "tenant", LOCAL_TENANT))


ServicesHere = Annotated[Services, Depends(_services)]
Tenant = Annotated[str, Depends(_tenant)]
