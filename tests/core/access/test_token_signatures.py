"""Signatures of viewer tokens, and what attackers try with them."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.access.callers import Action, StreamGrant
from broadcaster.core.access.token_setup import read_issuers, read_key_set, read_token_keys
from broadcaster.core.access.token_signatures import (
    TokenSigner,
    TokenVerifier,
    foreign_issuer,
    load_key,
    own_issuer,
)
from broadcaster.core.access.viewer_tokens import MAX_TOKEN_CHARS, read_grants
from broadcaster.errors import TokenExpired, TokenInvalid
from tests.support.access import token_kit as kit

NOW_S = 1_795_230_000.0
KINDS = ["EdDSA", "ES256", "RS256"]
OTHER = "https://other.example"
HEADER = {"alg": "HS256", "typ": "JWT", "kid": "new"}


def verifier(kind: str = "EdDSA") -> TokenVerifier:
    """Trusts ourselves, ``kit.ISSUER`` for the tenant `web`, and another issuer for the tenant `other`."""
    setting = json.loads(kit.issuers(kind))
    setting[OTHER] = {"tenant": "other", "keys": {"k2": kit.public_pem("ES256" if kind != "ES256" else "EdDSA")}}
    setups = read_issuers(json.dumps(setting))
    foreign = {each.name: foreign_issuer(each, each.keys or {}, max_s=3600) for each in setups}
    return TokenVerifier(own_issuer(read_token_keys(kit.TOKEN_KEYS), max_s=3600) | foreign)


def refuse(text: str, kind: str = "EdDSA") -> None:
    """Every fault has the same answer."""
    with pytest.raises(TokenInvalid) as caught:
        verifier(kind).verify(text, now_s=NOW_S)
    assert caught.value.detail == "the token is not valid here; get a new one from the service that issued it"
    assert caught.value.__cause__ is None


def test_our_own_token_is_minted_with_the_first_key_and_verified_with_each() -> None:
    minted = TokenSigner(read_token_keys(kit.TOKEN_KEYS)).mint(
        read_grants(kit.WATCH_ALL), tenant="web", token_id="t-9", subject="u", now_s=NOW_S, ttl_s=60
    )
    assert jwt.get_unverified_header(minted.text)["kid"] == "new"
    presented = verifier().verify(minted.text, now_s=NOW_S)
    assert presented.token == minted.token
    assert presented.credential == "token:web:t-9"
    assert verifier().verify(kit.own_token(NOW_S, kid="old", secret=kit.OLD_SECRET), now_s=NOW_S)


def test_a_token_that_would_be_too_large_is_not_minted() -> None:
    grants = [StreamGrant(f"{number:0128}", frozenset({Action.WATCH})) for number in range(64)]
    with pytest.raises(ValueError, match="grant fewer"):
        TokenSigner(read_token_keys(kit.TOKEN_KEYS)).mint(grants, tenant="web", token_id="t", now_s=NOW_S, ttl_s=60)


@pytest.mark.parametrize("kind", KINDS)
def test_an_issuer_signs_with_its_private_key(kind: str) -> None:
    token = verifier(kind).verify(kit.foreign_token(NOW_S, kind=kind, sub="user-7"), now_s=NOW_S).token
    assert (token.tenant, token.subject) == ("web", "user-7")
    if kind == "RS256":
        assert verifier(kind).verify(kit.foreign_token(NOW_S, kind=kind, algorithm="PS256"), now_s=NOW_S)


def test_the_key_of_an_issuer_with_one_key_needs_no_id_and_ours_always_does() -> None:
    claims = kit.foreign_claims(NOW_S)
    assert verifier().verify(jwt.encode(claims, kit.private_key("EdDSA"), algorithm="EdDSA"), now_s=NOW_S)
    refuse(kit.own_token(NOW_S, kid=None))


def test_an_expired_token_has_a_code_of_its_own_if_its_signature_is_right() -> None:
    old = kit.own_token(NOW_S - 700)
    with pytest.raises(TokenExpired):
        verifier().verify(old, now_s=NOW_S)
    refuse(kit.own_token(NOW_S - 700, secret="wrong-" + kit.SECRET))
    refuse(kit.own_token(NOW_S - 700, aud="other"))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 0, ["HS256"]])
def test_an_unsigned_token_is_refused(algorithm: Any) -> None:
    for kid, claims in (("new", kit.own_claims(NOW_S)), ("k1", kit.foreign_claims(NOW_S))):
        header = {"alg": algorithm, "kid": kid}
        refuse(kit.forged(header, claims))
        refuse(kit.forged(header, claims) + "AA")
    signed = kit.own_token(NOW_S)
    refuse(signed[: signed.rindex(".") + 1])
    refuse(signed[: signed.rindex(".")])


@pytest.mark.parametrize("kind", KINDS)
def test_a_public_key_is_never_an_hmac_secret(kind: str) -> None:
    pem = kit.public_pem(kind)
    public = kit.private_key(kind).public_key()
    raws = [pem.encode(), pem.strip().encode(), public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)]
    for algorithm in ("HS256", "HS384", "HS512", kind):
        for raw in raws:
            refuse(kit.forged({"alg": algorithm, "kid": "k1"}, kit.foreign_claims(NOW_S), secret=raw), kind)
            refuse(kit.forged({"alg": algorithm, "kid": "new"}, kit.own_claims(NOW_S), secret=raw), kind)
    with pytest.raises(ValueError):
        own_issuer({"a": pem.encode()}, max_s=60)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_key_is_used_with_its_own_algorithm_alone() -> None:
    signed_otherwise = jwt.encode(kit.own_claims(NOW_S), kit.SECRET, algorithm="HS512", headers={"kid": "new"})
    refuse(signed_otherwise)
    by_rsa = kit.foreign_token(NOW_S, kind="RS256", algorithm="RS512")
    refuse(by_rsa, "RS256")


def test_a_key_signs_for_its_own_issuer_alone() -> None:
    """The other issuer's key, under the first one's name, with either key id: its tenant stays out of reach."""
    other = kit.private_key("ES256")
    for kid in ("k1", "k2"):
        refuse(jwt.encode(kit.foreign_claims(NOW_S), other, algorithm="ES256", headers={"kid": kid}))
    own = kit.own_claims(NOW_S)
    for kid in ("k1", "k2", "new"):
        refuse(jwt.encode(own, other, algorithm="ES256", headers={"kid": kid}))
        refuse(jwt.encode(own, kit.private_key("EdDSA"), algorithm="EdDSA", headers={"kid": kid}))
    refuse(kit.own_token(NOW_S, iss=kit.ISSUER))
    refuse(kit.foreign_token(NOW_S, iss="broadcaster"))
    refuse(kit.foreign_token(NOW_S, iss=OTHER))
    refuse(kit.foreign_token(NOW_S, broadcaster={"v": 1, "tenant": "other", "grants": kit.WATCH_ALL}))


@pytest.mark.parametrize("kid", ["old", "unknown", "", "../new", "new\x00", 7, None, ["new"], {"a": 1}])
def test_a_key_id_selects_one_key_and_nothing_else(kid: Any) -> None:
    refuse(kit.forged({**HEADER, "kid": kid}, kit.own_claims(NOW_S), secret=kit.SECRET.encode()))


@pytest.mark.parametrize(
    "extension",
    [
        {"crit": ["exp"], "exp": 1}, {"crit": []}, {"crit": ["b64"], "b64": False}, {"b64": False}, {"b64": True},
        {"crit": "b64"}, {"crit": None},
    ],
)  # fmt: skip
def test_a_header_with_extensions_is_refused(extension: dict[str, Any]) -> None:
    refuse(kit.forged({**HEADER, **extension}, kit.own_claims(NOW_S), secret=kit.SECRET.encode()))


def test_a_key_in_the_header_is_not_read() -> None:
    attacker = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(attacker.public_key()))
    for header in ({"jwk": jwk}, {"jwk": jwk, "kid": "k1"}, {"jku": "https://evil.example", "kid": "k1"}):
        refuse(jwt.encode(kit.foreign_claims(NOW_S), attacker, algorithm="ES256", headers=header))


def test_a_name_that_is_there_twice_is_refused() -> None:
    claims = json.dumps(kit.own_claims(NOW_S))
    for name, value in (("aud", '"broadcaster"'), ("exp", "1795239000"), ("iss", '"broadcaster"'), ("jti", '"x"')):
        refuse(kit.forged(HEADER, f'{claims[:-1]}, "{name}": {value}}}'.encode(), secret=kit.SECRET.encode()))
    inner = claims.replace('"grants"', '"tenant": "other", "grants"')
    refuse(kit.forged(HEADER, inner.encode(), secret=kit.SECRET.encode()))
    header = b'{"alg":"none","alg":"HS256","kid":"new"}'
    refuse(kit.forged(header, kit.own_claims(NOW_S), secret=kit.SECRET.encode()))


def test_a_huge_or_deep_token_is_refused_before_its_signature_is_read() -> None:
    deep = b"[" * 3000 + b"]" * 3000
    refuse(kit.forged(HEADER, deep, secret=kit.SECRET.encode()))
    refuse(kit.forged(deep, kit.own_claims(NOW_S), secret=kit.SECRET.encode()))
    padded = kit.own_token(NOW_S, other="a" * MAX_TOKEN_CHARS)
    assert len(padded) > MAX_TOKEN_CHARS
    refuse(padded)
    refuse("a." * 100_000)


@pytest.mark.parametrize("claims", [b"", b"[]", b"1", b'"a"', b"null", b"\xff\xfe", b'{"exp": NaN}', b"{"])
def test_a_payload_that_is_no_object_is_refused(claims: bytes) -> None:
    refuse(kit.forged(HEADER, claims, secret=kit.SECRET.encode()))


@given(at=st.integers(0, 400), by=st.sampled_from("ABCDabcd019-_=.+/ é"))
def test_a_token_with_another_character_is_refused(at: int, by: str) -> None:
    text = kit.own_token(NOW_S)
    at %= len(text)
    if text[at] != by:
        with pytest.raises(TokenInvalid):
            verifier().verify(text[:at] + by + text[at + 1 :], now_s=NOW_S)


def test_padding_and_other_forms_of_the_same_token_are_refused() -> None:
    text = kit.own_token(NOW_S)
    for other in (text + "=", text + "\n", " " + text, text.replace(".", "=.", 1), f"{text}.", text.encode().hex()):
        refuse(other)


@given(st.text(max_size=60))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(TokenInvalid):
        verifier().verify(text, now_s=NOW_S)


def test_a_key_is_public_and_strong() -> None:
    private = kit.private_key("EdDSA").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    curve = ec.generate_private_key(ec.SECP384R1()).public_key()
    other = ed448.Ed448PrivateKey.generate().public_key()
    pems = [key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in (weak, curve, other)]
    private_jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(kit.private_key("EdDSA")))
    jwk = {name: value for name, value in private_jwk.items() if name not in ("d", "key_ops")}
    assert load_key(jwk).algorithms == ("EdDSA",)
    bad = [
        {**jwk, "alg": "HS256"},
        {**jwk, "use": "enc"},
        {**jwk, "kty": "oct", "k": "c2VjcmV0"},
        {**jwk, "x": "!"},
        {},
    ]
    for text in (private, *pems, "", "-----BEGIN PUBLIC KEY-----", kit.SECRET, private_jwk, *bad):
        with pytest.raises(ValueError) as caught:
            load_key(text)
        assert kit.SECRET not in str(caught.value)


def test_a_key_set_gives_its_keys_for_signatures_by_their_ids() -> None:
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(kit.private_key("RS256").public_key()))
    keys = read_key_set(json.dumps({"keys": [{**jwk, "kid": "a"}, {**jwk, "kid": "b", "use": "enc"}]}))
    assert keys.keys() == {"a"}
    assert load_key({**jwk, "alg": "PS256"}).algorithms == ("PS256",)
    bad: list[Any] = [{}, {"keys": []}, {"keys": [jwk]}, {"keys": [{**jwk, "kid": "a"}] * 2}, {"keys": ["a"]}, []]
    for broken in bad:
        with pytest.raises(ValueError):
            read_key_set(json.dumps(broken))


@pytest.mark.parametrize(
    "setting",
    [
        "", "[]", "{}", kit.SECRET, '{"a": "short"}', '{"a": 7}', json.dumps({"a": kit.SECRET, "b": kit.SECRET}),
        json.dumps({"": kit.SECRET}), json.dumps({"a b": kit.SECRET}), f'{{"a": "{kit.SECRET}", "a": "{kit.SECRET}x"}}',
        json.dumps({str(number): f"{kit.SECRET}{number}" for number in range(17)}),
    ],
)  # fmt: skip
def test_token_keys_are_refused_without_repeating_a_secret(setting: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_token_keys(setting)
    assert kit.SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {}, [], {"tenant": "web"}, {"keys": {"k": "pem"}}, {"tenant": "a:b", "keys": {"k": "pem"}},
        {"tenant": "web", "keys": {}}, {"tenant": "web", "keys": {"k": 7}}, {"tenant": "web", "keys": ["pem"]},
        {"tenant": "web", "keys": {"k": "pem"}, "jwks_file": "f"}, {"tenant": "web", "jwks_file": 7},
        {"tenant": "web", "keys": {"k": "pem"}, "algorithms": ["none"]},
        {"tenant": "web", "keys": {"k": "pem"}, "audience": ""}, {"tenant": ["web", "jobs"], "keys": {"k": "pem"}},
    ],
)  # fmt: skip
def test_an_issuer_speaks_for_one_tenant_with_keys_or_a_file(fields: Any) -> None:
    assert read_issuers(json.dumps({"a": {"tenant": "web", "keys": {"k": "pem"}}}))
    with pytest.raises(ValueError):
        read_issuers(json.dumps({"a": fields}))
    with pytest.raises(ValueError):
        read_issuers(json.dumps({"broadcaster": {"tenant": "web", "keys": {"k": "pem"}}}))
