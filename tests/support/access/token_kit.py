"""Keys and tokens for tests: ours, an issuer's, and what attackers make of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "own-secret-7f3a9e51-0123456789abcdef"
OLD_SECRET = "old-secret-7f3a9e51-0123456789abcdef"
TOKEN_KEYS = json.dumps({"new": SECRET, "old": OLD_SECRET})
ISSUER = "https://app.example"
WATCH_ALL = [{"prefix": "gen_", "actions": ["watch"]}]


@cache
def private_key(kind: str) -> Any:
    """Ed25519, P-256 or RSA; made once."""
    if kind == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(kind: str) -> str:
    """The public key of `private_key`."""
    return private_key(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def issuers(kind: str = "EdDSA", *, tenant: str = "web", **fields: Any) -> str:
    """The setting for one issuer with one key of this kind."""
    return json.dumps({ISSUER: {"tenant": tenant, "keys": {"k1": public_pem(kind)}, **fields}})


def own_claims(now_s: float, **changes: Any) -> dict[str, Any]:
    """The claims of a token of our own; None leaves a claim out."""
    grants = changes.pop("grants", WATCH_ALL)
    claims = {
        "iss": "broadcaster",
        "aud": "broadcaster",
        "iat": now_s,
        "exp": now_s + 600,
        "jti": "t-1",
        "broadcaster": {"v": 1, "tenant": "web", "grants": grants},
    }
    return {name: value for name, value in (claims | changes).items() if value is not None}


def foreign_claims(now_s: float, **changes: Any) -> dict[str, Any]:
    """The claims of a token of the issuer."""
    grants = changes.pop("grants", WATCH_ALL)
    return own_claims(now_s, **{"iss": ISSUER, "jti": None, "broadcaster": {"v": 1, "grants": grants}, **changes})


def own_token(now_s: float, *, secret: str = SECRET, kid: str | None = "new", **changes: Any) -> str:
    """A token of our own, as a program with our secret mints it."""
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(own_claims(now_s, **changes), secret, algorithm="HS256", headers=headers)


def foreign_token(now_s: float, *, kind: str = "EdDSA", algorithm: str | None = None, **changes: Any) -> str:
    """A token of the issuer, as its backend mints it."""
    headers = {"kid": changes.pop("kid", "k1")}
    return jwt.encode(foreign_claims(now_s, **changes), private_key(kind), algorithm=algorithm or kind, headers=headers)


def forged(header: Any, claims: Any, *, secret: bytes | None = None) -> str:
    """A token of these parts (JSON values, or bytes as they are); with a secret it has an HMAC."""
    signed = b".".join(_segment(part) for part in (header, claims))
    signature = b"" if secret is None else hmac.digest(secret, signed, hashlib.sha256)
    return (signed + b"." + _base64(signature)).decode()


def _segment(part: Any) -> bytes:
    return _base64(part if isinstance(part, bytes) else json.dumps(part).encode())


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def jwks(kind: str, *, kid: str) -> str:
    """The issuer's public key as a JWK set."""
    algorithm = jwt.algorithms.ECAlgorithm if kind == "ES256" else jwt.algorithms.OKPAlgorithm
    jwk = json.loads(algorithm.to_jwk(private_key(kind).public_key()))
    return json.dumps({"keys": [{**jwk, "kid": kid, "use": "sig"}]})
