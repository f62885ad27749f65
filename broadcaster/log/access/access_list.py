"""The list of callers' keys and of revoked tokens that front-ends share, and its changes.

Rules
1. Keys are stored as their SHA-256. The record of a key is the JSON of `read_key`: rights, name, and its tenant.
2. Every change raises a version in the same script, by a random number: a failover may lose a change and its version,
   and the next change must not get the same one. A front-end reads the version often, and the list only after it has
   changed: so a change reaches all front-ends in one interval, and costs nothing else.
3. A revocation refuses a token by its id, or the tokens of a subject that were issued until then. Its caller's clock
   dates it, as the clocks of front-ends and issuers date tokens; they may differ (``CLOCKS_DIFFER_MS``), and Redis's
   clock may differ from all of them. It lasts until the tokens have expired. A later one never admits what it refuses.
4. Revocations are bounded for each tenant, so that no tenant takes the room of others, and for all together.
5. The version is read before the list: a change between the two is read once more, and never missed.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from broadcaster.core.access.api_keys import MAX_KEYS, ApiKey, read_key
from broadcaster.core.access.viewer_tokens import LEEWAY_S
from broadcaster.errors import InvalidInput, TenantLimit
from broadcaster.log.redis.connect import LogConnection, reply_to
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.observability.logs import get_logger

MAX_REVOCATIONS: Final = 10_000
"""Of one tenant."""
MAX_ALL_REVOCATIONS: Final = 100_000
"""Of all tenants: every front-end reads them all after each change."""
PRUNE_MS: Final = 1000
"""A pruning reads all revocations: where there is no room, one is made no more often."""
# Tokens and revocations are dated by the clocks of several servers.
CLOCKS_DIFFER_MS: Final = int(LEEWAY_S * 1000)

# A version has 63 bits: it has room for two thousand million changes. An earlier release raises it by one.
_MOST_RISE: Final = 2**32

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A caller's key as an operator sees it: no key, but the digest by which it is removed."""

    digest: str
    key: ApiKey
    created_ms: int


@dataclass(frozen=True, slots=True)
class AccessState:
    """The list at one version. ``revoked``: `<tenant> jti <id>` or `<tenant> sub <subject>` → revoked at (ms)."""

    version: int = 0
    keys: tuple[StoredKey, ...] = ()
    revoked: Mapping[str, int] = field(default_factory=dict)

    def revokes(self, *, tenant: str, token_id: str, subject: str, issued_ms: int) -> bool:
        """Whether this token is refused (rule 3)."""
        revoked_ms = self.revoked.get(f"{tenant} sub {subject}")
        is_early = revoked_ms is not None and issued_ms <= revoked_ms + CLOCKS_DIFFER_MS
        return is_early or f"{tenant} jti {token_id}" in self.revoked


class AccessList:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection, *, clock: Callable[[], float] = time.time) -> None:
        """``clock``: Unix time in seconds."""
        self._redis = connection.redis
        self._keys = connection.keys
        self._clock = clock

    async def add_key(self, digest: str, record: Mapping[str, Any]) -> bool:
        """Keep a key; False: it was there, and has this record now.

        ``record``: tenant, rights, name, created_ms, and perhaps tokens_per_day.

        Raises TenantLimit when there are ``MAX_KEYS``.
        """
        keys = [self._keys.access_keys, self._keys.access_state]
        args = (digest, json.dumps(dict(record)), MAX_KEYS, _rise())
        added = await SCRIPTS["key_put"].run(self._redis, keys, *args)
        if added < 0:
            raise TenantLimit(f"{MAX_KEYS} keys are stored, as many as there may be; revoke one first")
        return bool(added)

    async def drop_key(self, digest: str) -> bool:
        """Forget a key; False: there was none."""
        keys = [self._keys.access_keys, self._keys.access_state]
        dropped = await SCRIPTS["key_drop"].run(self._redis, keys, digest, _rise())
        return bool(dropped)

    async def revoke(self, *, tenant: str, for_s: float, token_id: str = "", subject: str = "") -> None:
        """Refuse one token by its id, or all of a subject, that were issued until now; recorded for ``for_s``.

        Raises InvalidInput unless exactly one of them is given, TenantLimit without room for it (rule 4).
        """
        if bool(token_id) == bool(subject):
            raise InvalidInput("exactly one of the token's id and its subject is needed")
        name = f"jti {token_id}" if token_id else f"sub {subject}"
        keys = [self._keys.access_revoked, self._keys.access_state]
        bounds = (MAX_REVOCATIONS, MAX_ALL_REVOCATIONS, PRUNE_MS)
        args = (tenant, name, int(for_s * 1000), *bounds, _rise(), int(self._clock() * 1000))
        recorded = await SCRIPTS["token_revoke"].run(self._redis, keys, *args)
        if recorded < 0:
            held = f"{MAX_REVOCATIONS} revocations of this tenant" if recorded == -1 else "revocations of all tenants"
            raise TenantLimit(f"{held} are recorded, as many as there may be; try again later")

    async def version(self) -> int:
        """Another number after each change (rule 2); 0: nothing was changed yet."""
        raw = await reply_to(self._redis.hget(self._keys.access_state, "version"))
        return int(raw or 0)

    async def read(self) -> AccessState:
        """The list now (rule 5). A record that cannot be read is logged and left out."""
        version = await self.version()
        records = await reply_to(self._redis.hgetall(self._keys.access_keys))
        revoked = await reply_to(self._redis.hgetall(self._keys.access_revoked))
        keys = (_stored(digest.decode(), record) for digest, record in records.items())
        return AccessState(
            version,
            tuple(key for key in keys if key is not None),
            {name.decode(): int(value.split()[0]) for name, value in revoked.items()},
        )


def _rise() -> int:
    """By how much a change raises the version."""
    return 1 + secrets.randbelow(_MOST_RISE)


def _stored(digest: str, record: bytes) -> StoredKey | None:
    try:
        fields = json.loads(record)
        given = {"rights": fields["rights"], "name": fields["name"], "tokens_per_day": fields.get("tokens_per_day")}
        key = read_key({"sha256": digest, **given}, tenant=str(fields["tenant"]))
        return StoredKey(digest, key, int(fields["created_ms"]))
    except (ValueError, LookupError, TypeError) as error:
        _log.error("stored_key_unreadable", digest=digest[:8], fault=type(error).__name__)
        return None
