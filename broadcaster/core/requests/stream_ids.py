"""The ids of streams: what callers see, and under which name a stream is stored.

Rules
1. A feed's id belongs to its tenant: it is stored as ``tenant~id``, so that tenants cannot occupy or probe each other's
   names. Neither a tenant's name nor a public id holds a ``~``.
2. A generation's id is random, never chosen, and stored as it is. So are the feeds of ``local``, the tenant
   of a server without keys.
3. Earlier versions stored every feed under its public id. Such a feed belongs to its owner until it expires, so
   ``stored_ids`` includes that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# While AUTH is off there is one tenant: every caller on this machine.
LOCAL_TENANT: Final = "local"
GENERATION_PREFIX: Final = "gen_"

_SEPARATOR: Final = "~"


def stored_ids(public_id: str, *, tenant: str) -> Sequence[str]:
    """The names under which a tenant's stream of this id may be stored, the current form first."""
    if tenant == LOCAL_TENANT or public_id.startswith(GENERATION_PREFIX):
        return (public_id,)
    return (f"{tenant}{_SEPARATOR}{public_id}", public_id)


def public_id(stored_id: str) -> str:
    """The id by which callers know a stream that is stored under this one."""
    return stored_id.rpartition(_SEPARATOR)[2]
