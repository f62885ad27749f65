"""API keys: which callers a front-end admits, and what a caller may do with which tenant's streams.

Rules
1. A key belongs to one tenant; a tenant has one key or several, so that one can be replaced while callers know either.
   A key is written as text, or as an object: ``{"key": …}`` or ``{"sha256": …}`` (the hex digest of the key), with
   ``rights`` (default: all but ``admin``), ``name``, which appears in logs, and ``tokens_per_day``, its own budget.
2. Checking a key takes a time that reveals nothing of the stored ones: the SHA-256 of the given key is compared with
   every stored digest, each compared whole, whether or not one has matched before.
3. The keys themselves are not kept: a ``Keyring`` holds digests, and an error in the setting does not repeat them. A
   plain SHA-256 is enough: a key is drawn at random, and guessing one costs more than any slow hash would add.
4. A tenant is a part of key names in Redis beside what callers choose: it has no colon and no brace.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from broadcaster.core.access.callers import USUAL_ACTIONS, Caller, read_actions
from broadcaster.errors import SetupError

MIN_KEY_CHARS: Final = 16
# A header may hold more; no key does.
MAX_KEY_CHARS: Final = 256
# The key of each call is compared with all of them.
MAX_KEYS: Final = 1000

_KEY: Final = re.compile(rf"[\x21-\x7e]{{{MIN_KEY_CHARS},{MAX_KEY_CHARS}}}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9 _.-]{0,64}", re.ASCII)
_FIELDS: Final = frozenset({"key", "sha256", "rights", "name", "tokens_per_day"})
MAX_TOKENS_PER_DAY: Final = 10**12
# Enough that no two keys of a server share it, and too little to be of use to a thief of logs.
_CREDENTIAL_CHARS: Final = 16
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def check_tenant(name: str) -> str:
    """The name, if a tenant can have it (rule 4). Raises SetupError."""
    if _TENANT.fullmatch(name) is None:
        raise SetupError("a tenant is 1 to 64 of A-Z a-z 0-9 _ . - and begins with a letter or a digit")
    return name


class ApiKey(NamedTuple):
    """A key as it is kept: its SHA-256, and what its caller may do."""

    digest: bytes
    caller: Caller


class Keyring:
    """The keys of one source (a setting, a file, Redis), as digests."""

    __slots__ = ("_by_credential", "_keys")

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        """Raises ValueError when there are too many keys, or one twice."""
        self._keys = tuple(keys)
        if len(self._keys) > MAX_KEYS:
            raise ValueError(f"there must be at most {MAX_KEYS} keys")
        if len({key.digest for key in self._keys}) < len(self._keys):
            raise ValueError("the same key is there twice: a key belongs to one tenant")
        self._by_credential = {key.caller.credential: key.caller for key in self._keys}

    @classmethod
    def read(cls, text: str, *, only_digests: bool = False) -> Keyring:
        """The keyring of a setting or a file: ``{"tenant": [key, …], …}`` (rule 1).

        Raises ValueError, whose text repeats nothing of the keys, as the constructor does, and when (1) there is no
        key, (2) a tenant has an invalid name or no key, (3) a key is too short, too long or not printable ASCII without
        spaces, (4) its object has another field, or a value that the field cannot have, (5) a key is there itself and
        ``only_digests`` are allowed.
        """
        try:
            value = json.loads(text, object_pairs_hook=_members)
        except (json.JSONDecodeError, RecursionError):  # whose text repeats the setting
            raise ValueError('it must be JSON: {"tenant": ["key", …]}') from None
        ring = cls(_read_keys(value, only_digests=only_digests))
        if not ring.key_count:
            raise ValueError(f"there must be 1 to {MAX_KEYS} keys")
        return ring

    @property
    def key_count(self) -> int:
        """How many keys there are."""
        return len(self._keys)

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants that have a key."""
        return frozenset(key.caller.tenant for key in self._keys)

    def caller_of(self, key: bytes) -> Caller | None:
        """The caller that has the key; None when no caller has it (rule 2)."""
        given = digest_of(key)
        found = None
        for each in self._keys:
            if hmac.compare_digest(each.digest, given):
                found = each.caller
        return found

    def caller_with(self, credential: str) -> Caller | None:
        """The caller with this credential as it is now; None: its key is gone."""
        return self._by_credential.get(credential)


def digest_of(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return members


def _read_keys(value: Any, *, only_digests: bool) -> Iterator[ApiKey]:
    if not isinstance(value, dict) or not all(isinstance(keys, list) for keys in value.values()):
        raise ValueError('it must be an object of lists of keys: {"tenant": ["key", …]}')
    for tenant, keys in value.items():
        # The error repeats neither: an operator who mixed them up has put a key where the name belongs.
        if _TENANT.fullmatch(tenant) is None:
            raise ValueError("a tenant's name is 1 to 64 letters, digits, dots, dashes and underscores")
        if not keys:
            raise ValueError("a tenant has no key: give it one, or leave it out")
        for key in keys:
            if only_digests and not (isinstance(key, dict) and "sha256" in key):
                raise ValueError('a file holds no key itself, only digests: {"sha256": …}; printf %s KEY | sha256sum')
            yield read_key(key, tenant=tenant)


def read_key(value: Any, *, tenant: str) -> ApiKey:
    """One key of a tenant (rule 1). Raises ValueError, whose text repeats nothing of it."""
    fields = {"key": value} if isinstance(value, str) else value
    if not isinstance(fields, dict) or not fields.keys() <= _FIELDS or len(fields.keys() & {"key", "sha256"}) != 1:
        raise ValueError(
            'a key is text, or an object with "key" or "sha256", and perhaps rights, name and tokens_per_day'
        )
    name, rights, budget = fields.get("name", ""), fields.get("rights", USUAL_ACTIONS), fields.get("tokens_per_day")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError("the name of a key is at most 64 letters, digits, spaces, dots, dashes and underscores")
    if not isinstance(rights, list | frozenset):
        raise ValueError("the rights of a key are a list")
    if budget is not None and (type(budget) is not int or not 0 <= budget <= MAX_TOKENS_PER_DAY):
        raise ValueError(f"the tokens_per_day of a key are a whole number, 0 to {MAX_TOKENS_PER_DAY}")
    digest = _digest_in(fields)
    caller = Caller(tenant, read_actions(rights), name=name, credential=credential_of(digest), tokens_per_day=budget)
    return ApiKey(digest, caller)


def credential_of(digest: bytes) -> str:
    """How the key with this digest is called in counts and logs."""
    return f"key:{digest.hex()[:_CREDENTIAL_CHARS]}"


def _digest_in(fields: Mapping[str, Any]) -> bytes:
    key, sha256 = fields.get("key", ""), fields.get("sha256", "")
    if "sha256" in fields:
        if not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
            raise ValueError("sha256 is 64 hexadecimal digits: printf %s KEY | sha256sum")
        return bytes.fromhex(sha256)
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise ValueError(f"a key is {MIN_KEY_CHARS} to {MAX_KEY_CHARS} printable ASCII characters without spaces")
    return digest_of(key.encode())
