"""What the routes need: the rooms below as narrow doors, and a handful of plain values.

The doors are Protocols so that a test can hand in doubles; the classes of `broadcaster.log` fit them as they are.

Routes are written down once and mounted in our own app and in other people's. Where a request arrived (`Arrival`) is
put into its scope by the route class, under a key of our own: ``app.state`` and ``request.state`` are the host's.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal, NamedTuple, Protocol, cast

from fastapi import Depends, Request
from starlette.types import Scope

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.routing import Routes
from broadcaster.core.stream_ids import LOCAL_TENANT
from broadcaster.core.webhook_url import WebhookHosts
from broadcaster.dialects.openai_chat_refusal import UnknownParameters
from broadcaster.errors import SetupError, UnknownModel
from broadcaster.hub.hub import Hub
from broadcaster.log.chats import Chat
from broadcaster.log.feeds import Appended, FeedConfig
from broadcaster.log.generations import Created, GenerationRequest
from broadcaster.log.listing import Listed, Which
from broadcaster.log.streams import Meta, Tail
from broadcaster.web.awaited_streams import AwaitedStreams
from broadcaster.web.json_ledger import JsonHold, JsonLedger, MeteredStreams
from broadcaster.web.known_streams import KnownStreams
from broadcaster.web.tenant_rates import TenantRates

# Where no settings say otherwise.
MAX_BODY_BYTES: Final = 4 * 2**20
MAX_BODY_VALUES: Final = 100_000
DRAIN_WINDOW_S: Final = 1.0

_ARRIVAL: Final = "broadcaster.arrival"
_NOT_OPENED: Final = (
    "the lifespan of this router has not run: include it before the app starts; the lifespan of an app that is mounted "
    "in another is entered by that one's: async with sub.router.lifespan_context(sub): yield"
)


class GenerationDoor(Protocol):
    """Create, look up, list, stop, delete; see `broadcaster.log.generations.Generations`."""

    async def create(
        self, request: GenerationRequest, *, tenant: str, idempotency_key: str | None = None, is_watched: bool = False
    ) -> Created: ...

    async def get(self, generation_id: str, *, tenant: str) -> Meta: ...

    async def list(
        self, *, tenant: str, which: Which = "all", limit: int = 100, before: int | None = None
    ) -> Listed: ...

    async def stop(self, generation_id: str, *, tenant: str) -> None: ...

    async def delete(self, generation_id: str, *, tenant: str, timeout_s: float) -> None: ...


class FeedDoor(Protocol):
    """Create, look up (any stream), append, close, delete; see `broadcaster.log.feeds.Feeds`."""

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str) -> bool: ...

    async def get(self, stream_id: str, *, tenant: str) -> Meta: ...

    async def append(
        self, stream_id: str, events: Sequence[bytes], *, tenant: str, idempotency_key: str | None = None
    ) -> Appended: ...

    async def close(self, stream_id: str, end: bytes, *, tenant: str) -> Appended: ...

    async def delete(self, stream_id: str, *, tenant: str) -> None: ...


class StreamDoor(Protocol):
    """Read entries, tails and owners; see `broadcaster.log.streams.Streams`."""

    async def first(self, stream_id: str) -> Cursor | None: ...

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]: ...

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]: ...

    async def owners(self, stream_ids: Sequence[str]) -> list[str | None]: ...


class PresenceDoor(Protocol):
    """Viewers over all front-ends; see `broadcaster.log.presence.Presence`."""

    async def count(self, stream_ids: Sequence[str]) -> list[int]: ...


class ChatDoor(Protocol):
    """Which generation is a chat's latest; see `broadcaster.log.chats.Chats`."""

    async def remember(self, chat_id: str, chat: Chat, *, tenant: str) -> None: ...

    async def latest(self, chat_id: str, *, tenant: str) -> Chat | None: ...


def _forget(meta: Meta) -> None:
    """Where nothing ends what Redis loses."""


def _ignore(generation_id: str) -> None:
    """Where a disconnected client ends nothing."""


async def _is_gone() -> None:
    """Where nothing that Redis has lost comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a route may touch.

    ``ping_log`` raises LogUnavailable while Redis does not answer. ``draining`` is set when this front-end begins to
    go away: it is not ready any more, and viewers that come are sent elsewhere. ``routes`` maps model patterns to
    providers, first match wins; ``own_servers`` are the providers that are the operator's own servers on the wire
    of chat completions; ``unknown_parameters`` is what becomes of unknown fields of a request to other ones.
    ``webhook_hosts`` says where webhooks may go. ``drain_window_s`` is what a drain's
    farewells are spread over. ``remember`` takes what a viewer is about to watch, so that this front-end can end it if
    Redis loses it. ``check_gone`` raises LogUnavailable while a log that is missing may be written again, because Redis
    broke a moment ago. ``departed`` takes a generation whose client has disconnected and cannot come back.
    ``hold`` counts the JSON of one request (`metered`). ``known_streams`` and
    ``awaited_streams`` are made of the rest: where viewers' streams are looked up, and waited for.
    """

    generations: GenerationDoor
    feeds: FeedDoor
    streams: StreamDoor
    hub: Hub
    presence: PresenceDoor
    chats: ChatDoor
    ping_log: Callable[[], Awaitable[None]]
    log_timeout_s: float
    long_poll_timeout_s: float
    head_wait_s: float
    delete_timeout_s: float
    default_model: str
    default_max_tokens: int | None
    routes: Routes
    own_servers: frozenset[str] = frozenset()
    unknown_parameters: Literal["refuse", "drop"] = "refuse"
    webhook_hosts: WebhookHosts = field(default_factory=WebhookHosts)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    max_body_bytes: int = MAX_BODY_BYTES
    max_body_values: int = MAX_BODY_VALUES
    drain_window_s: float = DRAIN_WINDOW_S
    json_ledger: JsonLedger = field(default_factory=JsonLedger)
    hold: JsonHold | None = None
    rates: TenantRates = field(default_factory=TenantRates)
    remember: Callable[[Meta], None] = _forget
    departed: Callable[[str], None] = _ignore
    check_gone: Callable[[], Awaitable[None]] = _is_gone
    known_streams: KnownStreams = field(init=False)
    awaited_streams: AwaitedStreams = field(init=False)

    def __post_init__(self) -> None:
        known = KnownStreams(self._look, is_open=self.hub.is_open, max_streams=self.hub.limits.max_rooms)
        object.__setattr__(self, "known_streams", known)
        awaited = AwaitedStreams(self.streams.owners, draining=self.draining)
        object.__setattr__(self, "awaited_streams", awaited)

    def through(self, *, generations: GenerationDoor, chats: ChatDoor) -> Services:
        """The same services with these two in the place of theirs; everything else is shared, also `known_streams`."""
        changed = copy.copy(self)
        object.__setattr__(changed, "generations", generations)
        object.__setattr__(changed, "chats", chats)
        return changed

    def metered(self, hold: JsonHold) -> Services:
        """The same services for one request, whose reads of the log count as its own (json_ledger.py)."""
        changed = copy.copy(self)
        object.__setattr__(changed, "streams", MeteredStreams(self.streams, hold))
        object.__setattr__(changed, "hold", hold)
        return changed

    def answer_with(self, generation_id: str, *, key: str | None) -> None:
        """The request has created this generation; without an Idempotency-Key a repetition would create another."""
        if self.hold is not None and key is None:
            self.hold.answer_with(generation_id)

    async def take_turn(self) -> None:
        """Return in a turn of the loop in which no other large response is made; see `JsonHold.take_turn`."""
        if self.hold is not None:
            await self.hold.take_turn(self.hold.response_bytes)

    def unknown_parameters_for(self, model: object) -> UnknownParameters:
        """``pass`` where all targets of this model are own servers, else what the operator has set."""
        try:
            targets = self.routes.targets_for(model) if isinstance(model, str) else ()
        except UnknownModel:
            targets = ()
        leads_to_own = bool(targets) and all(target.provider in self.own_servers for target in targets)
        return "pass" if leads_to_own else self.unknown_parameters

    async def _look(self, stream_id: str, tenant: str) -> Meta:
        meta = await self.feeds.get(stream_id, tenant=tenant)
        return replace(meta, request={})  # kept for as long as the stream is watched, and no viewer reads it


async def drain(services: Services) -> None:
    """Take readiness off, and send all viewers away over the window; they resume elsewhere."""
    services.draining.set()
    await services.hub.drain(window_s=services.drain_window_s)


@dataclass(slots=True, kw_only=True)
class Mount:
    """One place where the routes are served. ``services`` is None before its lifespan has opened them, and after.

    ``tenant``: whose streams are served here; None: the caller's own, as our own app's keys say.
    """

    services: Services | None = None
    tenant: str | None = None

    def opened(self) -> Services:
        """The services. Raises SetupError while there are none."""
        if self.services is None:
            raise SetupError(_NOT_OPENED)
        return self.services

    def close(self) -> None:
        """Forget the services: they are about to be closed."""
        self.services = None


class Arrival(NamedTuple):
    """Where a request arrived: what is served there, whose, and the path that stands before ``/v1``."""

    services: Services
    tenant: str | None
    base: str


def arrive(scope: Scope, arrival: Arrival) -> None:
    """Note it for the route's parameters."""
    scope[_ARRIVAL] = arrival


def _arrival(request: Request) -> Arrival:
    return cast(Arrival, request.scope[_ARRIVAL])


# Coroutines although they wait for nothing: FastAPI sends a plain function to a thread.


async def _services(request: Request) -> Services:
    return _arrival(request).services


def tenant_of(scope: Scope, mounted: str | None) -> str:
    """Whose request it is.

    The mount's tenant wins: in somebody else's app ``request.state.tenant`` means what the host wants it to.
    """
    return cast(str, scope.get("state", {}).get("tenant", LOCAL_TENANT)) if mounted is None else mounted


async def _tenant(request: Request) -> str:
    return tenant_of(request.scope, _arrival(request).tenant)


async def _base(request: Request) -> str:
    return _arrival(request).base


ServicesHere = Annotated[Services, Depends(_services)]
Tenant = Annotated[str, Depends(_tenant)]
Base = Annotated[str, Depends(_base)]
