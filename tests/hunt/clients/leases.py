"""Feeds with a lease, and feeds that are deleted: one writer over HTTP that dies, falls silent for a while, or deletes.

The writer notes when it sent what was taken, and when it learned of it. So a judge knows from outside how long the feed
may have been without a writer, whatever the system did meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.hunt.clients.feeds import LATER, event_of
from tests.hunt.system.wire import Broken, Reply, call

WRITER: Final = "leased"
DIES: Final = "dies"
RETURNS: Final = "returns"
DELETES: Final = "deletes"
FATES: Final = (DIES, DIES, RETURNS, RETURNS, DELETES)
LEASES_S: Final = (2.0, 4.0)
INSIST_S: Final = 60.0
CALL_S: Final = 8.0
PAUSE_S: Final = 0.1
AFTER_DELETION: Final = 3


class Contact(NamedTuple):
    """A call that was taken: when it was sent, and when its answer came."""

    sent: float
    answered: float


@dataclass
class LeasedFeed:
    """One feed. ``refused``: the call that the feed refused for good; ``deleted``: the deletion that was taken."""

    id: str
    lease_s: float
    fate: str
    began: float = field(default_factory=time.monotonic)
    contacts: list[Contact] = field(default_factory=list)
    acked: dict[int, Contact] = field(default_factory=dict)
    refused: Contact | None = None
    deletion_sent: float | None = None
    deleted: Contact | None = None
    is_closed: bool = False
    is_done: bool = False
    wrong: list[str] = field(default_factory=list)

    @property
    def longest_gap_s(self) -> float:
        """The longest time that the feed may have been without a call of its writer, until it was closed or refused."""
        after = [*self.contacts[1:], *([self.refused] if self.refused is not None else [])]
        return max(
            (later.answered - contact.sent for contact, later in zip(self.contacts, after, strict=False)), default=0
        )


@dataclass
class LeaseWriting:
    """Writes such feeds."""

    urls: Sequence[str]
    rng: random.Random
    is_quiet: bool = False

    async def write(self, feed: LeasedFeed, count: int, every_s: float) -> None:
        """From its creation to the fate of its writer."""
        try:
            if await self._taken(feed, "PUT", "", {"lease_s": feed.lease_s}) is not None:
                await self._write(feed, count, every_s)
        finally:
            feed.is_done = True

    async def _write(self, feed: LeasedFeed, count: int, every_s: float) -> None:
        turn_at = self.rng.randrange(count)
        silence_s = feed.lease_s * self.rng.choice((self.rng.uniform(0.3, 0.8), self.rng.uniform(1.2, 2.0)))
        for n in range(count):
            if not await self._append(feed, n):
                return
            await asyncio.sleep(every_s)
            if n == turn_at and feed.fate == DIES:
                return
            if n == turn_at and feed.fate == DELETES:
                await self._delete(feed)
                for later in range(count, count + AFTER_DELETION):
                    await self._append(feed, later)
                return
            if n == turn_at:
                await asyncio.sleep(silence_s)
        feed.is_closed = await self._taken(feed, "POST", "/close", {"type": "finish"}) is not None

    async def _append(self, feed: LeasedFeed, n: int) -> bool:
        key = {"idempotency-key": f"{WRITER}-{n}"}
        contact = await self._taken(feed, "POST", "/events", event_of(WRITER, n), key)
        if contact is not None:
            feed.acked[n] = contact
        return contact is not None

    async def _delete(self, feed: LeasedFeed) -> None:
        feed.deletion_sent = time.monotonic()
        feed.deleted = await self._taken(feed, "DELETE", "", None)

    async def _taken(
        self, feed: LeasedFeed, method: str, path: str, body: Any, headers: dict[str, str] | None = None
    ) -> Contact | None:
        """The call that was taken at last; None: it was refused for good (noted), or for too long."""
        until = time.monotonic() + INSIST_S
        outcome = ""
        while time.monotonic() < until:
            sent = time.monotonic()
            reply = await self._reply(feed, method, path, body, headers)
            contact = Contact(sent, time.monotonic())
            if reply is not None and reply.status < 300:
                if method != "DELETE":
                    feed.contacts.append(contact)
                return contact
            if reply is not None and reply.status not in LATER:
                feed.refused = feed.refused or contact
                if reply.code not in ("stream_closed", "unknown_stream"):
                    feed.wrong.append(f"{method} {path}: {reply.status} {reply.code}")
                return None
            outcome = "no answer" if reply is None else f"{reply.status} {reply.code}"
            await asyncio.sleep(PAUSE_S)
        feed.wrong.append(f"{method} {path} was never taken: {outcome}")
        return None

    async def _reply(
        self, feed: LeasedFeed, method: str, path: str, body: Any, headers: dict[str, str] | None
    ) -> Reply | None:
        url, where = self.rng.choice(self.urls), f"/v1/streams/{feed.id}{path}"
        try:
            return await call(url, method, where, body=body, headers=headers, timeout_s=CALL_S)
        except Broken:
            return None
