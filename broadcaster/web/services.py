"""What the routes need: the interfaces of the rooms below (ports.py), and a handful of plain values.

Routes are written once and mounted in our own app and in hosts' apps. Where a request arrived (`Arrival`) is
put into its scope by the route class, under a key of our own: ``app.state`` and ``request.state`` are the host's.
"""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from broadcaster.core.access.callers import CALLER_KEY, Caller
from broadcaster.core.access.client_address import counted_address
from broadcaster.core.providers.listed_models import ModelLists
from broadcaster.core.providers.model_routing import ModelRoutes, ModelTarget
from broadcaster.core.requests.origins import NO_ORIGIN, Origin
from broadcaster.core.requests.passed_calls import ProviderCalls
from broadcaster.core.requests.priorities import PRIORITY_HEADER, Priority, read_priority
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.dialects.openai.parameters import UnknownParameters
from broadcaster.errors import BudgetSpent, SetupError, UnknownModel
from broadcaster.hub.hub import Hub
from broadcaster.hub.places import ANYONE, Place, Visitor
from broadcaster.log.jobs.generations import Created, GenerationRequest
from broadcaster.log.streams.pages import EntryReader
from broadcaster.log.streams.reader import Meta
from broadcaster.observability.counting import Source
from broadcaster.observability.limits import counting_refusals, limit_reached
from broadcaster.web.guards.json_ledger import JsonHold, JsonLedger, MeteredReader
from broadcaster.web.guards.request_log import RequestRecord, record_of
from broadcaster.web.guards.tenant_rates import TenantRates
from broadcaster.web.guards.tokens.mint import TokenMint
from broadcaster.web.ports import (
    ChatsPort,
    DurablePort,
    FeedsPort,
    GenerationsPort,
    ListsPort,
    OperationsPort,
    PresencePort,
    StreamsPort,
    UsagePort,
)
from broadcaster.web.viewing.awaited_streams import AwaitedStreams
from broadcaster.web.viewing.known_streams import KnownStreams
from broadcaster.webhooks.url import WebhookHosts

if TYPE_CHECKING:
    from starlette.types import Scope

_PRIORITY_HEADER: Final = PRIORITY_HEADER.encode()
_REMOTE: Final = Visitor(is_remote=True)
_ARRIVAL: Final = "broadcaster.arrival"
_NOT_OPENED: Final = (
    "the lifespan of this router has not run: include it before the app starts; the lifespan of an app that is mounted "
    "in another is entered by that one's: async with sub.router.lifespan_context(sub): yield; in a test, a client runs "
    "it as: with TestClient(app), and a client over ASGITransport inside: async with app.router.lifespan_context(app)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a route may touch.

    ``ping_log`` raises LogUnavailable while Redis does not answer. ``draining`` is set when this front-end begins to
    drain: it is not ready any more, and new viewers are sent elsewhere. ``routes`` maps model patterns to providers,
    first match wins; ``own_servers`` are the providers that are the operator's own servers on the wire of chat
    completions, and ``reasoning_servers`` those of them that take the reasoning of earlier answers back;
    ``unknown_parameters`` decides about unknown fields of a request to other providers. ``provider_calls`` are the
    calls that each provider answers (core/requests/passed_calls.py). ``webhook_hosts`` says where webhooks may go.
    ``drain_window_s`` is the time over which a drain disconnects viewers. ``remember`` takes the stream that a viewer
    is about to watch, so that this front-end can end it if Redis loses it. ``check_gone`` raises LogUnavailable while a
    log that is missing may be written again, because Redis broke a moment ago. ``departed`` takes a generation whose
    client has disconnected and cannot come back. ``check_admitted`` raises Unauthorized, TokenRevoked or TokenExpired
    when the credential of a caller is no longer valid. ``mint`` makes viewer tokens, and ``revoke_tokens`` refuses
    those of a tenant by an id or a subject. ``visitor`` is the client of one request, ``record`` its line in the log,
    and ``priority`` that of the generation it starts. ``readings`` are the front-end's metrics. ``model_lists`` gives
    the providers' lists of models, as last read. ``reader`` reads logs, and ``hold`` counts the JSON of one request
    (`metered`). ``known_streams`` and ``awaited_streams`` are derived from the rest: the look-up of streams, and the
    wait for new ones. ``cors_origins`` are those of the setting. ``grants_watch`` asks the guard ``can_watch`` of a
    host's app about a stream; None: our own app, which has no such guard.
    """

    generations: GenerationsPort
    feeds: FeedsPort
    durable: DurablePort
    lists: ListsPort
    streams: StreamsPort
    reader: EntryReader
    hub: Hub
    presence: PresencePort
    chats: ChatsPort
    operations: OperationsPort
    ping_log: Callable[[], Awaitable[None]]
    log_timeout_s: float
    long_poll_timeout_s: float
    head_wait_s: float
    count_wait_s: float
    delete_timeout_s: float
    default_model: str
    default_max_tokens: int | None
    routes: ModelRoutes
    own_servers: frozenset[str]
    reasoning_servers: frozenset[str]
    provider_calls: ProviderCalls
    unknown_parameters: Literal["refuse", "drop"]
    webhook_hosts: WebhookHosts
    max_body_bytes: int
    max_body_values: int
    drain_window_s: float
    json_ledger: JsonLedger
    rates: TenantRates
    remember: Callable[[Meta], None]
    departed: Callable[[str], None]
    check_admitted: Callable[[Caller], None]
    mint: TokenMint
    revoke_tokens: Callable[..., Awaitable[None]]
    check_gone: Callable[[], Awaitable[None]]
    model_lists: Callable[[], Awaitable[ModelLists]]
    usage: UsagePort
    cors_origins: Collection[str] = ()
    tokens_per_day: int | None = None
    trusted_proxies: int = 0
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    readings: Source = tuple
    hold: JsonHold | None = None
    grants_watch: Callable[[str], Awaitable[bool]] | None = None
    visitor: Visitor = ANYONE
    record: RequestRecord | None = None
    priority: Priority = Priority.NORMAL
    opened_at: float = field(default_factory=time.monotonic)
    known_streams: KnownStreams = field(init=False)
    awaited_streams: AwaitedStreams = field(init=False)

    def __post_init__(self) -> None:
        known = KnownStreams(self._find_meta, is_open=self.hub.is_open, max_streams=self.hub.limits.max_rooms)
        object.__setattr__(self, "known_streams", known)
        awaited = AwaitedStreams(self.streams.owners, draining=self.draining)
        object.__setattr__(self, "awaited_streams", awaited)

    def through(
        self, *, generations: GenerationsPort, chats: ChatsPort, grants_watch: Callable[[str], Awaitable[bool]]
    ) -> Services:
        """The same services with these in the place of theirs; everything else is shared, also `known_streams`."""
        return self._changed(generations=generations, chats=chats, grants_watch=grants_watch)

    def metered(self, hold: JsonHold, scope: Scope, *, is_hosted: bool) -> Services:
        """The same services for one request, whose reads of the log count as its own (json_ledger.py).

        Raises InvalidInput for a priority that there is not.
        """
        return self._changed(
            reader=MeteredReader(self.reader, hold),
            hold=hold,
            visitor=self.visitor_of(scope, is_hosted=is_hosted),
            record=record_of(scope),
            priority=_priority_of(scope),
        )

    def visited_by(self, visitor: Visitor) -> Services:
        """The same services for one request that reads nothing itself."""
        return self._changed(visitor=visitor)

    @property
    def budget(self) -> int | None:
        """The tokens that the client's credential may spend in a day; None: any number."""
        caller = self.visitor.caller
        own = None if caller is None else caller.tokens_per_day
        return self.tokens_per_day if own is None else own

    async def create(
        self, generation: GenerationRequest, *, tenant: str, idempotency_key: str | None, is_watched: bool
    ) -> Created:
        """Start the generation with what its client's credential and head add, or find that of an earlier request.

        Raises BudgetSpent, and what ``Generations.create`` raises. After its budget is spent, a request that repeats an
        earlier one only reads: its key may outlive the earlier generation, which must not be created once more.
        """
        caller = self.visitor.caller
        credential = "" if caller is None else caller.credential
        generation = replace(generation, credential=credential, origin=self.origin)
        with counting_refusals("BUDGET_TOKENS_PER_DAY", BudgetSpent):
            created = await self._found_beyond_budget(generation, tenant=tenant, key=idempotency_key)
        if created is None:
            created = await self.generations.create(
                generation, tenant=tenant, idempotency_key=idempotency_key, is_watched=is_watched
            )
        self.note_created(created, model=generation.model, key=idempotency_key)
        return created

    @contextmanager
    def expected(self, stream_id: str) -> Iterator[None]:
        """For a creator that counts as a viewer from the creation on; not any more where the block fails.

        Otherwise a client that left before it watched would hold its answer until the next report of all viewers.
        """
        try:
            yield
        except BaseException:
            self.hub.recount(stream_id)
            raise

    def visitor_of(self, scope: Scope, *, is_hosted: bool = False) -> Visitor:
        """The client of a request. In a host's app the host's guards decide, and no caller is known here."""
        caller: Caller | None = None if is_hosted else scope.get(CALLER_KEY)
        address = "" if self.hub.limits.address_viewers is None else self._address_of(scope)
        return _REMOTE if caller is None and not address else Visitor(caller, address, is_remote=True)

    def _address_of(self, scope: Scope) -> str:
        client = scope.get("client")
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return counted_address(client[0] if client else "", forwarded, trusted_proxies=self.trusted_proxies)

    def reserve(self, tenant: str, *, waits: bool = False) -> Place:
        """A place for the request's client: see `Hub.reserve`, and ``check_admitted`` for what else it raises."""
        caller = self.visitor.caller
        if caller is not None:
            self.check_admitted(caller)
        return self.hub.reserve(tenant, waits=waits, visitor=self.visitor)

    def _changed(self, **fields: object) -> Services:
        """A copy with other values; `copy.copy` of a frozen class with slots takes three times as long (20 us)."""
        changed = object.__new__(Services)
        for fill, value in zip(_FILLS, _VALUES(self), strict=True):
            fill(changed, value)
        for name, value in fields.items():
            object.__setattr__(changed, name, value)
        return changed

    @property
    def origin(self) -> Origin:
        """Where the streams come from that this request creates."""
        return NO_ORIGIN if self.record is None else self.record.origin

    async def _found_beyond_budget(
        self, generation: GenerationRequest, *, tenant: str, key: str | None
    ) -> Created | None:
        """None: a new generation is within the budget. Raises BudgetSpent if it is not, and there is no earlier one."""
        if self.budget is None:
            return None
        try:
            await self.usage.admit(tenant, generation.credential, tokens_per_day=self.budget)
        except BudgetSpent:
            found = None if key is None else await self.generations.find(generation, tenant=tenant, idempotency_key=key)
            if found is None:
                raise
            return found
        return None

    def note_created(self, created: Created, *, model: str, key: str | None) -> None:
        """The request has created this generation; without an Idempotency-Key a repetition would create another."""
        if self.hold is not None and key is None:
            self.hold.note_created(created.id)
        if self.record is not None:
            self.record.created(created.id, kind="generation", model=model, is_repeat=not created.created)

    async def take_turn(self) -> None:
        """Return in a turn of the loop in which no other large response is made; see `JsonHold.take_turn`."""
        if self.hold is not None:
            await self.hold.take_turn(self.hold.response_bytes)

    def keep_read(self, size: int) -> None:
        """Of what was last read the request builds on so many bytes of JSON; see `JsonHold.keep`."""
        if self.hold is not None:
            self.hold.keep(size)

    def bounded_wait_s(self, requested_s: float) -> float:
        """The time for which a request may wait that requests this time."""
        if requested_s > self.long_poll_timeout_s:
            limit_reached("LONG_POLL_TIMEOUT_S")
        return min(requested_s, self.long_poll_timeout_s)

    def unknown_parameters_for(self, model: object) -> UnknownParameters:
        """``pass`` where all targets of this model are own servers, else what the operator has set."""
        targets = self._targets_for(model)
        leads_to_own = bool(targets) and all(target.provider in self.own_servers for target in targets)
        return "pass" if leads_to_own else self.unknown_parameters

    def keeps_reasoning_for(self, model: object) -> bool:
        """Whether a target of this model takes the reasoning of earlier answers back."""
        return any(target.provider in self.reasoning_servers for target in self._targets_for(model))

    def _targets_for(self, model: object) -> Sequence[ModelTarget]:
        try:
            return self.routes.targets_for(model) if isinstance(model, str) else ()
        except UnknownModel:
            return ()

    async def _find_meta(self, stream_id: str, tenant: str) -> Meta:
        meta = await self.feeds.get(stream_id, tenant=tenant)
        return replace(meta, request={})  # stored while the stream has viewers, which do not read the request


_VALUES: Final = operator.attrgetter(*Services.__slots__)
_FILLS: Final = tuple(getattr(Services, name).__set__ for name in Services.__slots__)


async def drain(services: Services) -> None:
    """Turn readiness off, and disconnect all viewers over the window; they resume elsewhere."""
    services.draining.set()
    await services.hub.drain(window_s=services.drain_window_s)


@dataclass(slots=True, kw_only=True)
class Mount:
    """One place where the routes are served. ``services`` is None before its lifespan has opened them, and after.

    ``tenant``: the tenant whose streams are served; None: the caller's own, by the keys of our own app.
    """

    services: Services | None = None
    tenant: str | None = None

    @property
    def is_hosted(self) -> bool:
        """Whether the routes are served in a host's app, whose guards decide."""
        return self.tenant is not None

    def opened(self) -> Services:
        """The services. Raises SetupError while there are none."""
        if self.services is None:
            raise SetupError(_NOT_OPENED)
        return self.services


class Arrival(NamedTuple):
    """Where a request arrived: the services, its tenant, and the path before ``/v1``."""

    services: Services
    tenant: str
    base: str


def arrive(scope: Scope, arrival: Arrival) -> None:
    """Record it for the route."""
    scope[_ARRIVAL] = arrival


def tenant_of(scope: Scope, mounted: str | None) -> str:
    """The tenant of a request.

    The mount's tenant wins: in a host's app ``request.state.tenant`` belongs to the host.
    """
    return cast(str, scope.get("state", {}).get("tenant", LOCAL_TENANT)) if mounted is None else mounted


def _priority_of(scope: Scope) -> Priority:
    """The priority that the head of a request names. Raises InvalidInput for one that there is not."""
    given = (value.decode("latin-1") for name, value in scope["headers"] if name == _PRIORITY_HEADER)
    return read_priority(next(given, Priority.NORMAL))


def arrival_in(scope: Scope) -> Arrival:
    """What ``arrive`` has recorded."""
    return cast(Arrival, scope[_ARRIVAL])
