"""The ids of streams: what callers see, and under which name a stream is stored.

Rules
1. A feed's id belongs to its tenant: it is stored as ``tenant~id``, so that tenants cannot occupy or probe each other's
   names. Neither a tenant's name nor a public id holds a ``~``.
2. A generation's id is random, never chosen, and stored as it is. So are the feeds of ``local``, the tenant
   of a server without keys.
3. Earlier versions stored every feed under its public id. Such a feed stays its owner's until it expires, so
   ``stored_ids`` names that place too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# While AUTH is off there is one tenant: everybody on this machine.
LOCAL_TENANT: Final = "local"
GENERATION_PREFIX: Final = "gen_"

_SEPARATOR: Final = "~"


def stored_ids(public_id: str, *, tenant: str) -> Sequence[str]:
    """Where a tenant's stream of this id can be, its own place first."""
    if tenant == LOCAL_TENANT or public_id.startswith(GENERATION_PREFIX):
        return (public_id,)
    return (f"{tenant}{_SEPARATOR}{public_id}", public_id)


def public_id(stored_id: str) -> str:
    """What callers call a stream that is stored under this id."""
    return stored_id.rpartition(_SEPARATOR)[2]
