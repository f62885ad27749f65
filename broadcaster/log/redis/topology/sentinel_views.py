"""Which of the Sentinels' configurations counts: the newest, and seldom one that is older than the known one.

Theory of operation. Each failover gives its configuration a higher epoch (``config-epoch``), and a process remembers
the newest that it has seen. A Sentinel that was cut off, or that the leader's message has not reached, still names the
earlier primary. That server may be alive and take writes (it stood still, or the failover was a manual one), and its
writes are lost as soon as it learns that it was replaced. So a majority of Sentinels proves nothing while one that may
know better is silent.

Rules
1. A configuration counts when its epoch is that of the known one or higher.
2. An older configuration counts only when the server that it names reports that it is the primary (ROLE), and one of
   these holds:
   a. Every Sentinel has replied and knows nothing newer: the epochs were reset (SENTINEL REMOVE and MONITOR), or the
      Sentinels have lost their files. "Every" counts those of the URL, and those that the Sentinels know themselves.
   b. The known primary reports that it is a replica.
   c. The known primary has not replied for ``GONE_S``, and most Sentinels of the URL name the same other server.
3. So no process is kept from a primary for ever. When a Sentinel is gone for good and the epochs were reset, a process
   stays with the primary that it knows for as long as this one serves, and ``GONE_S`` longer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.log.redis.address import Address, name_of

PRIMARY: Final = b"master"
GONE_S: Final = 60.0
"""Sentinels inform each other of a failover within seconds: one that is silent for this time does not come back."""


@dataclass(frozen=True, slots=True, order=True)
class NamedPrimary:
    """The view of one Sentinel: the primary, since which failover, and how many Sentinels there are."""

    epoch: int
    address: Address
    sentinels: int

    @classmethod
    def read(cls, flat: Sequence[Any]) -> NamedPrimary:
        """From the reply to SENTINEL MASTER. Raises ValueError, TypeError or LookupError when it is not one."""
        fields: Mapping[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
        address = fields[b"ip"].decode(), int(fields[b"port"])
        return cls(int(fields[b"config-epoch"]), address, 1 + int(fields.get(b"num-other-sentinels", 0)))

    @property
    def name(self) -> str:
        """The primary as ``host:port``."""
        return name_of(self.address)


class KnownPrimary:
    """The newest configuration that a process has taken; ``named`` is None while it has none."""

    def __init__(self, *, sentinels: int) -> None:
        """``sentinels``: how many the URL names."""
        self.named: NamedPrimary | None = None
        self._sentinels = sentinels
        self._silent_since: float | None = None

    def take(self, named: NamedPrimary | None) -> None:
        """Know this one from now on."""
        self.named = named
        self._silent_since = None

    def is_newer_than(self, named: NamedPrimary) -> bool:
        """Whether rule 2 decides about a configuration."""
        return self.named is not None and named.epoch < self.named.epoch

    async def older(
        self, views: Sequence[NamedPrimary], *, role_of: Callable[[Address], Awaitable[bytes | None]], now: float
    ) -> NamedPrimary | None:
        """The older configuration that rule 2 allows; None: keep the known one.

        ``views`` are the Sentinels' configurations, all of them older than the known one. ``role_of`` queries the role
        of a server; None: it does not reply. ``now`` is the time of a monotonic clock.
        """
        if self.named is None or not views:
            return None
        named = max(views)
        known_role = await role_of(self.named.address)
        if known_role is not None:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        is_left = known_role not in (None, PRIMARY) or self._are_all(views) or self._is_gone(views, named, now=now)
        return named if is_left and await role_of(named.address) == PRIMARY else None

    def _are_all(self, views: Sequence[NamedPrimary]) -> bool:
        return len(views) >= max(self._sentinels, *(each.sentinels for each in views))

    def _is_gone(self, views: Sequence[NamedPrimary], named: NamedPrimary, *, now: float) -> bool:
        most = sum(each.address == named.address for each in views) > self._sentinels // 2
        return most and self._silent_since is not None and now - self._silent_since >= GONE_S
