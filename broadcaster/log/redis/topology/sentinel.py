"""The primary that Sentinels name, checked by its own role.

Rules
1. All Sentinels are queried at once. The replies of a majority are enough when the newest of them is not older than the
   known configuration. The newest configuration counts (sentinel_views.py).
2. A newly named server is queried for its role (ROLE). While it reports that it is a replica, no server is known to
   serve. A server that does not reply counts as the primary: each connection finds out for itself.
3. While ``run`` runs, the role of the known primary is queried after each refresh, too. A silent primary is kept.
4. A primary that was cut off or stood still, and comes back, still serves for seconds after it was replaced, and no
   answer of it shows that. So a call refreshes first when the last refresh is older than ``STALE_S``; while no Sentinel
   replies, less and less often, and the known primary stays.
5. One connection to a Sentinel listens for ``+switch-master``; refreshes find what it misses.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from redis import exceptions as rex
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection

from broadcaster.log.redis.address import Address, Dialer, name_of
from broadcaster.log.redis.topology.nodes import Node
from broadcaster.log.redis.topology.refresh import RefreshedTopology, TopologyTimes
from broadcaster.log.redis.topology.sentinel_views import PRIMARY, KnownPrimary, NamedPrimary
from broadcaster.log.redis.url import RedisUrl
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

STALE_S: Final = 2.0
_MOST_STALE_S: Final = 60.0
_SWITCHED: Final = "+switch-master"


class SentinelTopology(RefreshedTopology[NamedPrimary]):
    """Implements ``Topology`` and ``Placement``: one node, whose name changes with each failover."""

    def __init__(self, url: RedisUrl, *, times: TopologyTimes, rng: random.Random) -> None:
        login = url.options
        sentinels = replace(url, username=login.get("sentinel_username"), password=login.get("sentinel_password"), db=0)
        super().__init__(sentinels, times=times, rng=rng)
        self._primary_url = url
        self._sentinels = [f"{host}:{port}" for host, port in url.hosts]
        self._known = KnownPrimary(sentinels=len(self._sentinels))
        self._known_is_replica = False
        self._named: dict[Address, Node] = {}  # servers that a Sentinel has named, for their roles
        self._in_doubt = True
        self._is_silent = True
        self._stale_s = STALE_S

    @property
    def nodes(self) -> tuple[str, ...]:
        """The primary, once one is known."""
        return () if self._known.named is None or self._known_is_replica else (self._known.named.name,)

    @property
    def replicas(self) -> tuple[str, ...]:
        """None is known."""
        return ()

    @property
    def is_whole(self) -> bool:
        """See ``Placement``."""
        return bool(self.nodes)

    def node_of(self, key: str | bytes) -> str | None:
        """The primary serves everything."""
        return next(iter(self.nodes), None)

    def dialer(self, node: str) -> Dialer:
        """See ``Topology``."""
        if self._known.named is None or node not in self.nodes:
            raise KeyError(node)
        return self._primary_url.node(*self._known.named.address)

    def is_doubtful(self, node: str | None) -> bool:
        """See ``Placement``."""
        is_stale = asyncio.get_running_loop().time() - self._refreshed_at > self._stale_s
        return self._in_doubt or self._known_is_replica or is_stale

    def doubt(self, node: str) -> None:
        """See ``Placement``."""
        self._in_doubt = self._in_doubt or node in self.nodes
        self.suspect()

    def move(self, slot: int, *, source: str, target: str) -> None:
        """See ``Placement``."""
        self.doubt(source)

    async def verify(self, connection: AbstractConnection) -> None:
        """A server that was restarted accepts connections before a Sentinel has reconfigured it as a replica."""
        await self.refresh()
        if self._is_silent or f"{connection.host}:{connection.port}" not in self.nodes:  # type: ignore[attr-defined]  # only TCP is placed
            raise rex.ConnectionError("no Sentinel names this server the primary")
        await require_primary(connection)

    async def run(self) -> None:
        """See ``Topology``."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(super().run())
            tasks.create_task(self._listen())

    async def aclose(self) -> None:
        """Close the connections for queries."""
        await super().aclose()
        await self._keep_named(())

    # -- refreshes

    async def _read(self) -> bool:
        views = await self._query_all()
        self._is_silent = not views
        if not views:
            self._stale_s = min(2 * self._stale_s, _MOST_STALE_S)
            return False
        self._stale_s = STALE_S
        named: NamedPrimary | None = max(views)
        if self._known.is_newer_than(max(views)):
            named = await self._known.older(views, role_of=self._role, now=asyncio.get_running_loop().time())
        if named is not None:
            await self._take(named)
        self._in_doubt = False
        return True

    async def _query_all(self) -> list[NamedPrimary]:
        """Rule 1."""
        views: list[NamedPrimary] = []
        async with aclosing(self._replies(self._sentinels)) as replies:
            async for named in replies:
                views.append(named)
                if len(views) > len(self._sentinels) // 2 and not self._known.is_newer_than(max(views)):
                    break
        return views

    async def _take(self, named: NamedPrimary) -> None:
        """Rule 2."""
        before = self.nodes
        is_replica = named.name not in before and await self._role(named.address) not in (None, PRIMARY)
        self._known.take(named)
        self._set_replica(is_replica, before=before)
        await self._keep_named((named.address,))

    async def _check_known(self) -> bool:
        """Rule 3."""
        named = self._known.named
        if named is None or self._known_is_replica:
            return not self._known_is_replica
        role = await self._role(named.address)
        if role is not None and self._known.named is named:
            self._set_replica(role != PRIMARY, before=self.nodes)
            await self._close_others()
        return role == PRIMARY

    def _set_replica(self, is_replica: bool, *, before: tuple[str, ...]) -> None:
        if is_replica and self._known.named is not None:
            self._report(self._known.named.name, "it is named the primary, and is a replica")
        self._known_is_replica = is_replica
        if self.nodes != before:
            self._changed()

    async def _query(self, name: str) -> NamedPrimary | None:
        (flat,) = await self._send(name, ("SENTINEL", "MASTER", self._url.service or ""))
        try:
            return None if flat is None else NamedPrimary.read(flat)
        except (ValueError, TypeError, LookupError) as error:
            self._report(name, f"its reply cannot be read: {error}")
            return None

    async def _role(self, address: Address) -> bytes | None:
        """The role that a server reports; None: it does not reply."""
        if address not in self._named:
            self._named[address] = Node.at(name_of(address), self._primary_url, self._limits)
        (role,) = await self._exchange(self._named[address], ("ROLE",))
        return None if role is None else bytes(role[0])

    async def _keep_named(self, addresses: tuple[Address, ...]) -> None:
        others = [self._named.pop(each) for each in list(self._named) if each not in addresses]
        for server in others:
            await server.aclose()

    # -- notices of the Sentinels

    async def _listen(self) -> None:
        """Rule 5, Sentinel after Sentinel."""
        failures = 0
        while True:
            sentinel = Node.at(self._rng.choice(self._sentinels), self._url, self._limits)
            try:
                async with sentinel.redis.pubsub() as subscription:
                    await subscription.subscribe(_SWITCHED)
                    await self._next_message(subscription)
                    failures = 0
                    self.suspect()  # a switch may have been announced before the subscription
                    await self._receive(subscription)
            except (rex.RedisError, OSError) as error:
                failures += 1
                _log.debug("sentinel_connection_lost", sentinel=sentinel.name, reason=str(error))
            finally:
                await sentinel.aclose()
            await asyncio.sleep(self._times.backoff_s(failures, self._rng))

    async def _receive(self, subscription: PubSub) -> None:
        """Until the Sentinel falls silent."""
        while True:
            message = await subscription.get_message(timeout=self._times.every_s)
            if message is None:
                await subscription.ping()
                message = await self._next_message(subscription)
            if message["type"] != "pong":
                self.suspect()

    async def _next_message(self, subscription: PubSub) -> dict[str, Any]:
        message: dict[str, Any] | None = await subscription.get_message(timeout=self._times.query_s)
        if message is None:
            raise rex.TimeoutError("no reply in time")
        return message


async def require_primary(connection: AbstractConnection) -> None:
    """Raises ConnectionError when the server on the other end is a replica."""
    await connection.send_command("ROLE", check_health=False)
    role = await connection.read_response()
    if role[0] not in (b"master", "master"):
        raise rex.ConnectionError("this server has become a replica")
