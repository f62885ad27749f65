"""The bytes of JSON in a front-end's memory: of request bodies until they are answered, and of responses from the read
of the log until the client has taken them.

Rules
0. A body counts ``COPIES`` times as it arrives: its bytes, its values, and what is made of them for the log. So does
   what a request reads of the log: its bytes, its values, and the response that is made of them.
1. A request's hold grows by what it reads of the log, and becomes the length of its response. At MAX_JSON_BYTES, and at
   a tenant's share of it, the request is refused (Busy, TenantLimit) and what it has read is dropped.
2. The first entries of a log are read by a few requests at a time, because they are counted only after they were read.
   The rest of a longer log is read by a few requests at a time, which keep their place until its end. So those that are
   admitted are served, instead of all being refused with a part each.
   A request that has created a generation is refused with AnswerUnsent: its repetition would create another.
3. Large JSON is read and made one piece in a turn of the loop: a body, a page of the log, a response. Requests whose
   bodies or pages arrive in the same turn wait for one another; every other request waits for one piece at most.
4. A large response goes to its server in slices, each when the one before it is on its way: what the client does not
   read stays here, once, and is counted. A client that takes no slice for ``slow_s`` is cut (sliced_response.py).
5. A request may build on answers that it names: their items count as if its body had held them. What else was read for
   them is dropped.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.errors import AnswerUnsent, Busy, TenantLimit
from broadcaster.hub.flusher import TurnGate
from broadcaster.hub.limits import UNBOUNDED, TenantBound
from broadcaster.log.streams.pages import EntryReader
from broadcaster.observability.limits import limit_reached

# Smaller bodies and responses wait for no turn: they take less than a millisecond.
LARGE_BYTES: Final = 64 * 2**10
# A page is some megabytes at most, and folding it takes some milliseconds.
READS_AT_ONCE: Final = 4
# What is read without a place for the whole log, and by how many requests at once: a front-end holds at most so many
# entries of MAX_EVENT_BYTES that are not counted yet. A short answer waits for such reads alone, of a millisecond each.
FIRST_ENTRIES: Final = 4
FIRST_READS_AT_ONCE: Final = 2
# The memory of an entry beside its bytes, measured with sys.getsizeof.
ENTRY_BYTES: Final = 256
COPIES: Final = 4
MAX_JSON_BYTES: Final = 256 * 2**20
SLOW_S: Final = 30.0
# The longest wait for a place to read (rule 2).
PLACE_S: Final = 30.0


@dataclass(slots=True, kw_only=True, eq=False)
class JsonLedger:
    """One for a front-end. ``slow_s``: see rule 4."""

    max_bytes: int = MAX_JSON_BYTES
    tenant_bytes: TenantBound = UNBOUNDED
    slow_s: float = SLOW_S
    used_bytes: int = field(default=0, init=False)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READS_AT_ONCE), init=False)
    first_reads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FIRST_READS_AT_ONCE), init=False)
    turns: TurnGate = field(default_factory=lambda: TurnGate(1), init=False)
    _of_tenants: dict[str, int] = field(default_factory=dict, init=False)

    def move(self, tenant: str, by: int) -> None:
        """Count so many bytes more, or fewer. Raises Busy and TenantLimit, and then counts nothing."""
        has = self._of_tenants.get(tenant, 0)
        if by > 0 and self.used_bytes + by > self.max_bytes:
            limit_reached("MAX_JSON_BYTES")
            raise Busy("this front-end holds as many bytes of bodies and unread responses as it may (MAX_JSON_BYTES)")
        if by > 0 and not self.tenant_bytes.admits(tenant, has + by - 1):
            limit_reached("TENANT_JSON_BYTES")
            raise TenantLimit(
                f"the tenant's bodies and unread responses would have {has + by} bytes, beyond TENANT_JSON_BYTES"
            )
        self.used_bytes += by
        if has + by:
            self._of_tenants[tenant] = has + by
        else:
            self._of_tenants.pop(tenant, None)


@dataclass(slots=True, eq=False)
class JsonHold:
    """What one request holds, until it is closed."""

    ledger: JsonLedger
    tenant: str
    response_bytes: int = field(default=0, init=False)
    _body_bytes: int = field(default=0, init=False)
    _created: str | None = field(default=None, init=False)
    _has_place: bool = field(default=False, init=False)

    def receive(self, size: int) -> None:
        """So many bytes more of the body have arrived. Raises Busy and TenantLimit."""
        self.ledger.move(self.tenant, size * COPIES)
        self._body_bytes += size * COPIES

    async def take_turn(self, size: int) -> None:
        """Return in a turn of the loop in which no other large JSON is read or made (rule 3), if this is large."""
        if size > LARGE_BYTES:
            await self.ledger.turns.enter()

    def drop_body(self) -> None:
        """Stop counting the body: the request has its response."""
        self.ledger.move(self.tenant, -self._body_bytes)
        self._body_bytes = 0

    def note_created(self, generation_id: str) -> None:
        """The request has created this generation: from here on it is refused with AnswerUnsent alone."""
        self._created = generation_id

    def keep(self, size: int) -> None:
        """Of what was read keep so many bytes of JSON, as a part of the body (rule 5). Raises Busy and TenantLimit."""
        self.set(0)
        self.receive(size)

    def set(self, size: int) -> None:
        """Hold so many bytes of the response. Raises Busy and TenantLimit, or AnswerUnsent."""
        try:
            self.ledger.move(self.tenant, size - self.response_bytes)
        except Busy as refusal:
            raise self._final(refusal) from None
        self.response_bytes = size

    async def take_place(self) -> None:
        """Wait for a place to read (rule 2). Raises Busy or AnswerUnsent."""
        if self._has_place:
            return
        try:
            async with asyncio.timeout(PLACE_S):
                await self.ledger.places.acquire()
        except TimeoutError:
            raise self._final(Busy("other large answers are being read; try again later")) from None
        self._has_place = True

    def give_place(self) -> None:
        """The read is over."""
        if self._has_place:
            self._has_place = False
            self.ledger.places.release()

    def close(self) -> None:
        """Stop counting: body, response and place are given back."""
        self.give_place()
        self.drop_body()
        self.ledger.move(self.tenant, -self.response_bytes)
        self.response_bytes = 0

    def _final(self, refusal: Busy) -> Busy | AnswerUnsent:
        if self._created is None:
            return refusal
        unsent = AnswerUnsent(f"{refusal.detail}; the answer is kept as {self._created}")
        unsent.generation_id = self._created
        return unsent


@dataclass(slots=True)
class MeteredReader:
    """The log as one request reads it: see ``EntryReader``, and rules 1 and 2."""

    _reader: EntryReader
    _hold: JsonHold

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        """Raises what the hold raises too."""
        entries: list[Entry] = []
        if after == START:
            self._hold.set(0)  # another read of it all: what the one before gave is dropped
            async with self._hold.ledger.first_reads:
                entries = await self._page(stream_id, after=after, count=min(count, FIRST_ENTRIES))
            if len(entries) < min(count, FIRST_ENTRIES):
                return entries
            after = entries[-1].cursor
        await self._hold.take_place()
        entries += await self._page(stream_id, after=after, count=count - len(entries))
        if len(entries) < count:
            self._hold.give_place()
        return entries

    async def _page(self, stream_id: str, *, after: Cursor, count: int) -> list[Entry]:
        entries = await self._reader.read(stream_id, after=after, count=count) if count else []
        size = sum(COPIES * len(entry.event) + ENTRY_BYTES for entry in entries)
        self._hold.set(self._hold.response_bytes + size)
        await self._hold.take_turn(self._hold.response_bytes)
        return entries
