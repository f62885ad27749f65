"""The services of a front-end, opened from the settings: the part of the composition root below the app."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from broadcaster.core.access.callers import Caller
from broadcaster.core.access.token_setup import read_issuers, read_token_keys
from broadcaster.core.access.viewer_tokens import LEEWAY_S
from broadcaster.core.providers.listed_models import ModelLists
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.core.requests.passed_calls import provider_calls
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import SetupError, TokensOff
from broadcaster.extras import import_for
from broadcaster.feed_wiring import open_feeds
from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import MAX_ROOMS, HubLimits, TenantBound
from broadcaster.hub.places import Place
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.log.access.access_list import AccessList
from broadcaster.log.access.daily_usage import DailyUsage
from broadcaster.log.feeds.durable_streams import DurableStreams
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.inspection.operations import Operations
from broadcaster.log.jobs.dead_letters import DeadLetters
from broadcaster.log.jobs.generations import Generations
from broadcaster.log.jobs.idempotency import IdempotencyKeys
from broadcaster.log.jobs.lists.chats import Chats
from broadcaster.log.jobs.lists.model_lists import StoredModelLists
from broadcaster.log.jobs.queue_depth import QueueDepth
from broadcaster.log.jobs.rescue.accepted import AcceptedGenerations
from broadcaster.log.jobs.rescue.announcer import Announcer
from broadcaster.log.jobs.rescue.losses import Losses
from broadcaster.log.jobs.rescue.rescue import Rescue
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.presence import Departures, Presence
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tenant_storage import TenantStorage
from broadcaster.log.tail.tail import LiveTail
from broadcaster.settings import Settings
from broadcaster.web.guards.json_ledger import JsonLedger
from broadcaster.web.guards.tenant_rates import TenantRates
from broadcaster.web.guards.tokens.mint import TokenMint
from broadcaster.web.known_models import KnownModels, no_lists
from broadcaster.web.metrics import FrontEndCounts
from broadcaster.web.server.background import Begin, kept_running
from broadcaster.web.services import Services
from broadcaster.web.viewing.presence_reports import report_no_viewers, report_presence
from broadcaster.webhooks.url import WebhookHosts
from broadcaster.wiring import JobParts, longest_open_ms

if TYPE_CHECKING:
    from broadcaster.core.access.token_signatures import TokenSigner
    from broadcaster.web.guards.credentials import Credentials
    from broadcaster.web.guards.tokens.issuers import TokenIssuers

_SWEEPS_PER_STALL = 12
_SWEEPS_PER_LEASE = 2


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


@dataclass(frozen=True, slots=True)
class OpenLog:
    """The part that publishing needs: no task runs behind it."""

    connection: LogConnection
    streams: Streams
    feeds: Feeds


@asynccontextmanager
async def open_log(settings: Settings, *, outlives_refusals: bool = False) -> AsyncIterator[OpenLog]:
    """The log, connected to at its first use (LogConnection). Raises SetupError without a Redis to connect to."""
    if settings.redis_url is None:
        raise SetupError("a front-end needs a Redis: set BROADCASTER_REDIS_URL, or use `broadcaster up`")
    async with LogConnection(
        settings.redis_url,
        prefix=settings.key_prefix,
        timeout_s=settings.redis_timeout_s,
        max_connections=settings.redis_connections,
        outlives_refusals=outlives_refusals,
    ) as connection:
        streams = Streams(connection)
        yield OpenLog(connection, streams, open_feeds(settings, connection, streams=streams))


@asynccontextmanager
async def open_services(
    settings: Settings, *, log: OpenLog | None = None, credentials: Credentials | None = None
) -> AsyncIterator[Services]:
    """Everything the routes need, and the tasks behind it; over ``log`` if that is open already, which then stays open.

    ``credentials``: those that our own app admits, kept up to date here. Raises SetupError without a Redis to connect
    to.
    """
    async with AsyncExitStack() as stack:
        opened = log
        if opened is None:
            opened = await stack.enter_async_context(open_log(settings, outlives_refusals=True))
        parts = _Parts(settings, opened)
        topology, presence = opened.connection.topology, parts.presence
        tail = await stack.enter_async_context(parts.open_tail())
        hub = Hub(tail, opened.streams, limits=hub_limits(settings))
        stack.push_async_callback(report_no_viewers, presence)
        stack.push_async_callback(hub.aclose)
        sweeper, departures = parts.sweeper(), parts.departures()
        sweep_every_s = min(settings.stall_timeout_s / _SWEEPS_PER_STALL, settings.lease_ttl_s / _SWEEPS_PER_LEASE)
        await stack.enter_async_context(
            kept_running(
                {
                    **_following(credentials, opened.connection, hub),
                    "topology": topology.run,
                    "steadiness": parts.steadiness.run,
                    "sweeper": partial(sweeper.run, every_s=sweep_every_s),
                    "tail": partial(_follow_tail, tail, hub),
                    "rescue": parts.rescue.run,
                    "storage": parts.storage.run,
                    "departures": departures.run,
                    **({} if settings.metrics_port is None else {"queue depth": parts.depth.run}),
                    "presence": partial(report_presence, hub, presence, every_s=settings.presence_every_s),
                }
            )
        )
        yield parts.services(hub, departures, credentials=credentials, tail=tail)


def _following(credentials: Credentials | None, connection: LogConnection, hub: Hub) -> dict[str, Begin]:
    if credentials is None:
        return {}
    stop_refused = partial(hub.stop_where, partial(_is_refused, credentials), StopReason.REVOKED)
    return {"credentials": partial(credentials.follow, AccessList(connection), changed=stop_refused)}


def _is_refused(credentials: Credentials, place: Place) -> bool:
    caller = place.visitor.caller
    return caller is not None and not credentials.admits(caller)


class _Parts(JobParts):
    """The parts of a front-end over an open log; what several of them share is made once."""

    def __init__(self, settings: Settings, log: OpenLog) -> None:
        front_end = f"{socket.gethostname()[:32]}.{os.getpid()}.{secrets.token_hex(4)}"
        connection, streams = log.connection, log.streams
        super().__init__(settings, connection, owner=front_end, streams=streams)
        queue, steadiness = self.queue, self.steadiness
        self.presence = Presence(connection, front_end=front_end, ttl_s=settings.presence_ttl_s)
        self.storage = TenantStorage(
            connection, max_feeds=settings.tenant_feeds, max_bytes=settings.tenant_stored_bytes
        )
        self.depth = QueueDepth(connection, tenant_running=settings.tenant_running)
        self._lapses = Lapses(connection, steadiness=steadiness)
        self._feeds = open_feeds(
            settings,
            connection,
            streams=streams,
            storage=self.storage,
            lapses=self._lapses,
            steadiness=steadiness,
        )
        self._losses = Losses(
            connection,
            steadiness=steadiness,
            lease_ttl_s=settings.lease_ttl_s,
            stall_timeout_s=settings.stall_timeout_s,
            retention_ms=_ms(settings.retention_s),
        )
        idempotency = IdempotencyKeys(connection, ttl_ms=_ms(settings.idempotency_ttl_s))
        self.rescue = Rescue(
            Announcer(queue, streams),
            AcceptedGenerations(
                connection, queue=queue, streams=streams, steadiness=steadiness, idempotency=idempotency
            ),
            self.ends,
        )

    def open_tail(self) -> AbstractAsyncContextManager[LiveTail]:
        return LiveTail(
            self._connection.topology,
            self.streams,
            keys=self._connection.keys,
            publish_probe=self._connection.redis.spublish,
            lapses=self._lapses,
            open_notice=self.rescue.announcer,
            losses=self._losses,
        )

    def departures(self) -> Departures:
        grace_s = min(self._settings.disconnect_grace_s, self._settings.abandon_grace_s)
        return Departures(self.abandonment(grace_s=grace_s), grace_s=grace_s)

    def _operations(self, generations: Generations) -> Operations:
        letters = DeadLetters(self._connection, streams=self.streams, generations=generations)
        return Operations(self._connection, streams=self.streams, dead_letters=letters, steadiness=self.steadiness)

    def services(
        self, hub: Hub, departures: Departures, *, credentials: Credentials | None, tail: LiveTail
    ) -> Services:
        settings, connection = self._settings, self._connection
        generations = self.generations(presence=self.presence, storage=self.storage, rescue=self.rescue)
        return Services(
            generations=generations,
            readings=FrontEndCounts(
                hub=hub, tail=tail, steadiness=self.steadiness, generations=generations, depth=self.depth
            ),
            operations=self._operations(generations),
            feeds=self._feeds,
            durable=DurableStreams(connection, self._feeds, storage=self.storage),
            lists=generations.lists,
            streams=self.streams,
            reader=self.streams,
            hub=hub,
            presence=self.presence,
            remember=self._losses.remember,
            departed=departures.note,
            usage=DailyUsage(connection),
            cors_origins=settings.cors_origins,
            tokens_per_day=settings.budget_tokens_per_day,
            trusted_proxies=settings.trusted_proxies,
            check_admitted=_admit_all if credentials is None else credentials.check,
            mint=token_mint(settings),
            revoke_tokens=partial(_revoke_tokens, settings, AccessList(connection)),
            check_gone=self.steadiness.check_unknown,
            chats=Chats(connection, open_ms=longest_open_ms(settings)),
            model_lists=_model_lists(settings, connection),
            ping_log=connection.ping,
            log_timeout_s=settings.redis_timeout_s,
            long_poll_timeout_s=settings.long_poll_timeout_s,
            head_wait_s=settings.head_wait_s,
            count_wait_s=settings.count_wait_s,
            delete_timeout_s=settings.delete_timeout_s,
            default_model=settings.default_model,
            default_max_tokens=settings.default_max_tokens,
            routes=ModelRoutes(settings.routes),
            own_servers=frozenset(name for name, spec in settings.providers.items() if spec.takes_own_parameters),
            reasoning_servers=frozenset(name for name, spec in settings.providers.items() if spec.takes_reasoning_in),
            provider_calls=provider_calls(settings.providers),
            unknown_parameters=settings.unknown_parameters,
            webhook_hosts=WebhookHosts(settings.webhook_hosts),
            max_body_bytes=settings.max_body_bytes,
            max_body_values=settings.max_body_values,
            drain_window_s=settings.drain_window_s,
            json_ledger=_json_ledger(settings),
            rates=TenantRates(
                requests_per_s=settings.tenant_requests_per_s, appends_per_s=settings.tenant_appends_per_s
            ),
        )


def _json_ledger(settings: Settings) -> JsonLedger:
    most, sole = settings.max_json_bytes, _sole(settings)
    bound = TenantBound.of(settings.tenant_json_bytes, total=most, sole=sole)
    return JsonLedger(max_bytes=most, tenant_bytes=bound, slow_s=settings.slow_viewer_s)


def _model_lists(settings: Settings, connection: LogConnection) -> Callable[[], Awaitable[ModelLists]]:
    if settings.model_list_s == 0:
        return no_lists
    providers = sorted(ModelRoutes(settings.routes).providers)
    return KnownModels(partial(StoredModelLists(connection).read, providers))


def _admit_all(_: Caller) -> None:
    return


def token_mint(settings: Settings) -> TokenMint:
    """What makes viewer tokens with the settings' keys, if there are any. Raises SetupError without the packages."""
    signer: TokenSigner | None = None
    if settings.token_keys is not None:
        signatures = import_for("server", "broadcaster.core.access.token_signatures")
        signer = signatures.TokenSigner(read_token_keys(settings.token_keys.get_secret_value()))
    return TokenMint(signer, ttl_s=settings.token_ttl_s, max_s=settings.token_max_s)


def token_issuers(settings: Settings) -> TokenIssuers:
    """What verifies viewer tokens. Raises SetupError for a key that is none, and for a file that cannot be used."""
    keys, issuers = settings.token_keys, settings.token_issuers
    kind: type[TokenIssuers] = import_for("server", "broadcaster.web.guards.tokens.issuers").TokenIssuers
    return kind(
        {} if keys is None else read_token_keys(keys.get_secret_value()),
        () if issuers is None else read_issuers(issuers),
        max_s=settings.token_max_s,
    )


async def _revoke_tokens(
    settings: Settings, shared: AccessList, /, tenant: str, *, token_id: str = "", subject: str = ""
) -> None:
    if settings.token_keys is None and settings.token_issuers is None:
        raise TokensOff("no viewer tokens are accepted here: set BROADCASTER_TOKEN_KEYS or BROADCASTER_TOKEN_ISSUERS")
    for_s = settings.token_max_s + 2 * LEEWAY_S
    await shared.revoke(tenant=tenant, for_s=for_s, token_id=token_id, subject=subject)


def _sole(settings: Settings) -> str | None:
    """On a server without keys ``local`` is the only tenant, and gets every bound whole."""
    return LOCAL_TENANT if settings.auth == "off" else None


def hub_limits(settings: Settings) -> HubLimits:
    """The bounds of one front-end."""
    sole = _sole(settings)
    return HubLimits(
        max_viewers=settings.max_viewers,
        # A viewer that has its place finds a room.
        max_rooms=max(settings.max_viewers, MAX_ROOMS),
        tenant_viewers=TenantBound.of(settings.tenant_viewers, total=settings.max_viewers, sole=sole),
        tenant_long_polls=TenantBound.of(settings.tenant_long_polls, total=settings.max_viewers, sole=sole),
        room_bytes=settings.room_bytes,
        hub_bytes=settings.hub_bytes,
        heartbeat_s=settings.heartbeat_s,
        lost_feed_s=settings.stall_timeout_s,
        slow_viewer_s=settings.slow_viewer_s,
        notice_s=settings.token_notice_s,
        retry_ms=settings.retry_ms,
        credential_viewers=settings.credential_viewers,
        address_viewers=settings.address_viewers,
        lifetime_s=settings.connection_lifetime_s,
    )


async def _follow_tail(tail: LiveTail, hub: Hub) -> None:
    """A tail that ended delivers nothing any more: viewers are sent away, resumably, and no new room opens."""
    await tail.until_ended()
    hub.tail_lost()
