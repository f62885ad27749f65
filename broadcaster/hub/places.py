"""Places: how many viewers a front-end may have, in all, of each tenant, of each credential and of each address.

Rules
1. A place is taken before any work is done for a viewer (before its generation is created): a refusal costs nothing.
2. The request that took a place and the viewer of that request both enter it. The place is free when the last of them
   has left, whatever happened.
3. A request that waits without reading a stream counts as a viewer, and among its tenant's long polls too.
4. A place can be ended (its credential was revoked): its viewer is stopped, and no viewer enters it any more. So a
   request that is still on its way to its stream when that happens never watches it.
5. With ``lifetime_s`` a connection ends after two thirds of it to all of it, where another front-end continues exactly
   where this one stopped: connections spread over front-ends that were added. Others are never ended for their age.
6. A connection ends when the credential with which it was admitted expires, on every surface; also when the wall clock
   steps to that time.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from broadcaster.core.access.callers import Caller
from broadcaster.errors import Busy, TenantLimit, TokenRevoked, Unauthorized
from broadcaster.hub.lifetimes import Lifetime, Lifetimes
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.observability.limits import LimitName, limit_reached


@dataclass(frozen=True, slots=True)
class Visitor:
    """The client that a place is for. ``caller`` None: no credential is needed here, or a host's guards decide.

    ``address``: as it is counted; "" if it is not. ``is_remote``: it has a connection, so it is not in this process.
    """

    caller: Caller | None = None
    address: str = ""
    is_remote: bool = False


ANYONE: Final = Visitor()
# Spread, so that connections that began together do not end together.
_SHORTEST_LIFE: Final = 2 / 3


def revocation_of(caller: Caller | None) -> Unauthorized | TokenRevoked:
    """The refusal of a caller that was admitted before."""
    if caller is None or caller.grants is None:
        return Unauthorized("the key of this request was revoked, or allows less now")
    return TokenRevoked("the token was revoked; get a new one from the service that issued it")


class Place:
    """One viewer's place; enter it (``with``) at once, and as often as it has holders.

    ``on_gone`` is called when its viewer's client disconnects; not when this front-end ends the response.
    """

    __slots__ = ("_holders", "_places", "on_gone", "tenant", "visitor", "waits")

    def __init__(self, places: Places, tenant: str, *, waits: bool, visitor: Visitor) -> None:
        self.tenant = tenant
        self.waits = waits
        self.visitor = visitor
        self.on_gone: Callable[[], object] | None = None
        self._places = places
        self._holders = 0

    def __enter__(self) -> Place:
        self._holders += 1
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def check(self) -> None:
        """Raises Unauthorized if no viewer may enter any more (rule 4)."""
        if self._places.has_ended(self):
            raise revocation_of(self.visitor.caller)

    def leave(self, *, is_gone: bool) -> None:
        """Its viewer has left; ``is_gone``: because its client disconnected."""
        if is_gone and self.on_gone is not None:
            self.on_gone()
        self.release()

    def release(self) -> None:
        """The same as leaving the block."""
        self._holders -= 1
        if not self._holders:
            self._places.give_back(self)


class Places:
    """All places of one front-end."""

    def __init__(self, limits: HubLimits, *, clock: Callable[[], float] = time.time) -> None:
        """``clock``: Unix time in seconds."""
        self._limits = limits
        self._clock = clock
        self._viewers: Counter[str] = Counter()
        self._long_polls: Counter[str] = Counter()
        self._credentials: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._taken = 0
        self._without_viewer: set[Place] = set()
        self._ended: set[Place] = set()
        self._entered = 0
        self._lifetimes = Lifetimes(notice_s=limits.notice_s)

    @property
    def viewers(self) -> int:
        """How many viewers have entered, and not left."""
        return self._entered

    def take(self, tenant: str, *, waits: bool, visitor: Visitor = ANYONE) -> Place:
        """A place. Raises Busy when all are taken, TenantLimit when the tenant has as many as it may have."""
        refusal = self._refusal_of(tenant, waits=waits, visitor=visitor)
        if refusal is not None:
            setting, error = refusal
            limit_reached(setting)
            raise error
        place = Place(self, tenant, waits=waits, visitor=visitor)
        self._taken += 1
        self._without_viewer.add(place)
        self._viewers[tenant] += 1
        if credential := credential_of(visitor):
            self._credentials[credential] += 1
        if visitor.address:
            self._addresses[visitor.address] += 1
        if waits:
            self._long_polls[tenant] += 1
        return place

    def has_room(self, tenant: str, *, visitor: Visitor) -> bool:
        """Whether there is a viewer's place."""
        return self._refusal_of(tenant, waits=False, visitor=visitor) is None

    def enter(self, viewer: Viewer, place: Place) -> None:
        """The viewer has this place from here on, until ``left``."""
        self._entered += 1
        viewer.place = place.__enter__()
        self._without_viewer.discard(place)
        now = asyncio.get_running_loop().time()
        lifetime_s, visitor = self._limits.lifetime_s, place.visitor
        if lifetime_s and visitor.is_remote and not place.waits and viewer.resumes_anywhere:
            self._lifetimes.begin(
                viewer, Lifetime(now + lifetime_s * random.uniform(_SHORTEST_LIFE, 1), StopReason.LIFETIME)
            )
        caller = visitor.caller
        if caller is not None and caller.expires_s < math.inf:
            ends_at = now + caller.expires_s - self._clock()
            lifetime = Lifetime(ends_at, StopReason.TOKEN_EXPIRED, caller.expires_s, caller.life_s)
            self._lifetimes.begin(viewer, lifetime)

    def check(self, now: float) -> None:
        """Stop the viewers whose time is over (rule 5), and announce it. ``now``: on the loop's clock."""
        self._lifetimes.check(now, now_s=self._clock())

    def left(self, viewer: Viewer, *, is_gone: bool) -> None:
        """The viewer has left its place; ``is_gone``: because its client disconnected."""
        place, viewer.place = viewer.place, None
        if place is None:
            return
        self._entered -= 1
        self._lifetimes.end(viewer)
        self._without_viewer.add(place)
        place.leave(is_gone=is_gone)

    def _refusal_of(self, tenant: str, *, waits: bool, visitor: Visitor) -> tuple[LimitName, Busy | TenantLimit] | None:
        """The limit that is met, and the error that says so."""
        limits = self._limits
        if self._taken >= limits.max_viewers:
            return "MAX_VIEWERS", Busy("as many viewers as this front-end serves")
        if not limits.tenant_viewers.admits(tenant, self._viewers[tenant]):
            return "TENANT_VIEWERS", TenantLimit(
                f"{self._viewers[tenant]} viewers and waiting requests, as many as BROADCASTER_TENANT_VIEWERS allows "
                "one tenant at one front-end; close some and try again"
            )
        if waits and not limits.tenant_long_polls.admits(tenant, self._long_polls[tenant]):
            return "TENANT_LONG_POLLS", TenantLimit(
                f"{self._long_polls[tenant]} requests wait, as many as BROADCASTER_TENANT_LONG_POLLS allows one tenant "
                "at one front-end; try again when some are answered"
            )
        held = self._credentials[credential_of(visitor)]
        if limits.credential_viewers is not None and held >= limits.credential_viewers:
            return "CREDENTIAL_VIEWERS", TenantLimit(
                f"{held} viewers and waiting requests with this key or token, as many as "
                "BROADCASTER_CREDENTIAL_VIEWERS allows at one front-end; close some and try again"
            )
        held = self._addresses[visitor.address]
        if limits.address_viewers is not None and held >= limits.address_viewers:
            return "ADDRESS_VIEWERS", TenantLimit(
                f"{held} viewers and waiting requests from this address, as many as BROADCASTER_ADDRESS_VIEWERS allows "
                "at one front-end; close some and try again"
            )
        return None

    def end_where(self, is_over: Callable[[Place], bool], viewers: Iterable[Viewer], *, reason: StopReason) -> None:
        """End the places of which this is true (rule 4); ``viewers``: all that have entered."""
        for viewer in viewers:
            if viewer.place is not None and is_over(viewer.place):
                self._ended.add(viewer.place)
                viewer.stop(reason)
        self._ended.update(filter(is_over, self._without_viewer))

    def has_ended(self, place: Place) -> bool:
        """Whether the place was ended."""
        return place in self._ended

    def give_back(self, place: Place) -> None:
        """Its last holder has left."""
        self._taken -= 1
        self._without_viewer.discard(place)
        self._ended.discard(place)
        _count_down(self._viewers, place.tenant)
        if credential := credential_of(place.visitor):
            _count_down(self._credentials, credential)
        if place.visitor.address:
            _count_down(self._addresses, place.visitor.address)
        if place.waits:
            _count_down(self._long_polls, place.tenant)


def credential_of(visitor: Visitor) -> str:
    """Which credential the client has; "" without one."""
    return "" if visitor.caller is None else visitor.caller.credential


def _count_down(counts: Counter[str], tenant: str) -> None:
    """Count down, and forget a tenant that has none left."""
    counts[tenant] -= 1
    if not counts[tenant]:
        del counts[tenant]
