"""Routes: which server serves a key now, as Sentinels or a cluster tell it.

Theory of operation. A route is only an opinion, and it costs nothing to have it: keys are sent where it says. A server
that answers otherwise (MOVED, READONLY) or not at all puts its route in doubt; whoever next has something for a server
in doubt looks first, that is asks those who must know. One look at a time, and never more than ten a second, however
many calls meet the same failure: a failover is no storm. Looking never raises; without an answer the route stays in
doubt, and the servers themselves refuse what they may not do.

When a look finds other primaries than the look before it, every client in the process closes its connections to the
servers that serve no more, before the look returns. A call that hangs at such a server fails then, and not only at the
end of its time limit.

A look ends with the first answer that is good enough. Who is slower is left to answer in its own time, ``ASK_S`` at
most, so that its connection is kept; until then it is asked nothing else, and what it says is said to nobody.
"""

from __future__ import annotations

import asyncio
import random
import weakref
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from redis import exceptions as rex
from redis.asyncio.connection import AbstractConnection

from broadcaster.log.key_slots import SlotMap, slot_of
from broadcaster.log.node_talk import Address, name_of
from broadcaster.log.nodes import Command, Node, NodeLimits, greet_nobody
from broadcaster.log.redis_url import Kind, RedisUrl
from broadcaster.log.sentinel_views import KnownPrimary, Named
from broadcaster.logs import get_logger

_log = get_logger(__name__)

LOOKS_APART_S: Final = 0.1
ASK_S: Final = 1.0
OLD_S: Final = 2.0
_OLDEST_S: Final = 60.0
_ASKED_AT_ONCE: Final = 3
_WELL: Final = b"cluster_state:ok"
_ASK_LIMITS: Final = NodeLimits(timeout_s=ASK_S, connect_timeout_s=ASK_S, max_connections=1)


_View: TypeAlias = tuple[SlotMap | None, bool]
"""Who serves what, as a node sees it, and whether it is one of a cluster that is well."""
_Said = TypeVar("_Said")


class RouteListener(Protocol):
    """A client over the routes."""

    async def drop_others(self) -> None:
        """Close the connections to servers that serve no more."""
        ...


class Routes(Protocol):
    """What calls are routed by. The names of servers are ``host:port``."""

    def listen(self, listener: RouteListener) -> None:
        """Call the listener whenever other servers serve; it is held weakly."""
        ...

    @property
    def primaries(self) -> tuple[str, ...]:
        """The servers that serve now; empty before the first look."""
        ...

    @property
    def replicas(self) -> tuple[str, ...]:
        """Those that stand by, as far as it is known."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether somebody serves every key."""
        ...

    def node_of(self, key: bytes) -> str | None:
        """Who serves the key; None: nobody that we know of."""
        ...

    def is_doubtful(self, node: str | None) -> bool:
        """Whether to look before something is sent to it."""
        ...

    def doubt(self, node: str) -> None:
        """It did not answer, or said that it serves no more."""
        ...

    def move(self, slot: int, *, source: str, target: str) -> None:
        """``source`` said that ``target`` serves the slot."""
        ...

    async def look(self, *, within_s: float = LOOKS_APART_S) -> None:
        """Ask who serves, unless that was answered less than ``within_s`` ago."""
        ...

    async def greet(self, connection: AbstractConnection) -> None:
        """Accept a new connection to a server; raises ConnectionError when it is not one that serves."""
        ...

    async def aclose(self) -> None:
        """Close the connections over which it asks."""
        ...


def create_routes(url: RedisUrl) -> Routes:
    """Routes by the Sentinels or the cluster of the URL; no I/O."""
    return SentinelRoutes(url) if url.kind is Kind.SENTINEL else ClusterRoutes(url)


class _Asking(Generic[_Said]):
    """One look at a time; see the module's text."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._looked_at = float("-inf")
        self._listeners: weakref.WeakSet[RouteListener] = weakref.WeakSet()
        self._announced: tuple[str, ...] = ()  # the primaries that the listeners know
        self._asked: dict[str, Node] = {}
        self._asks: dict[str, asyncio.Task[_Said | None]] = {}  # to each server; what is done goes at the next look

    async def look(self, *, within_s: float = LOOKS_APART_S) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._lock:
            if self._looked_at > asked_at - within_s:
                return
            self._asks = {name: ask for name, ask in self._asks.items() if not ask.done()}
            await self._look()
            self._looked_at = loop.time()
        if self.primaries != self._announced:
            self._announced = self.primaries
            await asyncio.gather(*(each.drop_others() for each in list(self._listeners)))

    def listen(self, listener: RouteListener) -> None:
        self._listeners.add(listener)

    @property
    @abstractmethod
    def primaries(self) -> tuple[str, ...]: ...

    @abstractmethod
    async def _look(self) -> None: ...

    @abstractmethod
    async def _ask(self, name: str) -> _Said | None:
        """What this server says; None: it does not say."""

    async def aclose(self) -> None:
        await self._forget({*self._asked, *self._asks})

    async def _said(self, names: Iterable[str]) -> AsyncGenerator[_Said, None]:
        """What each of these says, in the order of their answers; whoever leaves early is to close this."""
        waits = [asyncio.create_task(self._asked_anew(each)) for each in names]
        try:
            for done in asyncio.as_completed(waits):
                said = await done
                if said is not None:
                    yield said
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _asked_anew(self, name: str) -> _Said | None:
        """The answer to what is asked from now on (None: it was forgotten meanwhile). Who is cancelled ends no ask."""
        earlier = self._asks.get(name)
        if earlier is not None:
            await asyncio.wait({earlier})
            if earlier.cancelled():
                return None
        ask = self._asks[name] = asyncio.create_task(self._ask(name))
        await asyncio.wait({ask})
        return None if ask.cancelled() else ask.result()

    async def _answers(self, name: str, url: RedisUrl, *commands: Sequence[str]) -> list[Any]:
        """What a server answers to each, or None, over a connection that is kept for the next time."""
        if name not in self._asked:
            self._asked[name] = Node(name, url, _ASK_LIMITS, greet=greet_nobody)
        try:
            answers = await self._asked[name].send([Command(words, {}, b"") for words in commands])
        except (rex.RedisError, OSError) as error:
            answers = [error] * len(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                _log.debug("redis_does_not_say", server=name, reason=str(answer))
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    async def _forget(self, names: Iterable[str]) -> None:
        """Ask these nothing more, and hang up."""
        names = list(names)
        asks = [self._asks.pop(name) for name in names if name in self._asks]
        nodes = [self._asked.pop(name) for name in names if name in self._asked]
        for ask in asks:
            ask.cancel()
        await asyncio.gather(*asks, return_exceptions=True)
        for node in nodes:
            await node.aclose()


class SentinelRoutes(_Asking[Named]):
    """One primary for every key. The Sentinel with the newest configuration is believed (sentinel_views.py).

    A primary that was cut off or stood still, and comes back, still serves for seconds after it was replaced, and
    nothing in its answers tells. So a route grows old: whoever has something to send when nobody has asked for
    ``OLD_S`` asks first; while no Sentinel answers, less and less often, and the primary that we know goes on.
    """

    def __init__(self, url: RedisUrl) -> None:
        super().__init__()
        self._url = replace(url, username=url.sentinel_username, password=url.sentinel_password, db=0)
        self._primary_url = url
        self._sentinels = [f"{host}:{port}" for host, port in url.hosts]
        self._known = KnownPrimary(sentinels=len(self._sentinels))
        self._in_doubt = True
        self._is_silent = True
        self._old_s = OLD_S

    @property
    def primaries(self) -> tuple[str, ...]:
        return () if self._known.named is None else (self._known.named.name,)

    @property
    def replicas(self) -> tuple[str, ...]:
        return ()

    @property
    def is_whole(self) -> bool:
        return self._known.named is not None

    def node_of(self, key: bytes) -> str | None:
        return None if self._known.named is None else self._known.named.name

    def is_doubtful(self, node: str | None) -> bool:
        return self._in_doubt or asyncio.get_running_loop().time() - self._looked_at > self._old_s

    def doubt(self, node: str) -> None:
        self._in_doubt = self._in_doubt or node in self.primaries

    def move(self, slot: int, *, source: str, target: str) -> None:
        self.doubt(source)

    async def greet(self, connection: AbstractConnection) -> None:
        """A server that was restarted takes connections before a Sentinel has told it that it was replaced."""
        await self.look()
        if self._is_silent or f"{connection.host}:{connection.port}" not in self.primaries:  # type: ignore[attr-defined]  # only TCP is routed
            raise rex.ConnectionError("no Sentinel names this server the primary")
        await require_primary(connection)

    async def _look(self) -> None:
        told = await self._ask_all()
        self._is_silent = not told
        if not told:
            self._old_s = min(2 * self._old_s, _OLDEST_S)
            return
        self._old_s = OLD_S
        named: Named | None = max(told)
        if self._known.is_newer_than(max(told)):
            named = await self._known.older(told, role_of=self._role, now=asyncio.get_running_loop().time())
        if named is not None:
            self._take(named)
        self._in_doubt = False

    def _take(self, named: Named) -> None:
        before = self.primaries
        self._known.take(named)
        if before not in ((), self.primaries):
            _log.warning("redis_failed_over", primary=named.name, before=before[0])

    async def _role(self, address: Address) -> bytes | None:
        """What a server says of itself; None: it does not answer."""
        (role,) = await self._answers(name_of(address), self._primary_url, ("ROLE",))
        return None if role is None else bytes(role[0])

    async def _ask_all(self) -> list[Named]:
        """All at once; a majority that answered, and knows of nothing older, is not kept waiting for the rest."""
        told: list[Named] = []
        async with aclosing(self._said(self._sentinels)) as said:
            async for named in said:
                told.append(named)
                if len(told) > len(self._sentinels) // 2 and not self._known.is_newer_than(max(told)):
                    break
        return told

    async def _ask(self, name: str) -> Named | None:
        """What this Sentinel tells; None: it does not answer."""
        (flat,) = await self._answers(name, self._url, ("SENTINEL", "MASTER", self._url.service or ""))
        return None if flat is None else Named.read(flat)


class ClusterRoutes(_Asking[_View]):
    """The slots' owners. Any node knows them, and who does not serve a slot says who does.

    A node that is cut off from the majority knows them as they were: one that says it is well is believed first.
    """

    def __init__(self, url: RedisUrl) -> None:
        super().__init__()
        self._url = url
        self._seeds = [f"{host}:{port}" for host, port in url.hosts]
        self._map = SlotMap()
        self._in_doubt: set[str | None] = {None}

    @property
    def primaries(self) -> tuple[str, ...]:
        return self._map.primaries

    @property
    def replicas(self) -> tuple[str, ...]:
        return tuple(sorted({each for replicas in self._map.replicas.values() for each in replicas}))

    @property
    def is_whole(self) -> bool:
        return self._map.is_whole

    def node_of(self, key: bytes) -> str | None:
        return self._map.owners[slot_of(key)]

    def is_doubtful(self, node: str | None) -> bool:
        return node in self._in_doubt

    def doubt(self, node: str) -> None:
        self._in_doubt.add(node)

    def move(self, slot: int, *, source: str, target: str) -> None:
        self._map.owners[slot] = target
        self._map.replicas.setdefault(target, ())
        self.doubt(source)  # it may have given away more than this one

    async def greet(self, connection: AbstractConnection) -> None:
        """Nothing to ask: a replica sends every call to its primary by itself."""

    async def _look(self) -> None:
        in_doubt = [node for node in self._in_doubt if node is not None]
        trusted = [each for each in (*self.primaries, *self.replicas) if each not in self._in_doubt]
        random.shuffle(trusted)
        others = dict.fromkeys((*self._seeds, *in_doubt))
        candidates = [*trusted, *(each for each in others if each not in trusted)]
        second_best: SlotMap | None = None
        for at in range(0, len(candidates), _ASKED_AT_ONCE):
            seen, is_well = await self._best(candidates[at : at + _ASKED_AT_ONCE])
            if seen is not None and is_well:
                await self._take(seen)
                return
            second_best = second_best or seen
        if second_best is not None:
            await self._take(second_best)

    async def _best(self, names: Sequence[str]) -> _View:
        """The first view of a node that is well, or else any; who has not answered by then is not waited for."""
        second_best: SlotMap | None = None
        async with aclosing(self._said(names)) as said:
            async for seen, is_well in said:
                if seen is not None and is_well:
                    return seen, True
                second_best = second_best or seen
        return second_best, False

    async def _take(self, found: SlotMap) -> None:
        if self._map.primaries and found.primaries != self._map.primaries:
            _log.warning("redis_failed_over", primaries=found.primaries, before=self._map.primaries)
        self._map = found
        self._in_doubt = set() if found.is_whole else {None}
        known = {*found.primaries, *self.replicas, *self._seeds}
        await self._forget({*self._asked, *self._asks} - known)

    async def _ask(self, name: str) -> _View:
        """Who serves what, as this node sees it, and whether it is one of a cluster that is well."""
        state, slots = await self._answers(name, self._url, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
        try:
            return (SlotMap.read(slots, asked=name) if slots else None), _WELL in (state or b"")
        except (ValueError, TypeError, IndexError) as error:
            _log.warning("redis_map_unreadable", server=name, reason=str(error))
            return None, False


async def require_primary(connection: AbstractConnection) -> None:
    """Raises ConnectionError when the server on the other end is a replica."""
    await connection.send_command("ROLE", check_health=False)
    role = await connection.read_response()
    if role[0] not in (b"master", "master"):
        raise rex.ConnectionError("this server has become a replica")
