"""The signatures of viewer tokens: who signed a token decides what it may say.

Rules
1. The key decides the algorithm, never the token: our own secrets HS256, a public key EdDSA (Ed25519), ES256 (P-256),
   or RS256 and PS256 (RSA of 2048 bits and more). So a public key is never the secret of an HMAC, and ``alg: none`` is
   no algorithm of any key.
2. A key belongs to one issuer. ``kid`` selects among the keys of the issuer that the token names.
3. A header with ``crit`` or ``b64`` is refused: we understand no extension. Keys that a header carries or points to
   (``jwk``, ``jku``, ``x5u``) are not read.
4. Every fault but age has one text: a caller learns nothing about keys, issuers and audiences.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from broadcaster.core.access.callers import StreamGrant
from broadcaster.core.access.token_setup import IssuerSetup, KeyText, read_object
from broadcaster.core.access.viewer_tokens import (
    MAX_TOKEN_CHARS,
    OWN_ISSUER,
    Signer,
    TokenRules,
    ViewerToken,
    own_claims,
    read_token,
)
from broadcaster.errors import TokenInvalid

OWN_ALGORITHM: Final = "HS256"
MIN_RSA_BITS: Final = 2048

_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_INVALID: Final = "the token is not valid here; get a new one from the service that issued it"
_FROM_JWK: Final = {
    "OKP": OKPAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "RSA": RSAAlgorithm.from_jwk,
}
_json: Final = msgspec.json.Encoder()
_JWS: Final = PyJWS(algorithms=[OWN_ALGORITHM, "EdDSA", "ES256", "RS256", "PS256"])


class VerifyingKey(NamedTuple):
    """A key, and the algorithms that it may be used with (rule 1)."""

    key: Any
    algorithms: tuple[str, ...]


class TokenIssuer(NamedTuple):
    """The keys of one issuer by their ids, and the rules of its tokens."""

    keys: Mapping[str, VerifyingKey]
    rules: TokenRules


class MintedToken(NamedTuple):
    """A new token: its text, which is a secret, and what it allows."""

    text: str
    token: ViewerToken

    def events_path(self, stream_id: str) -> str:
        """Where an EventSource watches with it; the id has no character that a path escapes."""
        return f"/v1/streams/{stream_id}/events?token={self.text}"


class PresentedToken(NamedTuple):
    """A token that was verified, and its name in counts and logs, which is no secret."""

    token: ViewerToken
    credential: str
    signer: Signer | None


class TokenVerifier:
    """Verifies the tokens of several issuers."""

    def __init__(self, issuers: Mapping[str, TokenIssuer]) -> None:
        self._issuers = dict(issuers)

    def verify(self, text: str, *, now_s: float) -> PresentedToken:
        """The token, if one of the issuers has signed it. Raises TokenExpired; TokenInvalid for every other fault."""
        try:
            token, signer = self._read(text, now_s=now_s)
        except (PyJWTError, ValueError, UnsupportedAlgorithm):
            raise TokenInvalid(_INVALID) from None
        # Not of the signature: some algorithms let others change it, and the token would be counted anew.
        name = token.id or hashlib.sha256(text.rpartition(".")[0].encode()).hexdigest()[:16]
        return PresentedToken(token, f"token:{token.tenant}:{name}", signer)

    def knows(self, signer: Signer) -> bool:
        """Whether its issuer has the key that verified a token."""
        issuer = self._issuers.get(signer.issuer)
        return issuer is not None and signer.key in issuer.keys.values()

    def _read(self, text: str, *, now_s: float) -> tuple[ViewerToken, Signer | None]:
        if len(text) > MAX_TOKEN_CHARS or _JWT.fullmatch(text) is None:
            raise ValueError("not a JWT")
        header, claims = (read_object(_decoded(part)) for part in text.split(".")[:2])
        if "crit" in header or "b64" in header:
            raise ValueError("a header with extensions")
        name = _known(claims.get("iss"), self._issuers)
        issuer = self._issuers[name]
        if "kid" not in header and len(issuer.keys) == 1 and issuer.rules.tenant is not None:
            key = next(iter(issuer.keys.values()))
        else:
            key = issuer.keys[_known(header.get("kid"), issuer.keys)]
        _JWS.decode_complete(text, key=key.key, algorithms=key.algorithms)
        # Our own secrets do not change while we run, and a caller needs no copy of one.
        return read_token(claims, issuer.rules, now_s=now_s), None if name == OWN_ISSUER else Signer(name, key)


class TokenSigner:
    """Mints our own tokens, with the first of our keys."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._key_id, self._secret = next(iter(keys.items()))

    def mint(
        self,
        grants: Iterable[StreamGrant],
        *,
        tenant: str,
        token_id: str,
        subject: str = "",
        minted_by: str = "",
        now_s: float,
        ttl_s: float,
    ) -> MintedToken:
        """A token. Raises ValueError for grants, a tenant or a subject that no token can have."""
        issued_s = round(now_s, 3)  # a revocation is as fine
        token = ViewerToken(
            tenant=tenant,
            grants=tuple(grants),
            issued_s=issued_s,
            expires_s=round(issued_s + ttl_s, 3),
            id=token_id,
            subject=subject,
            minted_by=minted_by,
        )
        payload = _json.encode(own_claims(token))
        text = _JWS.encode(payload, self._secret, algorithm=OWN_ALGORITHM, headers={"kid": self._key_id})
        if len(text) > MAX_TOKEN_CHARS:
            raise ValueError(f"the token would have more than {MAX_TOKEN_CHARS} characters; grant fewer streams")
        return MintedToken(text, token)


def own_issuer(keys: Mapping[str, bytes], *, max_s: float) -> dict[str, TokenIssuer]:
    """Ourselves, by the ``iss`` of our tokens. Raises ValueError for a secret that is a public key."""
    for secret in keys.values():
        if secret.lstrip().startswith((b"-----BEGIN", b"ssh-")):
            raise ValueError("a public key is no secret")
    verifying = {key_id: VerifyingKey(secret, (OWN_ALGORITHM,)) for key_id, secret in keys.items()}
    return {OWN_ISSUER: TokenIssuer(verifying, TokenRules(max_s=max_s))}


def foreign_issuer(setup: IssuerSetup, keys: Mapping[str, KeyText], *, max_s: float) -> TokenIssuer:
    """An issuer with these keys. Raises ValueError, which names the key's id, for a key that is none."""
    loaded = {}
    for key_id, text in keys.items():
        try:
            loaded[key_id] = load_key(text)
        except ValueError as error:
            raise ValueError(f"key {key_id!r} of {setup.name!r}: {error}") from None
    return TokenIssuer(loaded, TokenRules(max_s=max_s, audience=setup.audience, tenant=setup.tenant))


def load_key(text: KeyText) -> VerifyingKey:
    """A public key (rule 1). Raises ValueError, whose text repeats nothing of it."""
    try:
        key = load_pem_public_key(text.encode()) if isinstance(text, str) else _key_of_jwk(text)
    except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("it is no public key in PEM (BEGIN PUBLIC KEY), and no public JWK") from None
    if isinstance(key, Ed25519PublicKey):
        algorithms: tuple[str, ...] = ("EdDSA",)
    elif isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        algorithms = ("ES256",)
    elif isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        algorithms = ("RS256", "PS256")
    else:
        raise ValueError(f"it is neither Ed25519, P-256 nor RSA of {MIN_RSA_BITS} bits or more")
    named = None if isinstance(text, str) else text.get("alg")
    if named is not None and named not in algorithms:
        raise ValueError(f"its alg is not one of {', '.join(algorithms)}")
    return VerifyingKey(key, algorithms if named is None else (named,))


def _key_of_jwk(jwk: Mapping[str, Any]) -> Any:
    if "d" in jwk or jwk.get("use", "sig") != "sig":
        raise ValueError("a private key, or one for encryption")
    return _FROM_JWK[_known(jwk.get("kty"), _FROM_JWK)](dict(jwk))


def _known(value: Any, known: Mapping[str, Any]) -> str:
    """The value, which is one of the known names. Raises ValueError."""
    if not isinstance(value, str) or value not in known:
        raise ValueError("an unknown name")
    return value


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
