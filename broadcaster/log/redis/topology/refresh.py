"""How a topology behind Sentinels or of a cluster is kept current; calls and subscriptions follow the same one.

Theory of operation. The knowledge of a topology may be wrong at any time, and using it costs nothing: a key goes to the
server that the topology names. A server that answers otherwise (MOVED, READONLY) or not at all is put in doubt, and the
next call for a server in doubt refreshes the topology first.

Rules
1. One refresh runs at a time, and calls start at most ten a second, however many calls meet the same failure.
2. For a call a refresh never fails. Without an answer the server stays in doubt, and the servers themselves refuse what
   they may not do.
3. When a refresh finds other primaries than the one before it, every client in the process closes its connections to
   the servers that no longer serve, before the refresh returns. A call that hangs at such a server fails then, and not
   at the end of its time limit.
4. A refresh ends with the first reply that is good enough. A slower server may still reply within ``query_s``, so that
   its connection is kept; until then it receives no other query, and its reply is discarded.
5. While ``run`` runs, the topology is refreshed at once, then every few seconds, and after each hint of a change. A
   hint that comes during a refresh leads to another one, because that refresh may have been too early. A pause lies
   between two refreshes, and after a refresh without an answer hints do not shorten the wait to nothing.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from redis import exceptions as rex

from broadcaster.core.backoff import BackOff
from broadcaster.log.redis.topology.nodes import Command, Node, NodeLimits
from broadcaster.log.redis.url import RedisUrl
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

PACE_S: Final = 0.1
"""Calls refresh no more often than this."""
JITTER: Final = 0.3
_ALWAYS: Final = float("-inf")

_Reply = TypeVar("_Reply")


@dataclass(frozen=True, slots=True)
class TopologyTimes:
    """Durations in seconds."""

    every_s: float = 3.0  # a change without a hint is found within this, jittered, and the refresh itself
    query_s: float = 1.0  # one connection, or one reply, of one server
    pause_s: float = 0.1  # between two refreshes; after one without an answer the next is due after this, then doubled
    pause_cap_s: float = 2.0

    def backoff_s(self, failures: int, rng: random.Random) -> float:
        """The pause after so many refreshes without an answer."""
        back_off = BackOff(self.pause_s, self.pause_cap_s, least=1, most=1 + JITTER)
        return back_off.pause_s(failures + 1, luck=rng.random())


class TopologyClient(Protocol):
    """A client of calls over the topology."""

    async def close_others(self) -> None:
        """Close the connections to servers that no longer serve."""


class RefreshedTopology(Generic[_Reply]):
    """What Sentinels and clusters share; see the module's text. Nothing is known before the first refresh."""

    def __init__(self, url: RedisUrl, *, times: TopologyTimes, rng: random.Random) -> None:
        """``url``: with the credentials of the servers that receive the queries."""
        self._url = url
        self._times = times
        self._rng = rng
        self._limits = NodeLimits(times.query_s, times.query_s, max_connections=1)
        self._lock = asyncio.Lock()
        self._refreshed_at = float("-inf")
        self._suspected = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._clients: weakref.WeakSet[TopologyClient] = weakref.WeakSet()
        self._clients_know: tuple[str, ...] = ()  # the primaries of the last ``close_others``
        self._served: tuple[str, ...] = ()  # the last primaries that were known
        self._servers: dict[str, Node] = {}
        # To each server; a finished one stays until the next.
        self._queries: dict[str, asyncio.Task[_Reply | None]] = {}
        self._faults: list[str] = []  # of the last refresh

    @property
    def has_served(self) -> bool:
        """See ``Placement``."""
        return bool(self._served)

    @property
    @abstractmethod
    def nodes(self) -> tuple[str, ...]:
        """The primaries that serve now, as ``host:port``."""

    @abstractmethod
    async def _read(self) -> bool:
        """Query the servers and take what counts; whether one replied."""

    @abstractmethod
    async def _query(self, name: str) -> _Reply | None:
        """The view of one server; None: it has none, or does not reply."""

    async def _check_known(self) -> bool:
        """Check what was taken, beside the refresh and without delaying it; whether it holds."""
        return True

    # -- for calls

    def register(self, client: TopologyClient) -> None:
        """Call the client whenever other servers serve; it is referenced weakly."""
        self._clients.add(client)

    async def refresh(self, *, max_age_s: float = PACE_S) -> None:
        """Query the servers, unless the last refresh ended less than ``max_age_s`` ago."""
        await self._refresh(max_age_s)

    async def aclose(self) -> None:
        """Close the connections for queries."""
        await self._forget({*self._servers, *self._queries})

    # -- for subscriptions

    def on_change(self, callback: Callable[[], None]) -> None:
        """See ``Topology``."""
        self._callbacks.append(callback)

    def suspect(self) -> None:
        """See ``Topology``."""
        self._suspected.set()

    async def run(self) -> None:
        """See ``Topology``."""
        failures = 0
        while True:
            self._suspected.clear()
            failures = 0 if await self._is_current(is_first=not failures) else failures + 1
            await asyncio.sleep(self._times.pause_s)
            await self._suspected_or_due(failures)

    async def _is_current(self, *, is_first: bool) -> bool:
        try:
            if await self._refresh(_ALWAYS) and await self._check_known():
                return True
        except Exception as error:
            _log.error("topology_refresh_crashed", exc_info=error)
            return False
        if is_first:  # once, and not with every refresh
            _log.warning("topology_unknown", reasons="; ".join(self._faults))
        return False

    async def _suspected_or_due(self, failures: int) -> None:
        times = self._times
        due_s = times.backoff_s(failures, self._rng) if failures else times.every_s * self._rng.uniform(1 - JITTER, 1)
        with suppress(TimeoutError):  # due
            async with asyncio.timeout(due_s):
                await self._suspected.wait()

    # -- refreshes

    async def _refresh(self, max_age_s: float) -> bool:
        """Whether a server replied (True, too, when the last refresh is young enough)."""
        loop = asyncio.get_running_loop()
        requested_at = loop.time()
        async with self._lock:
            if self._refreshed_at > requested_at - max_age_s:
                return True
            self._queries = {name: query for name, query in self._queries.items() if not query.done()}
            self._faults = []
            has_reply = await self._read()
            self._refreshed_at = loop.time()
        await self._close_others()
        return has_reply

    def _changed(self) -> None:
        """Call the callbacks; one that fails does not keep the others from being called."""
        _log.info("topology_changed", nodes=self.nodes)
        for callback in self._callbacks:
            try:
                callback()
            except Exception as error:
                _log.error("topology_change_not_taken", exc_info=error)

    async def _close_others(self) -> None:
        """Rule 3."""
        if self.nodes != self._clients_know:
            self._clients_know = self.nodes
            if self._served and self.nodes and self.nodes != self._served:
                _log.warning("redis_failed_over", primaries=self.nodes, before=self._served)
            self._served = self.nodes or self._served
            await asyncio.gather(*(each.close_others() for each in list(self._clients)))

    # -- queries

    async def _replies(self, names: Iterable[str]) -> AsyncGenerator[_Reply, None]:
        """The views of these servers, in the order of their replies; a caller that leaves early closes this."""
        waits = [asyncio.create_task(self._next_query(each)) for each in names]
        try:
            for done in asyncio.as_completed(waits):
                reply = await done
                if reply is not None:
                    yield reply
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _next_query(self, name: str) -> _Reply | None:
        """The reply to a query that begins after this call; None when the server was forgotten meanwhile.

        Cancelling the caller does not cancel the query.
        """
        earlier = self._queries.get(name)
        if earlier is not None:
            await asyncio.wait({earlier})
            if earlier.cancelled():
                return None
        query = self._queries[name] = asyncio.create_task(self._query(name))
        await asyncio.wait({query})
        return None if query.cancelled() else query.result()

    async def _send(self, name: str, *commands: Sequence[str]) -> list[Any]:
        """The reply to each, or None, over a connection that is kept for the next refresh."""
        if name not in self._servers:
            self._servers[name] = Node.at(name, self._url, self._limits)
        return await self._exchange(self._servers[name], *commands)

    async def _exchange(self, server: Node, *commands: Sequence[str]) -> list[Any]:
        try:
            replies = await server.send([Command(each) for each in commands])
        except (rex.RedisError, OSError) as error:
            replies = [error] * len(commands)
        for fault in [each for each in replies if isinstance(each, Exception)][:1]:
            self._report(server.name, str(fault))
        return [None if isinstance(each, Exception) else each for each in replies]

    def _report(self, name: str, reason: str) -> None:
        _log.debug("redis_gives_no_view", server=name, reason=reason)
        self._faults.append(reason if reason.startswith(name) else f"{name}: {reason}")

    async def _forget(self, names: Iterable[str]) -> None:
        """End the queries to these servers, and close their connections."""
        names = list(names)
        queries = [self._queries.pop(name) for name in names if name in self._queries]
        servers = [self._servers.pop(name) for name in names if name in self._servers]
        for query in queries:
            query.cancel()
        await asyncio.gather(*queries, return_exceptions=True)
        for server in servers:
            await server.aclose()
