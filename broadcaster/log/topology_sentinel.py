"""The primary that sentinels name, verified by its own word.

Rules
1. All sentinels are asked at once and the first good answer counts, no majority: what it names must say itself that it
   is the primary (ROLE).
2. A view of an older failover (a lower ``config-epoch``) is taken only as sentinel_views.py has it: a sentinel that was
   away tells of the past, and the primary of that past may not know yet that it was replaced.
3. What we hold and cannot verify we keep (who is connected finds out by himself) unless it says itself that it is a
   replica: then nobody is known to serve.
4. One connection to a sentinel listens for ``+switch-master``; the looks in between are for what it does not hear.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.feed_address import Dialer, NodeAddress
from broadcaster.log.node_talk import NODE_ERRORS, Address, NodeTalk, name_of, open_talk, told_fault
from broadcaster.log.redis_url import RedisUrl
from broadcaster.log.sentinel_views import PRIMARY, KnownPrimary, Named
from broadcaster.log.topology_watch import Changes, TopologyTimes, TopologyWatch, cancel_all
from broadcaster.logs import get_logger

_log = get_logger(__name__)

_SWITCHED: Final = "+switch-master"


class _Roles:
    """What nodes say of themselves within one look: each is asked once, so that one that hangs delays it once."""

    def __init__(self, ask: Callable[[Address], Awaitable[bytes]]) -> None:
        self._ask = ask
        self._roles: dict[Address, bytes | None] = {}
        self.faults: list[str] = []

    async def of(self, address: Address) -> bytes | None:
        """Its role; None when it does not answer."""
        if address not in self._roles:
            self._roles[address] = None
            try:
                self._roles[address] = await self._ask(address)
                if self._roles[address] != PRIMARY:
                    self.faults.append(f"{name_of(address)} is named and no primary")
            except LogUnavailable as error:
                self.faults.append(error.detail)
        return self._roles[address]


class SentinelTopology:
    """Implements ``Topology``: one node, whose name changes with each failover."""

    def __init__(self, url: RedisUrl, *, times: TopologyTimes, rng: random.Random) -> None:
        self._url = url
        self._times = times
        self._rng = rng
        self._known = KnownPrimary(sentinels=len(url.hosts))
        self._changes = Changes()
        self._watch = TopologyWatch(self._look, times=times, rng=rng)

    @property
    def _held(self) -> Named | None:
        return self._known.named

    @property
    def nodes(self) -> tuple[str, ...]:
        """The primary, once one is verified."""
        return () if self._held is None else (self._held.name,)

    def node_of(self, key: str) -> str | None:
        """The primary serves everything."""
        return None if self._held is None else self._held.name

    def dialer(self, node: str) -> Dialer:
        """See ``Topology``."""
        if self._held is None or self._held.name != node:
            raise KeyError(node)
        return self._url.node(*self._held.address)

    def on_change(self, callback: Callable[[], None]) -> None:
        """See ``Topology``."""
        self._changes.on_change(callback)

    def suspect(self) -> None:
        """See ``Topology``."""
        self._watch.suspect()

    async def run(self) -> None:
        """See ``Topology``."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run())
            tasks.create_task(self._listen())

    # -- looks

    async def _look(self) -> None:
        """Rules 1 to 3. Raises LogUnavailable when no primary could be verified."""
        questions = [asyncio.create_task(self._ask(address)) for address in self._url.hosts]
        roles = _Roles(self._role)
        older: list[Named] = []
        try:
            for question in asyncio.as_completed(questions):
                try:
                    named = await question
                except LogUnavailable as error:
                    roles.faults.append(error.detail)
                    continue
                if self._known.is_newer_than(named):
                    older.append(named)
                elif await roles.of(named.address) == PRIMARY:
                    self._take(named)
                    return
        finally:
            await cancel_all(questions)
        if not await self._has_settled(older, roles):
            raise LogUnavailable("; ".join(roles.faults))

    async def _has_settled(self, older: list[Named], roles: _Roles) -> bool:
        """Rules 2 and 3, when no sentinel confirmed what we hold or named anything newer."""
        named = await self._known.older(older, role_of=roles.of, now=asyncio.get_running_loop().time())
        if named is not None:
            self._take(named)
            return True
        held_role = None if self._held is None else await roles.of(self._held.address)
        if held_role not in (None, PRIMARY):
            self._take(None)
        return held_role == PRIMARY

    async def _ask(self, address: Address) -> Named:
        """What one sentinel says. Raises LogUnavailable."""
        within_s = self._times.ask_s
        service = self._url.service or ""
        try:
            async with asyncio.timeout(within_s), open_talk(self._sentinel(address), within_s=within_s) as talk:
                flat = await talk.ask("SENTINEL", "MASTER", service, within_s=within_s)
            return Named.read(flat)
        except (*NODE_ERRORS, ValueError, TypeError, LookupError) as error:
            raise LogUnavailable(told_fault(address, error)) from error

    async def _role(self, address: Address) -> bytes:
        """What a node says of itself. Raises LogUnavailable when it says nothing."""
        within_s = self._times.ask_s
        try:
            async with asyncio.timeout(within_s), open_talk(self._url.node(*address), within_s=within_s) as talk:
                return bytes((await talk.ask("ROLE", within_s=within_s))[0])
        except (*NODE_ERRORS, TypeError, LookupError) as error:
            raise LogUnavailable(told_fault(address, error)) from error

    def _take(self, named: Named | None) -> None:
        before = self.nodes
        self._known.take(named)
        if self.nodes != before:
            _log.info("topology_changed", nodes=self.nodes)
            self._changes.tell()

    # -- the sentinels' own word

    async def _listen(self) -> None:
        """Rule 4, sentinel after sentinel."""
        failures = 0
        while True:
            address = self._rng.choice(self._url.hosts)
            try:
                async with open_talk(self._sentinel(address), within_s=self._times.ask_s) as talk:
                    await talk.ask("SUBSCRIBE", _SWITCHED, within_s=self._times.ask_s)
                    failures = 0
                    self.suspect()  # it may have been said before we listened
                    await self._hear(talk)
            except NODE_ERRORS as error:
                failures += 1
                _log.debug("sentinel_not_heard", reason=told_fault(address, error))
            await asyncio.sleep(self._times.backoff_s(failures, self._rng))

    async def _hear(self, talk: NodeTalk) -> None:
        """Until the sentinel falls silent."""
        while True:
            try:
                await talk.hear(within_s=self._times.every_s)
            except TimeoutError:
                await talk.ask("PING", within_s=self._times.ask_s)
            else:
                self.suspect()

    def _sentinel(self, address: Address) -> NodeAddress:
        url = self._url
        host, port = address
        return NodeAddress(host, port, username=url.sentinel_username, password=url.sentinel_password, tls=url.context)
