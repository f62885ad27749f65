"""Callers: what the credential of a request allows, whatever kind of credential it is.

Rules
1. An action is one of a closed list. A credential allows the actions that it names, and no others.
2. A key acts on all streams of its tenant. A credential with grants acts on the streams that they cover, and it may do
   nothing that needs no stream (list, start).
3. A grant names one stream by its id, or all streams whose id has its prefix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Action(StrEnum):
    """What a caller may do. ``admin``: see and change what belongs to no tenant (workers, dead letters)."""

    START = "start"
    WATCH = "watch"
    APPEND = "append"
    STOP = "stop"
    ADMIN = "admin"


CALLER_KEY = "broadcaster.caller"
"""Where a request's scope has its caller. Not in ``state``: that may be a host's, with a caller of its own."""

USUAL_ACTIONS = frozenset(Action) - {Action.ADMIN}
"""What a key allows that names no rights."""


class StreamGrant(NamedTuple):
    """Actions on one stream, or on all streams whose id begins with ``stream`` (``is_prefix``)."""

    stream: str
    actions: frozenset[Action]
    is_prefix: bool = False

    def covers(self, stream_id: str) -> bool:
        """Whether the stream is one of this grant's."""
        return stream_id.startswith(self.stream) if self.is_prefix else stream_id == self.stream


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a credential. ``grants`` None: all streams of the tenant. ``name``: for logs, not a secret.

    ``credential``: which one it is, as limits count and revocations find it; not a secret, and unique over all tenants.
    ``tokens_per_day``: the budget of this credential alone; None: that of the settings.
    ``expires_s``: until when it counts (seconds since 1970); ``life_s``: how long, from its issue on.
    """

    tenant: str
    actions: frozenset[Action] = USUAL_ACTIONS
    grants: tuple[StreamGrant, ...] | None = None
    name: str = ""
    credential: str = ""
    tokens_per_day: int | None = None
    expires_s: float = math.inf
    life_s: float = math.inf

    def still(self, now: Caller | None) -> bool:
        """Whether a caller that was admitted as this one keeps all that it was admitted for; ``now``: as of now."""
        return now is not None and now.tenant == self.tenant and self.actions <= now.actions

    def may(self, actions: Iterable[Action], *, stream_id: str | None) -> bool:
        """Whether it may do all of this to the stream; None: to no stream in particular (rule 2)."""
        needed = frozenset(actions)
        if self.grants is None:
            return needed <= self.actions
        if stream_id is None:
            return False
        allowed = (grant.actions for grant in self.grants if grant.covers(stream_id))
        return needed <= frozenset().union(*allowed)


def read_actions(names: Iterable[object]) -> frozenset[Action]:
    """The actions of these names. Raises ValueError for an unknown name, and for no name at all."""
    known = {action.value: action for action in Action}
    found = [known.get(name) if isinstance(name, str) else None for name in names]
    if not found or None in found:
        raise ValueError(f"rights are a list of {', '.join(known)}, at least one")
    return frozenset(action for action in found if action is not None)
