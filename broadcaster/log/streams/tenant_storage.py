"""The bytes that Redis keeps for each tenant and its open feeds: counted, and bounded when something is created.

Theory of operation. Each tenant has a hash of its streams' sizes and their sums (stored.lua), in a slot of its own. A
creation and an append to a feed add their sizes, from memory once a second: no append waits for it. Each open stream is
measured again every few seconds (measure.lua), and one that is over when it expires. A front-end measures for each
tenant that it adds something for, at most a thousand streams a second. A publisher runs no task here: with each feed
that it creates it measures some others. So the writes of workers, publishers and other versions are counted too, only
later, and no count stays wrong.

Rules
1. The bounds apply to creations and to appends to feeds over HTTP. A running answer is counted and never refused, and
   neither is the end of a feed. A publisher that writes to Redis itself is counted and not refused.
2. The bounds are soft: writes under way when one is met are still stored.
3. A call that meets a bound refreshes the sums first: streams that are deleted or expired by then do not count.
4. ``local`` is the only tenant of a server without keys: only a bound that is set applies to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import LogUnavailable, TenantLimit
from broadcaster.log.redis.connect import LogConnection, log_errors, reply_to
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all
from broadcaster.observability.limits import limit_reached

ADDED_EVERY_S: Final = 1.0
ADDED_AT_ONCE: Final = 500
MEASURED_AT_ONCE: Final = 200
# Of a publisher, which adds one stream with each: it forgets those that have expired faster than it adds others.
MEASURED_PER_CREATION: Final = 8
OPEN_MEASURED_EVERY_MS: Final = 5_000
# A stream that expires much later is measured before: its tenant may delete it at an older front-end.
OVER_MEASURED_WITHIN_MS: Final = 600_000
# The sums must outlive the streams, which are kept for 30 days at most; half of it is always left (stored.lua).
KEPT_MS: Final = 70 * 86_400_000
# A tenant without a call here for so long is left to other processes.
ACTIVE_S: Final = 60.0
# Below half of a bound, what other front-ends do in a second does not matter.
_NEAR: Final = 0.5
# Of one tenant while more is due: in a second, and in a call that meets a bound.
_REFRESHES_A_SECOND: Final = 5
_REFRESHES_OF_A_CALL: Final = 50
_MAXMEMORY_EVERY_S: Final = 60.0
_RETRY_AFTER_S: Final = 5.0
_SHARE_OF_MAXMEMORY: Final = 2
_FULL: Final = -1

_Row: TypeAlias = tuple[str, int, int, int | str]


class StoredSums(NamedTuple):
    """Bytes that Redis keeps for a tenant, nearly, and the feeds that it has open."""

    bytes: int
    feeds: int


@dataclass(slots=True)
class _Change:
    """A pending change of one stream's count."""

    bytes: int = 0
    opens_feed: bool = False
    is_due: bool = False

    def row(self, stored_id: str) -> _Row:
        """The row for stored.lua. A new feed's size is known, so it need not be measured now."""
        wait_ms: int | str = 0 if self.is_due else OPEN_MEASURED_EVERY_MS if self.opens_feed else ""
        return stored_id, self.bytes, int(self.opens_feed), wait_ms


@dataclass(slots=True)
class _Account:
    """One tenant, as this process knows it: the sums of the last refresh, and the changes since."""

    bytes: int = 0
    feeds: int = 0
    added_bytes: int = 0
    is_known: bool = False
    used_at: float = 0.0
    changes: dict[str, _Change] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def add(self, stored_id: str, change: _Change) -> None:
        pending = self.changes.setdefault(stored_id, _Change())
        pending.bytes += change.bytes
        pending.opens_feed |= change.opens_feed
        pending.is_due |= change.is_due
        self.added_bytes += change.bytes

    def take(self) -> dict[str, _Change]:
        changes, self.changes, self.added_bytes = self.changes, {}, 0
        return changes

    @property
    def all_bytes(self) -> int:
        return self.bytes + self.added_bytes


class TenantStorage:
    """The counts of this process; ``run`` has to run where something is bounded."""

    def __init__(
        self, connection: LogConnection, *, max_feeds: int | None = None, max_bytes: int | None = None
    ) -> None:
        """``max_feeds`` None: nothing is bounded here, only counted. ``max_bytes`` None: half of maxmemory."""
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys
        self._max_feeds = max_feeds
        self._max_bytes = max_bytes
        self._maxmemory = 0
        self._maxmemory_at: float | None = None
        self._accounts: dict[str, _Account] = {}

    async def run(self) -> None:
        """Add, measure and read maxmemory, until cancelled."""
        while True:
            with suppress(LogUnavailable):
                await self._read_maxmemory()
            await asyncio.sleep(ADDED_EVERY_S)
            now = asyncio.get_running_loop().time()
            for tenant, account in tuple(self._accounts.items()):
                if account.changes or now - account.used_at < ACTIVE_S:
                    with suppress(LogUnavailable):
                        for _ in range(_REFRESHES_A_SECOND):
                            if await self._refresh(tenant, account) < MEASURED_AT_ONCE:
                                break

    # -- bounds

    async def admit(self, tenant: str) -> None:
        """Before something is stored. Raises TenantLimit, LogUnavailable."""
        bound = await self._bytes_bound(tenant)
        if bound is None:
            return
        account = await self._fitting(tenant, max_bytes=bound, max_feeds=None)
        if account.all_bytes >= bound:
            limit_reached("TENANT_STORED_BYTES")
            raise _refusal(f"{account.all_bytes} bytes are stored, {bound} is what TENANT_STORED_BYTES allows")

    async def admit_feed(self, tenant: str) -> None:
        """Before a feed is created. Raises TenantLimit, LogUnavailable."""
        if self._max_feeds is None:
            return
        account = await self._fitting(tenant, max_bytes=None, max_feeds=self._max_feeds)
        if account.feeds >= self._max_feeds:
            limit_reached("TENANT_FEEDS")
            raise _refusal(f"{account.feeds} feeds are open, as many as TENANT_FEEDS allows; close some")
        await self.admit(tenant)

    async def admit_append(self, tenant: str) -> None:
        """Before an append to a feed: by the sums known here, without a round trip. Raises TenantLimit."""
        if self._max_feeds is None:
            return
        account = self._account(tenant)
        bound = self._known_bound(tenant)
        if bound is not None and account.all_bytes >= bound:
            await self.admit(tenant)

    async def sums(self, tenant: str) -> StoredSums:
        """The sums after all due streams were measured. Raises LogUnavailable."""
        account = self._account(tenant)
        while await self._refresh(tenant, account):
            pass
        return StoredSums(account.bytes, account.feeds)

    # -- changes

    async def created_feed(self, tenant: str, stored_id: str, *, size: int, is_open: bool = True) -> None:
        """A feed was created: it is counted at once, for other front-ends. Raises nothing."""
        account = self._account(tenant)
        account.add(stored_id, _Change(size, opens_feed=is_open))
        with suppress(LogUnavailable):
            async with account.turn:
                if stored_id in account.changes:  # else it was counted with others
                    most = MEASURED_PER_CREATION * len(account.changes) if self._max_feeds is None else 0
                    await self._add_and_measure(tenant, account, most=min(most, MEASURED_AT_ONCE))

    def created(self, tenant: str, stored_id: str, *, size: int) -> None:
        """A generation is being created; it is measured soon."""
        if self._max_feeds is not None and self._known_bound(tenant) is not None:
            self._account(tenant).add(stored_id, _Change(size, is_due=True))

    def appended(self, tenant: str, stored_id: str, *, size: int) -> None:
        """Events were appended to a feed."""
        if self._max_feeds is not None:
            self._account(tenant).add(stored_id, _Change(size))

    def ended(self, tenant: str, stored_id: str) -> None:
        """A stream was closed or deleted: measure it soon."""
        if self._max_feeds is not None:
            self._account(tenant).add(stored_id, _Change(is_due=True))

    # -- the sums

    def _account(self, tenant: str) -> _Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = _Account()
        account.used_at = asyncio.get_running_loop().time()
        return account

    async def _fitting(self, tenant: str, *, max_bytes: int | None, max_feeds: int | None) -> _Account:
        """The account. Near a bound it is refreshed now, and over it until nothing more is due (rule 3)."""

        def is_over(share: float) -> bool:
            return (max_bytes is not None and account.all_bytes >= share * max_bytes) or (
                max_feeds is not None and account.feeds >= share * max_feeds
            )

        account = self._account(tenant)
        if not account.is_known or is_over(_NEAR):
            for _ in range(_REFRESHES_OF_A_CALL):
                if not await self._refresh(tenant, account) or not is_over(1):
                    break
        return account

    async def _refresh(self, tenant: str, account: _Account) -> int:
        """Add the pending changes, and measure what is due; how many streams were. Raises LogUnavailable."""
        async with account.turn:
            measured = await self._add_and_measure(tenant, account, most=MEASURED_AT_ONCE)
            account.is_known = True
            return measured

    async def _add_and_measure(self, tenant: str, account: _Account, *, most: int) -> int:
        due = await self._add(tenant, account, hand_out=most)
        if due:
            await self._measure(tenant, account, due)
        return len(due)

    async def _add(self, tenant: str, account: _Account, *, hand_out: int) -> list[str]:
        """Add the pending changes; which streams are due. A change that could not be added is kept."""
        changes = list(account.take().items())
        due: list[str] = []
        while True:
            some, changes = changes[:ADDED_AT_ONCE], changes[ADDED_AT_ONCE:]
            try:
                rows = [change.row(stored_id) for stored_id, change in some]
                due = await self._store(tenant, account, rows, how="add", hand_out=0 if changes else hand_out)
            except BaseException:
                for stored_id, change in (*some, *changes):
                    account.add(stored_id, change)
                raise
            if not changes:
                return due

    async def _measure(self, tenant: str, account: _Account, stored_ids: Sequence[str]) -> None:
        name = self._keys
        keys = ([name.meta(id), name.log(id), name.feed_keys(id)] for id in stored_ids)
        calls = [ScriptCall(SCRIPTS["measure"], each, [tenant]) for each in keys]
        replies = await reply_to(run_all(self._redis, calls))
        rows: list[_Row] = []
        for stored_id, reply in zip(stored_ids, replies, strict=True):
            if isinstance(reply, Exception):
                continue  # its server does not answer now: it is handed out once more
            size, is_feed, expires_ms = reply
            wait_ms = OPEN_MEASURED_EVERY_MS if expires_ms < 0 else min(expires_ms + 1, OVER_MEASURED_WITHIN_MS)
            rows.append((stored_id, size, is_feed, wait_ms))
        await self._store(tenant, account, rows, how="set", hand_out=0)

    async def _store(
        self, tenant: str, account: _Account, rows: Sequence[_Row], *, how: str, hand_out: int
    ) -> list[str]:
        keys = [self._keys.stored(tenant), self._keys.stored_due(tenant)]
        flat = [part for row in rows for part in row]
        args = (KEPT_MS, how, hand_out, OPEN_MEASURED_EVERY_MS, OVER_MEASURED_WITHIN_MS, *flat)
        reply = await SCRIPTS["stored"].run(self._redis, keys, *args)
        if reply[0] == _FULL:
            raise LogUnavailable("Redis is full: nothing was counted")
        account.bytes, account.feeds = reply[0], reply[1]
        return [each.decode() for each in reply[2:]]

    # -- half of maxmemory

    def _known_bound(self, tenant: str) -> int | None:
        if self._max_bytes is not None or tenant == LOCAL_TENANT:
            return self._max_bytes
        return self._maxmemory // _SHARE_OF_MAXMEMORY or None

    async def _bytes_bound(self, tenant: str) -> int | None:
        """The bound in bytes; None: any. Raises LogUnavailable."""
        if self._max_feeds is None:
            return None
        if tenant != LOCAL_TENANT:
            await self._read_maxmemory()
        return self._known_bound(tenant)

    async def _read_maxmemory(self) -> None:
        """Where it is a bound, read it unless it was read within ``_MAXMEMORY_EVERY_S``. Raises LogUnavailable."""
        now = asyncio.get_running_loop().time()
        is_bound = self._max_feeds is not None and self._max_bytes is None
        if not is_bound or (self._maxmemory_at is not None and now - self._maxmemory_at <= _MAXMEMORY_EVERY_S):
            return
        with log_errors():
            infos = [await server.info("memory") for server in (await self._connection.primaries()).values()]
        sizes = [int(each.get("maxmemory", 0)) for each in infos]
        self._maxmemory, self._maxmemory_at = (sum(sizes) if all(sizes) else 0), now


def _refusal(detail: str) -> TenantLimit:
    return TenantLimit(detail, retry_after_s=_RETRY_AFTER_S)
