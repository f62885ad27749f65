"""Places: how many viewers a front-end may have, in all and of each tenant.

Rules
1. A place is taken before any work is done for a viewer (before its generation is created): a refusal costs nothing.
2. The request that took a place and the viewer of that request both enter it. The place is free when the last of them
   has left, whatever happened.
4. A place can be ended (its credential was revoked): its viewer is stopped, and no viewer enters it any more. So a
   request that is still on its way to its stream when that happens never watches it.
3. A request that waits without reading a stream counts as a viewer, and among its tenant's long polls too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broadcaster.core.access.callers import Caller
from broadcaster.errors import Busy, TenantLimit, Unauthorized
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer


@dataclass(frozen=True, slots=True)
class Visitor:
    """The client that a place is for. ``caller`` None: no credential is needed here, or a host's guards decide."""

    caller: Caller | None = None


ANYONE: Final = Visitor()


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
            raise Unauthorized("the credential of this request was revoked")

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

    def __init__(self, limits: HubLimits) -> None:
        self._limits = limits
        self._viewers: Counter[str] = Counter()
        self._long_polls: Counter[str] = Counter()
        self._taken = 0
        self._without_viewer: set[Place] = set()
        self._ended: set[Place] = set()
        self._places_of: dict[Viewer, Place] = {}

    @property
    def viewers(self) -> int:
        """How many viewers have entered, and not left."""
        return len(self._places_of)

    def take(self, tenant: str, *, waits: bool, visitor: Visitor = ANYONE) -> Place:
        """A place. Raises Busy when all are taken, TenantLimit when the tenant has as many as it may have."""
        limits = self._limits
        if self._taken >= limits.max_viewers:
            raise Busy("as many viewers as this front-end serves")
        if not limits.tenant_viewers.admits(tenant, self._viewers[tenant]):
            raise TenantLimit(
                f"{self._viewers[tenant]} viewers and waiting requests, as many as BROADCASTER_TENANT_VIEWERS allows "
                "one tenant at one front-end; close some and try again"
            )
        if waits and not limits.tenant_long_polls.admits(tenant, self._long_polls[tenant]):
            raise TenantLimit(
                f"{self._long_polls[tenant]} requests wait, as many as BROADCASTER_TENANT_LONG_POLLS allows one tenant "
                "at one front-end; try again when some are answered"
            )
        place = Place(self, tenant, waits=waits, visitor=visitor)
        self._taken += 1
        self._without_viewer.add(place)
        self._viewers[tenant] += 1
        if waits:
            self._long_polls[tenant] += 1
        return place

    def enter(self, viewer: Viewer, place: Place) -> None:
        """The viewer has this place from here on, until ``left``."""
        self._places_of[viewer] = place.__enter__()
        self._without_viewer.discard(place)

    def left(self, viewer: Viewer, *, is_gone: bool) -> None:
        """The viewer has left its place; ``is_gone``: because its client disconnected."""
        place = self._places_of.pop(viewer)
        self._without_viewer.add(place)
        place.leave(is_gone=is_gone)

    def end_where(self, is_over: Callable[[Place], bool], reason: StopReason) -> None:
        """End the places of which this is true (rule 4)."""
        for viewer, place in tuple(self._places_of.items()):
            if is_over(place):
                self._ended.add(place)
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
        if place.waits:
            _count_down(self._long_polls, place.tenant)


def _count_down(counts: Counter[str], tenant: str) -> None:
    """Count down, and forget a tenant that has none left."""
    counts[tenant] -= 1
    if not counts[tenant]:
        del counts[tenant]
