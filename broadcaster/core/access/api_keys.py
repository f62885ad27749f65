"""API keys: which callers a front-end admits, and which tenant's streams a caller sees.

Rules
1. A key belongs to one tenant; a tenant has one key or several, so that one can be replaced while callers know either.
2. Checking a key takes a time that reveals nothing of the stored ones: the SHA-256 of the given key is compared with
   every stored digest, each compared whole, whether or not one has matched before.
3. The keys themselves are not kept: a ``Keyring`` holds digests, and an error in the setting does not repeat them.
4. A tenant is a part of key names in Redis beside what callers choose: it has no colon and no brace.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from broadcaster.errors import SetupError

MIN_KEY_CHARS: Final = 16
# A header may hold more; no key does.
MAX_KEY_CHARS: Final = 256
# The key of each call is compared with all of them.
MAX_KEYS: Final = 1000

_KEY: Final = re.compile(rf"[\x21-\x7e]{{{MIN_KEY_CHARS},{MAX_KEY_CHARS}}}", re.ASCII)
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def check_tenant(name: str) -> str:
    """The name, if a tenant can have it (rule 4). Raises SetupError."""
    if _TENANT.fullmatch(name) is None:
        raise SetupError("a tenant is 1 to 64 of A-Z a-z 0-9 _ . - and begins with a letter or a digit")
    return name


class Keyring:
    """The keys of a front-end, as digests."""

    __slots__ = ("_digests",)

    def __init__(self, keys: Mapping[str, Sequence[str]]) -> None:
        """Raises ValueError, whose text repeats nothing of the keys.

        It does when (1) there are no keys or too many, (2) a tenant has an invalid name or no key, (3) a key is too
        short, too long or not printable ASCII without spaces, (4) a key is there twice.
        """
        self._digests = [(_digest(key.encode()), tenant) for tenant, key in _checked(keys)]
        if len({digest for digest, _ in self._digests}) < len(self._digests):
            raise ValueError("the same key is there twice: a key belongs to one tenant")

    @classmethod
    def read(cls, text: str) -> Keyring:
        """The keyring of a setting: ``{"tenant": ["key", …], …}``. Raises ValueError as the constructor does."""
        try:
            value = json.loads(text, object_pairs_hook=_members)
        except (json.JSONDecodeError, RecursionError):  # whose text repeats the setting
            raise ValueError('it must be JSON: {"tenant": ["key", …]}') from None
        return cls(_lists(value))

    @property
    def key_count(self) -> int:
        """How many keys there are."""
        return len(self._digests)

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants that have a key."""
        return frozenset(tenant for _, tenant in self._digests)

    def tenant_of(self, key: bytes) -> str | None:
        """The tenant of the key; None when no tenant has it (rule 2)."""
        given = _digest(key)
        found = None
        for digest, tenant in self._digests:
            if hmac.compare_digest(digest, given):
                found = tenant
        return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a tenant is named twice")
    return members


def _lists(value: Any) -> dict[str, list[str]]:
    is_fine = isinstance(value, dict) and all(
        isinstance(keys, list) and all(isinstance(key, str) for key in keys) for keys in value.values()
    )
    if not is_fine:
        raise ValueError('it must be an object of lists of keys: {"tenant": ["key", …]}')
    return dict(value)


def _checked(keys: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for tenant, own in keys.items():
        # The error repeats neither: an operator who mixed them up has put a key where the name belongs.
        if _TENANT.fullmatch(tenant) is None:
            raise ValueError("a tenant's name is 1 to 64 letters, digits, dots, dashes and underscores")
        if not own:
            raise ValueError("a tenant has no key: give it one, or leave it out")
        if any(_KEY.fullmatch(key) is None for key in own):
            raise ValueError(f"a key is {MIN_KEY_CHARS} to {MAX_KEY_CHARS} printable ASCII characters without spaces")
        found += [(tenant, key) for key in own]
    if not 1 <= len(found) <= MAX_KEYS:
        raise ValueError(f"there must be 1 to {MAX_KEYS} keys")
    return found
