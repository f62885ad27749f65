"""The bounds of a hub, each with what happens at it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, NamedTuple


class TenantBound(NamedTuple):
    """The most of something that one tenant may have (None: any number). ``sole``: a tenant without this bound."""

    most: int | None = None
    sole: str | None = None

    @classmethod
    def of(cls, most: int | None, *, total: int, sole: str | None) -> TenantBound:
        """``most`` for every tenant if it is set, else nine tenths of the total for all but ``sole``."""
        return cls(max(1, total * 9 // 10), sole) if most is None else cls(most)

    def admits(self, tenant: str, has: int) -> bool:
        """Whether a tenant that has so many may have one more."""
        return self.most is None or has < self.most or tenant == self.sole


UNBOUNDED: Final = TenantBound()
MAX_ROOMS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLimits:
    """Plain numbers; the composition root fills them from the settings.

    ``max_viewers``: most viewers at once; one more is refused (Busy). ``tenant_viewers``, ``tenant_long_polls``: most
    viewers of one tenant, and of those that wait without reading (TenantLimit). ``max_rooms``: most streams watched or
    kept warm; the room left longest ago closes for a new one, and if all are watched the new one is refused (Busy).
    ``room_bytes``, ``hub_bytes``: memory of one room and of all; the oldest entries fall out and are read from the log
    again for viewers that need them. ``heartbeat_s``: a viewer that was sent nothing for so long gets a heartbeat.
    ``lost_feed_s``: viewers of a feed that Redis has lost are stopped after so long; at their return they learn
    whether a publisher has recreated it. ``slow_viewer_s``: a viewer that took nothing for so long is cut.
    ``linger_s``: a room outlives its last viewer by this much, so that a viewer that returns finds it warm.
    ``notice_s``: a viewer whose token expires receives a notice so long before.
    ``retry_ms``: shortest reconnect delay that viewers are given; jitter up
    to the same again keeps viewers that disconnect together from returning together. ``page_reads``: most reads of old
    entries at once; the others wait. ``credential_viewers``, ``address_viewers``: most viewers with one key or token,
    and from one address (None: any). ``lifetime_s``: most age of a connection that can resume (0: any).
    """

    max_viewers: int = 10_000
    tenant_viewers: TenantBound = UNBOUNDED
    tenant_long_polls: TenantBound = UNBOUNDED
    max_rooms: int = MAX_ROOMS
    room_bytes: int = 16 * 2**20
    hub_bytes: int = 256 * 2**20
    heartbeat_s: float = 15.0
    lost_feed_s: float = 60.0
    slow_viewer_s: float = 30.0
    linger_s: float = 5.0
    notice_s: float = 30.0
    retry_ms: int = 1000
    page_reads: int = 8
    credential_viewers: int | None = None
    address_viewers: int | None = None
    lifetime_s: float = 0

    def draw_retry_ms(self) -> int:
        """One viewer's own reconnect delay."""
        return self.retry_ms + random.randint(0, self.retry_ms)
