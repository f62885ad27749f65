"""One client over many servers: redis-py's commands by name, each sent to the server of its key.

Rules
1. A pipeline is one write for each server, all sent at once. Its replies come in the order of its calls, and each call
   has its own error: a fault of one server concerns its calls alone.
2. A server that redirects a call (MOVED, ASK) has done nothing: the call follows, twice at most.
3. A call that every server refused to begin (TRYAGAIN, CLUSTERDOWN, LOADING, READONLY, no connection …) is repeated
   until ``patience_s`` is over; with 0 the caller decides. A call whose reply was lost is never repeated here. Calls
   that rest on an earlier reply of a server use the ``impatient`` client: it repeats nothing, and sends nothing to a
   server that it has just learned of in place of another.
4. When the topology shows that a server no longer serves, every client of the process closes its connections to it. A
   call that hangs there fails, and rule 3 decides whether it is repeated.
5. A command without a key is for a server that the caller names (``primaries``), not for any.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from redis import exceptions as rex
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline

from broadcaster.core.backoff import BackOff
from broadcaster.log.redis.client import LogRedis, NodeRedis
from broadcaster.log.redis.pipeline import raise_first
from broadcaster.log.redis.topology.key_slots import SLOTS, key_of
from broadcaster.log.redis.topology.nodes import Command, Node, NodeLimits, NotSent
from broadcaster.log.redis.topology.topology import Placement
from broadcaster.log.redis.url import RedisUrl

_HOPS: Final = 3
_BACK_OFF: Final = BackOff(0.02, 0.2)

DRAWS: Final = 8 * SLOTS
"""How many keys are drawn to find one that a server serves: a server with one slot is missed once in e^8 times."""
_DRAWS_AT_ONCE: Final = 256

_NOT_BEGUN: Final = (
    NotSent,
    rex.TryAgainError,
    rex.ClusterDownError,
    rex.MasterDownError,
    rex.BusyLoadingError,
    rex.ReadOnlyError,
    rex.MovedError,
    rex.AskError,
)
_SERVES_NO_LONGER: Final = (NotSent, rex.ReadOnlyError, rex.MasterDownError, rex.ClusterDownError, rex.BusyLoadingError)


class Identity(NamedTuple):
    """A connection to a server: its id, which a restarted server reuses, and the run of the server."""

    connection_id: int
    run_id: str


class ServerSample(NamedTuple):
    """A server as a probe found it: its identity, and how far its clock is ahead of the loop's, within ``margin_s``.

    The server read its clock at some moment between the request and the reply.
    """

    identity: Identity
    ahead_s: float
    margin_s: float

    @classmethod
    def of(cls, identity: Identity, time: tuple[int, int], *, sent_at: float, received_at: float) -> ServerSample:
        """``time``: the server's reply to TIME, in seconds and microseconds."""
        seconds, micros = time
        margin_s = (received_at - sent_at) / 2
        return cls(identity, seconds + micros / 1e6 - sent_at - margin_s, margin_s)

    def step_s(self, before: ServerSample) -> float:
        """How far the clock has stepped since then at least: forward, or (less than 0) back."""
        moved_s = self.ahead_s - before.ahead_s
        sure_s = max(0.0, abs(moved_s) - self.margin_s - before.margin_s)
        return sure_s if moved_s > 0 else -sure_s


class PlacedRedis(LogRedis):
    """A client of all primaries, with connections of its own to each."""

    def __init__(self, url: RedisUrl, placement: Placement, limits: NodeLimits, *, patience_s: float) -> None:
        # The parent class needs a pool for its parsers; nothing is ever sent over it.
        super().__init__(connection_pool=BlockingConnectionPool(max_connections=1, protocol=2))
        self._url = url
        self._placement = placement
        self._limits = limits
        self._patience_s = patience_s
        self._refuses_new_servers = False
        self._nodes: dict[str, Node] = {}
        self._probe_numbers: dict[str, int] = {}
        placement.register(self)

    def impatient(self) -> PlacedRedis:
        """The same over the same connections, for calls that must not outlive a failover; see rule 3."""
        other = PlacedRedis(self._url, self._placement, self._limits, patience_s=0.0)
        other._refuses_new_servers = True
        other._nodes = self._nodes
        return other

    def key_of(self, args: Sequence[Any]) -> bytes:
        """The key of a command. Raises LookupError without one."""
        return key_of(args)

    def pipeline(self, transaction: bool = False, shard_hint: str | None = None) -> Pipeline:
        """Never a transaction: it could not span several servers."""
        if transaction:
            raise ValueError("there is no transaction over several servers")
        return super().pipeline()

    async def send_all(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each, or its exception, in order."""
        replies: list[Any] = [NotSent("not sent")] * len(commands)
        left = list(range(len(commands)))
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_s
        for failures in itertools.count(1):
            await self._send_round(commands, left, replies)
            left = [at for at in left if isinstance(replies[at], _NOT_BEGUN)]
            pause_s = _BACK_OFF.pause_s(failures, luck=random.random())
            if not left or loop.time() + pause_s > give_up_at:
                break
            await asyncio.sleep(pause_s)
        return replies

    async def primaries(self) -> dict[str, Redis]:
        """A client of each server that serves now, by its name; raises ClusterDownError when a slot has none."""
        placement = self._placement
        if not placement.is_whole or any(placement.is_doubtful(each) for each in placement.nodes):
            await placement.refresh()
        if not placement.nodes or not placement.is_whole:
            raise rex.ClusterDownError("some of the keys have no server now")
        return {name: NodeRedis(self._node(name)) for name in placement.nodes}

    async def identities(self, *, probe_key: Callable[[int], str], max_age_s: float) -> dict[str, ServerSample]:
        """See ``connect.identities``. Raises ConnectionError when one has become a replica."""
        await self._placement.refresh(max_age_s=max_age_s)
        queries = [Command(query) for query in (("CLIENT ID",), ("ROLE",), ("INFO", "server"), ("TIME",))]
        keys = {name: await self._key_at(name, probe_key) for name in await self.primaries()}
        removals = {name: Command(("DEL", key)) for name, key in keys.items()}
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        sent = [self._send(name, [*queries, removal]) for name, removal in removals.items()]
        found = dict(zip(removals, await asyncio.gather(*sent), strict=True))
        received_at = loop.time()
        for name, replies in found.items():
            if isinstance(replies[4], rex.AskError):  # a migrating slot shows nothing about this server
                self._probe_numbers[name] += 1
                del replies[4]
            raise_first(replies)
            if replies[1][0] not in (b"master", "master"):
                self._placement.doubt(name)
                raise rex.ConnectionError(f"{name} has become a replica")
        return {
            name: ServerSample.of(
                Identity(int(number), server["run_id"]), time, sent_at=sent_at, received_at=received_at
            )
            for name, (number, _, server, time, *_) in found.items()
        }

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close every connection; the client may be used again."""
        nodes = list(self._nodes.values())
        self._nodes.clear()
        for node in nodes:
            await node.aclose()

    def server_of(self, key: str) -> str | None:
        """The server of a key, as far as it is known without a request."""
        return self._placement.node_of(key.encode())

    async def servers_of(self, keys: Sequence[str]) -> list[str]:
        """The server of each key, after one refresh when one is not known. A key without a server stands for itself."""
        if any(self.server_of(key) is None for key in keys):
            await self._placement.refresh()
        return [self.server_of(key) or key for key in keys]

    async def close_others(self) -> None:
        """Close connections to servers that no longer serve: their replies may be outdated."""
        serving = self._placement.nodes
        # All at once: a call that comes while these are closed finds the new table.
        stale = [self._nodes.pop(name) for name in list(self._nodes) if name not in serving]
        await asyncio.gather(*(node.aclose() for node in stale))

    async def _key_at(self, name: str, key_of_number: Callable[[int], str]) -> str:
        """A key that this server serves: the one of the last call, for as long as the server serves it.

        A server with few slots takes many draws, of which ``_DRAWS_AT_ONCE`` happen in one turn of the loop. Raises
        ClusterDownError when no key is found: the server has lost its last slot meanwhile.
        """
        first = self._probe_numbers.get(name, 0)
        for number in range(first, first + DRAWS):
            key = key_of_number(number)
            if self._placement.node_of(key.encode()) == name:
                self._probe_numbers[name] = number
                return key
            if (number - first) % _DRAWS_AT_ONCE == _DRAWS_AT_ONCE - 1:
                await asyncio.sleep(0)
                if name not in self._placement.nodes:
                    break
        raise rex.ClusterDownError(f"{name} serves no key that is known")

    async def _send_round(self, commands: Sequence[Command], left: Sequence[int], replies: list[Any]) -> None:
        """Send those that are left, and follow redirections."""
        placement = self._placement
        refuses_new = self._refuses_new_servers and placement.has_served
        before = {at: placement.node_of(commands[at].key) for at in left}
        if any(placement.is_doubtful(placement.node_of(commands[at].key)) for at in left):
            await placement.refresh()
        parts: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for at in left:
            name = placement.node_of(commands[at].key)
            if name is None:
                replies[at] = rex.ClusterDownError("no server serves this key now")
            elif refuses_new and before[at] != name:
                replies[at] = rex.TryAgainError("another server serves this key now: check again")
            else:
                parts[name, False].append(at)
        for _ in range(_HOPS):
            if not parts:
                return
            await self._send_parts(commands, parts, replies)
            parts = self._redirected(parts, replies)

    async def _send_parts(
        self, commands: Sequence[Command], parts: dict[tuple[str, bool], list[int]], replies: list[Any]
    ) -> None:
        async def send(name: str, is_migrating: bool, places: Sequence[int]) -> None:
            found = await self._send(name, [commands[at] for at in places], is_migrating=is_migrating)
            for at, reply in zip(places, found, strict=True):
                replies[at] = reply

        if len(parts) == 1:
            (((name, is_migrating), places),) = parts.items()
            await send(name, is_migrating, places)
            return
        async with asyncio.TaskGroup() as group:
            for (name, is_migrating), places in parts.items():
                group.create_task(send(name, is_migrating, places))

    def _redirected(
        self, parts: dict[tuple[str, bool], list[int]], replies: list[Any]
    ) -> dict[tuple[str, bool], list[int]]:
        further: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for (name, _), places in parts.items():
            for at in places:
                reply = replies[at]
                if isinstance(reply, rex.AskError | rex.MovedError):
                    is_moved = isinstance(reply, rex.MovedError)
                    target = f"{reply.host or name.rpartition(':')[0]}:{reply.port}"
                    if is_moved:
                        self._placement.move(reply.slot_id, source=name, target=target)
                    further[target, not is_moved].append(at)
        return further

    async def _send(self, name: str, commands: Sequence[Command], *, is_migrating: bool = False) -> list[Any]:
        """One write; a failure of the connection is the reply to each of its calls."""
        try:
            replies = await self._node(name).send(commands, is_migrating=is_migrating)
        except Exception as error:
            self._placement.doubt(name)
            return [error] * len(commands)
        if any(isinstance(reply, _SERVES_NO_LONGER) for reply in replies):
            self._placement.doubt(name)
        return replies

    def _node(self, name: str) -> Node:
        if name not in self._nodes:
            self._nodes[name] = Node.at(name, self._url, self._limits, verify=self._placement.verify)
        return self._nodes[name]
