"""One client over many servers: redis-py's commands by name, each sent to the server of its key.

Rules
1. A pipeline is as many writes as there are servers it is for, sent at once; its answers come in the order of its
   calls, and each call has its own error. What is wrong with one server concerns its calls alone.
2. A server that says who else serves the key (MOVED, ASK) has done nothing: the call goes there, twice at most.
3. What every server refused to begin (TRYAGAIN, CLUSTERDOWN, LOADING, READONLY, no connection …) may be sent again and
   is, until ``patience_s`` is over; with 0 the caller decides. A call whose answer was lost is never sent again here.
   What rests on what a server has said before is for the ``impatient`` client: it repeats nothing, and sends nothing
   to a server that it has just learned of in place of another.
4. A server that serves no more is hung up on as soon as the routes show it, by every client of the process: what
   hangs there fails, and its caller comes again (rule 3 decides who repeats it).
5. A command without a key is for a server that the caller names (``primaries``), not for one of ours by chance.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from redis import exceptions as rex
from redis.asyncio import BlockingConnectionPool, Redis

from broadcaster.log.key_slots import SLOTS, key_of
from broadcaster.log.nodes import Command, Node, NodeLimits, NotSent
from broadcaster.log.pipeline import LogPipeline
from broadcaster.log.redis_url import RedisUrl
from broadcaster.log.routes import Routes

_HOPS: Final = 3
_PAUSE_S: Final = (0.02, 0.05, 0.1, 0.2)

DRAWS: Final = 8 * SLOTS
"""How many keys are drawn for one in a slot of a server: one with a single slot is missed once in e^8 times."""
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
_SERVES_NOT: Final = (NotSent, rex.ReadOnlyError, rex.MasterDownError, rex.ClusterDownError, rex.BusyLoadingError)


class Identity(NamedTuple):
    """A connection to a server: its id, which is given again after a restart, and the run of the server."""

    connection_id: int
    run_id: str


class Sight(NamedTuple):
    """What a probe saw of a server: who it is, and how far its clock is ahead of the loop's, give or take.

    The clock was read at some moment between the question and the answer.
    """

    identity: Identity
    ahead_s: float
    give_s: float

    @classmethod
    def of(cls, identity: Identity, time: tuple[int, int], *, asked_at: float, told_at: float) -> Sight:
        """``time``: what the server answered to TIME, as seconds and microseconds."""
        seconds, micros = time
        give_s = (told_at - asked_at) / 2
        return cls(identity, seconds + micros / 1e6 - asked_at - give_s, give_s)

    def step_s(self, before: Sight) -> float:
        """How far the clock has stepped since then, for sure: forward, or (less than 0) back."""
        moved_s = self.ahead_s - before.ahead_s
        sure_s = max(0.0, abs(moved_s) - self.give_s - before.give_s)
        return sure_s if moved_s > 0 else -sure_s


class RoutedRedis(Redis):
    """A client of all primaries that ``routes`` knows, with connections of its own to each."""

    def __init__(self, url: RedisUrl, routes: Routes, limits: NodeLimits, *, patience_s: float) -> None:
        # The parent's pool gives it its parsers; nothing is ever sent over it.
        super().__init__(connection_pool=BlockingConnectionPool(max_connections=1, protocol=2))
        self._url = url
        self._routes = routes
        self._limits = limits
        self._patience_s = patience_s
        self._is_wary = False
        self._nodes: dict[str, Node] = {}
        self._probe_numbers: dict[str, int] = {}
        routes.listen(self)

    def impatient(self) -> RoutedRedis:
        """The same over the same connections, for calls that must not outlive a failover; see rule 3."""
        other = RoutedRedis(self._url, self._routes, self._limits, patience_s=0.0)
        other._is_wary = True
        other._nodes = self._nodes
        return other

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command, by its key. Raises LookupError without one."""
        (answer,) = await self.send_all([Command(args, options, key_of(args))])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, transaction: bool = False, shard_hint: str | None = None) -> RoutedPipeline:
        """Never a transaction: there is none over several servers."""
        if transaction:
            raise ValueError("there is no transaction over several servers")
        return RoutedPipeline(self)

    async def send_all(self, commands: Sequence[Command]) -> list[Any]:
        """The answer of each, or its exception, in order."""
        answers: list[Any] = [NotSent("not sent")] * len(commands)
        left = list(range(len(commands)))
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_s
        attempt = 0
        while True:
            await self._send_round(commands, left, answers)
            left = [at for at in left if isinstance(answers[at], _NOT_BEGUN)]
            pause_s = _PAUSE_S[min(attempt, len(_PAUSE_S) - 1)] * random.uniform(0.5, 1.0)
            if not left or loop.time() + pause_s > give_up_at:
                return answers
            await asyncio.sleep(pause_s)
            attempt += 1

    async def primaries(self) -> dict[str, Redis]:
        """A client of each server that serves now, by its name; raises ClusterDownError when a slot has none."""
        names = await self._all()
        if not names or not self._routes.is_whole:
            raise rex.ClusterDownError("nobody serves some of the keys")
        return {name: self._node(name).redis for name in names}

    async def identities(self, *, probe_key: Callable[[int], str], look_within_s: float) -> dict[str, Sight]:
        """See ``connect.identities``. Raises ConnectionError when one has become a replica."""
        await self._routes.look(within_s=look_within_s)
        asked = [Command(words, {}, b"") for words in (("CLIENT ID",), ("ROLE",), ("INFO", "server"), ("TIME",))]
        keys = {name: await self._key_at(name, probe_key) for name in await self.primaries()}
        removals = {name: Command(("DEL", key), {}, b"") for name, key in keys.items()}
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        found = await self._send_each({name: [*asked, removal] for name, removal in removals.items()})
        told_at = loop.time()
        for name, answers in found.items():
            if isinstance(answers[4], rex.AskError):  # a slot on its way to another server says nothing of this one
                self._probe_numbers[name] += 1
                del answers[4]
            fault = next((each for each in answers if isinstance(each, Exception)), None)
            if fault is not None:
                raise fault
            if answers[1][0] not in (b"master", "master"):
                self._routes.doubt(name)
                raise rex.ConnectionError(f"{name} has become a replica")
        return {
            name: Sight.of(Identity(int(number), server["run_id"]), time, asked_at=asked_at, told_at=told_at)
            for name, (number, _, server, time, *_) in found.items()
        }

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close every connection; the client may be used again."""
        nodes = list(self._nodes.values())
        self._nodes.clear()
        for node in nodes:
            await node.aclose()

    def server_of(self, key: str) -> str | None:
        """Who serves a key, as far as we know without asking."""
        return self._routes.node_of(key.encode())

    async def servers_of(self, keys: Sequence[str]) -> list[str]:
        """Who serves each key; looks once when nobody is known to. A key that nobody serves then stands for itself."""
        if any(self.server_of(key) is None for key in keys):
            await self._routes.look()
        return [self.server_of(key) or key for key in keys]

    async def drop_others(self) -> None:
        """Close connections to servers that serve no more: what they still say is not the truth."""
        serving = self._routes.primaries
        # All at once: a call that comes while these are closed finds the new table.
        stale = [self._nodes.pop(name) for name in list(self._nodes) if name not in serving]
        await asyncio.gather(*(node.aclose() for node in stale))

    async def _key_at(self, name: str, key_of_number: Callable[[int], str]) -> str:
        """A key that this server serves: the one that was found before, for as long as it does.

        For one with few slots that takes many draws: never more than ``_DRAWS_AT_ONCE`` in a turn of the loop. Raises
        ClusterDownError when none is found: the server has lost its last slot meanwhile.
        """
        first = self._probe_numbers.get(name, 0)
        for number in range(first, first + DRAWS):
            key = key_of_number(number)
            if self._routes.node_of(key.encode()) == name:
                self._probe_numbers[name] = number
                return key
            if (number - first) % _DRAWS_AT_ONCE == _DRAWS_AT_ONCE - 1:
                await asyncio.sleep(0)
                if name not in self._routes.primaries:
                    break
        raise rex.ClusterDownError(f"{name} serves no key that we know of")

    async def _all(self) -> tuple[str, ...]:
        if not self._routes.is_whole or any(self._routes.is_doubtful(each) for each in self._routes.primaries):
            await self._routes.look()
        return self._routes.primaries

    async def _send_round(self, commands: Sequence[Command], left: Sequence[int], answers: list[Any]) -> None:
        """Send those that are left, and follow where servers point."""
        routes = self._routes
        before = {at: routes.node_of(commands[at].key) for at in left} if self._is_wary else {}
        if any(routes.is_doubtful(routes.node_of(commands[at].key)) for at in left):
            await routes.look()
        parts: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for at in left:
            name = routes.node_of(commands[at].key)
            if name is None:
                answers[at] = rex.ClusterDownError("nobody serves this key now")
            elif before.get(at) not in (None, name):
                answers[at] = rex.TryAgainError("another server serves this key now: look again")
            else:
                parts[name, False].append(at)
        for _ in range(_HOPS):
            if not parts:
                return
            await self._send_parts(commands, parts, answers)
            parts = self._redirected(parts, answers)

    async def _send_parts(
        self, commands: Sequence[Command], parts: dict[tuple[str, bool], list[int]], answers: list[Any]
    ) -> None:
        async def send(name: str, asking: bool, places: Sequence[int]) -> None:
            found = await self._send(name, [commands[at] for at in places], asking=asking)
            for at, answer in zip(places, found, strict=True):
                answers[at] = answer

        if len(parts) == 1:
            (((name, asking), places),) = parts.items()
            await send(name, asking, places)
            return
        async with asyncio.TaskGroup() as group:
            for (name, asking), places in parts.items():
                group.create_task(send(name, asking, places))

    def _redirected(
        self, parts: dict[tuple[str, bool], list[int]], answers: list[Any]
    ) -> dict[tuple[str, bool], list[int]]:
        further: dict[tuple[str, bool], list[int]] = defaultdict(list)
        for (name, _), places in parts.items():
            for at in places:
                answer = answers[at]
                if isinstance(answer, rex.AskError | rex.MovedError):
                    is_moved = isinstance(answer, rex.MovedError)
                    target = f"{answer.host or name.rpartition(':')[0]}:{answer.port}"
                    if is_moved:
                        self._routes.move(answer.slot_id, source=name, target=target)
                    further[target, not is_moved].append(at)
        return further

    async def _send_each(self, commands: dict[str, list[Command]]) -> dict[str, list[Any]]:
        """The same to several servers at once."""
        sent = [self._send(name, each) for name, each in commands.items()]
        return dict(zip(commands, await asyncio.gather(*sent), strict=True))

    async def _send(self, name: str, commands: Sequence[Command], *, asking: bool = False) -> list[Any]:
        """One write; a failure of the connection is the answer of each of its calls."""
        try:
            answers = await self._node(name).send(commands, asking=asking)
        except Exception as error:
            self._routes.doubt(name)
            return [error] * len(commands)
        if any(isinstance(answer, _SERVES_NOT) for answer in answers):
            self._routes.doubt(name)
        return answers

    def _node(self, name: str) -> Node:
        if name not in self._nodes:
            self._nodes[name] = Node(name, self._url, self._limits, greet=self._routes.greet)
        return self._nodes[name]


class RoutedPipeline(LogPipeline):
    """See rule 1."""

    def __init__(self, client: RoutedRedis) -> None:
        super().__init__(client.connection_pool, client.response_callbacks)
        self._client = client
        self._time_keys: dict[int, bytes] = {}

    async def _servers_of(self, keys: Sequence[str]) -> list[str]:
        return await self._client.servers_of(keys)

    def _ask_time(self, key: str) -> None:
        self._time_keys[len(self.command_stack)] = key.encode()
        self.time()

    async def _execute(self, raise_on_error: bool) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        keys, self._time_keys = self._time_keys, {}
        answers = await self._client.send_all(
            [
                Command(args, dict(options), keys[at] if at in keys else key_of(args))
                for at, (args, options) in enumerate(stack)
            ]
        )
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers
