"""The interfaces through which routes use the log. The classes of `broadcaster.log` fulfil them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from broadcaster.core.cursor import Cursor
from broadcaster.log.access.daily_usage import UsageRow
from broadcaster.log.feeds.bounds import FeedBounds
from broadcaster.log.feeds.durable_streams import DurableAppend, DurableConfig, DurableCreation, DurableOutcome
from broadcaster.log.feeds.feeds import AppendResult, FeedConfig
from broadcaster.log.inspection.operations import SteadyState
from broadcaster.log.inspection.queue_state import QueueState
from broadcaster.log.inspection.server_state import ServerStates
from broadcaster.log.inspection.worker_reports import WorkerPage
from broadcaster.log.jobs.dead_letters import DeadLetter, DeadLetterPage
from broadcaster.log.jobs.generations import Created, GenerationRequest
from broadcaster.log.jobs.lists.chats import Chat
from broadcaster.log.jobs.lists.listing import Listed, Which
from broadcaster.log.streams.reader import ListedEnd, Meta
from broadcaster.log.streams.tails import Tail


class GenerationsPort(Protocol):
    """Create, look up, stop, delete; see `broadcaster.log.jobs.generations.Generations`."""

    async def create(
        self, request: GenerationRequest, *, tenant: str, idempotency_key: str | None = None, is_watched: bool = False
    ) -> Created: ...

    async def find(self, request: GenerationRequest, *, tenant: str, idempotency_key: str) -> Created | None: ...

    async def get(self, generation_id: str, *, tenant: str) -> Meta: ...

    async def stop(self, generation_id: str, *, tenant: str) -> None: ...

    async def delete(self, generation_id: str, *, tenant: str, timeout_s: float) -> None: ...


class FeedsPort(Protocol):
    """Create, look up (any stream), append, close, delete; see `broadcaster.log.feeds.feeds.Feeds`."""

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str, replaces: bool = False) -> bool: ...

    async def get(self, stream_id: str, *, tenant: str) -> Meta: ...

    async def append(
        self,
        stream_id: str,
        events: Sequence[bytes],
        *,
        tenant: str,
        idempotency_key: str | None = None,
        creation: str = "",
    ) -> AppendResult: ...

    async def close(self, stream_id: str, end: bytes, *, tenant: str, creation: str = "") -> AppendResult: ...

    async def delete(self, stream_id: str, *, tenant: str) -> None: ...


class DurablePort(Protocol):
    """Create, append, close, touch; see `broadcaster.log.feeds.durable_streams.DurableStreams`."""

    @property
    def bounds(self) -> FeedBounds: ...

    async def create(
        self, stream_id: str, config: DurableConfig, *, tenant: str, content: DurableAppend
    ) -> DurableCreation: ...

    async def append(self, stream_id: str, content: DurableAppend, *, tenant: str) -> DurableOutcome: ...

    async def touch(self, meta: Meta) -> None: ...


class ListsPort(Protocol):
    """Lists of streams of both kinds; see `broadcaster.log.jobs.lists.listing.Listing`."""

    async def page(
        self, tenant: str, *, which: Which, limit: int, before: int | None, with_feeds: bool = False
    ) -> Listed: ...


class StreamsPort(Protocol):
    """Read tails and owners; see `broadcaster.log.streams.reader.Streams`."""

    async def first(self, stream_id: str) -> Cursor | None: ...

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]: ...

    async def listed_ends(self, stream_ids: Sequence[str], *, with_progress: bool = False) -> list[ListedEnd]: ...

    async def owners(self, stream_ids: Sequence[str]) -> list[str | None]: ...


class PresencePort(Protocol):
    """Viewers over all front-ends; see `broadcaster.log.streams.presence.Presence`."""

    async def count(self, stream_ids: Sequence[str]) -> list[int]: ...


class ChatsPort(Protocol):
    """Which generation is a chat's latest; see `broadcaster.log.jobs.lists.chats.Chats`."""

    async def remember(self, chat_id: str, chat: Chat, *, tenant: str, retention_ms: int) -> None: ...

    async def latest(self, chat_id: str, *, tenant: str) -> Chat | None: ...


class UsagePort(Protocol):
    """Tokens by day, and budgets; see `broadcaster.log.access.daily_usage.DailyUsage`."""

    async def spent(self, tenant: str, credential: str) -> int: ...

    async def admit(self, tenant: str, credential: str, *, tokens_per_day: int) -> None: ...

    async def read(self, tenant: str, *, days: int) -> Sequence[UsageRow]: ...


class OperationsPort(Protocol):
    """What an operator sees and does; see `broadcaster.log.inspection.operations.Operations`."""

    async def workers(self, *, limit: int, after: str) -> WorkerPage: ...

    async def queue(self, *, limit: int, after: str | None) -> QueueState: ...

    async def servers(self) -> ServerStates: ...

    def steadiness(self) -> SteadyState: ...

    async def dead_letters(self, *, limit: int, before: str | None) -> DeadLetterPage: ...

    async def requeue(self, letter_id: str) -> tuple[DeadLetter, Created]: ...

    async def generation(self, generation_id: str) -> Meta: ...
