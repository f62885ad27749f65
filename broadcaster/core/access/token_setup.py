"""The keys that sign and verify viewer tokens, as the settings have them. Pure; signatures are token_signatures.py.

Rules
1. Our own keys are secrets, by their key ids: ``{"2026-11": "…", "2026-10": "…"}``. The first one signs, all verify: a
   new key is put in front, and the old one removed when its last token has expired.
2. An issuer signs with a private key of its own, and gives us the public one: ``{"https://app.example": {"tenant":
   "web", "keys": {"k1": "-----BEGIN PUBLIC KEY-----…"}}}``, or ``"jwks_file": "/etc/broadcaster/app.jwks"`` for a set
   that is replaced while front-ends run. It speaks for one tenant alone.
3. No error repeats a value: a secret may stand in the wrong place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from broadcaster.core.access.api_keys import check_tenant
from broadcaster.core.access.viewer_tokens import DEFAULT_AUDIENCE, OWN_ISSUER
from broadcaster.errors import SetupError

# RFC 7518, 3.2: a key of HS256 has at least as many bytes as its hash.
MIN_SECRET_BYTES: Final = 32
MAX_TOKEN_KEYS: Final = 16
MAX_ISSUERS: Final = 64

KeyText: TypeAlias = "str | Mapping[str, Any]"
"""A public key: PEM, or a JWK."""

_KEY_ID: Final = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)
_ISSUER_FIELDS: Final = frozenset({"tenant", "audience", "keys", "jwks_file"})


@dataclass(frozen=True, slots=True)
class IssuerSetup:
    """An issuer of tokens beside us. Either ``keys`` or ``jwks_file``."""

    name: str
    tenant: str
    audience: str = DEFAULT_AUDIENCE
    keys: Mapping[str, KeyText] | None = None
    jwks_file: str = ""


def read_token_keys(text: str) -> dict[str, bytes]:
    """Our own keys, the signing one first (rule 1). Raises ValueError (rule 3)."""
    value = _read_object(text, form='{"key id": "secret of 32 bytes or more"}')
    if not 1 <= len(value) <= MAX_TOKEN_KEYS:
        raise ValueError(f"there must be 1 to {MAX_TOKEN_KEYS} keys")
    keys = {_key_id(key_id): _secret(secret) for key_id, secret in value.items()}
    if len(set(keys.values())) < len(keys):
        raise ValueError("two key ids have the same secret")
    return keys


def read_issuers(text: str) -> tuple[IssuerSetup, ...]:
    """The other issuers (rule 2). Raises ValueError (rule 3); whether a key is one is found when it is loaded."""
    value = _read_object(text, form='{"issuer": {"tenant": "…", "keys": {"key id": "PEM or JWK"}}}')
    if not 1 <= len(value) <= MAX_ISSUERS:
        raise ValueError(f"there must be 1 to {MAX_ISSUERS} issuers")
    return tuple(_issuer(name, fields) for name, fields in value.items())


def read_key_set(text: str) -> dict[str, KeyText]:
    """The keys of a JWK set (RFC 7517, 5) by their ``kid``; those for encryption are left out. Raises ValueError."""
    value = _read_object(text, form='{"keys": [{"kid": "…", "kty": "…"}]}').get("keys")
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError('a JWK set has a list "keys"')
    signing = [each for each in value if each.get("use", "sig") == "sig"]
    if not 1 <= len(signing) <= MAX_TOKEN_KEYS:
        raise ValueError(f"a JWK set has 1 to {MAX_TOKEN_KEYS} keys for signatures")
    keys: dict[str, KeyText] = {_key_id(each.get("kid")): each for each in signing}
    if len(keys) < len(signing):
        raise ValueError("two keys have the same kid")
    return keys


def read_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object without a name twice, and without what JSON does not have (NaN). Raises ValueError."""
    try:
        value = json.loads(text, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _read_object(text: str, *, form: str) -> dict[str, Any]:
    try:
        return read_object(text)
    except ValueError:  # whose text may repeat the setting
        raise ValueError(f"it must be a JSON object without a name twice: {form}") from None


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return members


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _key_id(value: Any) -> str:
    if not isinstance(value, str) or _KEY_ID.fullmatch(value) is None:
        raise ValueError("a key id is 1 to 128 printable ASCII characters without spaces")
    return value


def _secret(value: Any) -> bytes:
    secret = value.encode() if isinstance(value, str) else b""
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"a secret has at least {MIN_SECRET_BYTES} bytes: openssl rand -base64 32")
    return secret


def _issuer(name: str, fields: Any) -> IssuerSetup:
    if _KEY_ID.fullmatch(name) is None or name == OWN_ISSUER:
        raise ValueError(f"an issuer's name is 1 to 128 printable ASCII characters, and not {OWN_ISSUER}")
    if not isinstance(fields, dict) or not fields.keys() <= _ISSUER_FIELDS:
        raise ValueError(f"an issuer is an object of {', '.join(sorted(_ISSUER_FIELDS))}")
    audience, keys, jwks_file = fields.get("audience", DEFAULT_AUDIENCE), fields.get("keys"), fields.get("jwks_file")
    if not isinstance(audience, str) or not audience:
        raise ValueError("an audience is text")
    if (keys is None) == (jwks_file is None) or not isinstance(jwks_file, str | None):
        raise ValueError('an issuer has either "keys" or a "jwks_file"')
    return IssuerSetup(
        name=name,
        tenant=_tenant(fields.get("tenant")),
        audience=audience,
        keys=None if keys is None else _key_texts(keys),
        jwks_file=jwks_file or "",
    )


def _key_texts(keys: Any) -> dict[str, KeyText]:
    if not isinstance(keys, dict) or not 1 <= len(keys) <= MAX_TOKEN_KEYS:
        raise ValueError(f"the keys of an issuer are an object of 1 to {MAX_TOKEN_KEYS}")
    if not all(isinstance(each, str | dict) for each in keys.values()):
        raise ValueError("a public key is PEM or a JWK")
    return {_key_id(key_id): key for key_id, key in keys.items()}


def _tenant(name: Any) -> str:
    try:
        return check_tenant(name if isinstance(name, str) else "")
    except SetupError as error:
        raise ValueError(f"the tenant of an issuer: {error.detail}") from None
