"""Idempotency keys: which generation a caller's key names, and for how long.

Rules
1. The first create with a key decides which generation it names (SET NX); every later one gets that generation's id.
2. A key whose create was refused is remembered a few seconds longer (``REFUSED_KEY_MS``), not a day: a caller that got
   the id from it meanwhile must find the same generation when it repeats its create.
3. A key whose generation is deleted or abandoned is forgotten: the next create with it decides anew. Of several repeats
   that forget it at once, only those that find the old generation's id still there have an effect.
4. A key is shortened, prolonged or forgotten only while it still names the given generation.
"""

from __future__ import annotations

from typing import Final

from broadcaster.errors import IdempotencyMismatch
from broadcaster.log.redis.connect import LogConnection, reply_to
from broadcaster.log.redis.scripts import SCRIPTS

# Longer than a create takes (REDIS_TIMEOUT_S for each of its steps would exceed any client's time-out).
REFUSED_KEY_MS: Final = 30_000


class IdempotencyKeys:
    """Keys of one tenant each. Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection, *, ttl_ms: int) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._ttl_ms = ttl_ms

    async def claim(self, tenant: str, key: str, *, generation_id: str, digest: str) -> str:
        """The id the key names: the given one, if it named none. Raises IdempotencyMismatch for another body's key."""
        mine = f"{generation_id} {digest}"
        value = await reply_to(self._redis.set(self._keys.idem(tenant, key), mine, nx=True, get=True, px=self._ttl_ms))
        return generation_id if value is None else _named_by(value, digest=digest)

    async def find(self, tenant: str, key: str, *, digest: str) -> str | None:
        """The id the key names; None: it names none. Raises IdempotencyMismatch for another body's key."""
        value = await reply_to(self._redis.get(self._keys.idem(tenant, key)))
        return None if value is None else _named_by(value, digest=digest)

    async def shorten(self, tenant: str, key: str, *, generation_id: str) -> None:
        """Its create was refused (rule 2)."""
        await self._retime(tenant, key, generation_id=generation_id, ttl_ms=REFUSED_KEY_MS)

    async def prolong(self, tenant: str, key: str, *, generation_id: str) -> None:
        """Its create was refused to one caller, but not to another."""
        await self._retime(tenant, key, generation_id=generation_id, ttl_ms=self._ttl_ms)

    async def forget(self, tenant: str, key: str, *, generation_id: str) -> None:
        """The generation is deleted or abandoned: the next create with this key starts a new one."""
        await self._retime(tenant, key, generation_id=generation_id, ttl_ms=0)

    async def _retime(self, tenant: str, key: str, *, generation_id: str, ttl_ms: int) -> None:
        await SCRIPTS["retime"].run(self._redis, [self._keys.idem(tenant, key)], generation_id, ttl_ms)


def _named_by(value: bytes, *, digest: str) -> str:
    first_id, _, first_digest = value.decode().partition(" ")
    if first_digest != digest:
        raise IdempotencyMismatch("this Idempotency-Key was used with another body")
    return first_id
