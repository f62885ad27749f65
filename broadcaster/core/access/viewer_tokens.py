"""Viewer tokens: the claims of a short-lived JWT, and the grants in them. Pure; the caller passes the time.

    {"iss": "broadcaster", "aud": "broadcaster", "iat": 1795230000.5, "exp": 1795230900, "jti": "…", "sub": "user-7",
     "broadcaster": {"v": 1, "tenant": "web", "grants": [{"stream": "gen_…", "actions": ["watch"]},
                                                          {"prefix": "job:42:", "actions": ["watch", "append"]}]}}

Rules
1. ``iss``, ``aud``, ``iat`` and ``exp`` are required, and ``jti`` in our own tokens. ``exp`` is exact. ``iat`` and
   ``nbf`` may lie ``LEEWAY_S`` ahead: the clocks of two servers differ. A token lives ``max_s`` at most.
2. A token names one tenant. Ours names it in the claim ``broadcaster``. An issuer of the settings speaks for the one
   tenant of its setting, so its tokens name none.
3. A grant is one stream or one prefix, with actions of ``TOKEN_ACTIONS``. One malformed grant makes the whole token
   invalid: a token that was made by mistake should fail at its first use, and not at the one that matters.
4. A token that a key requested names that key (``by``), and counts while that key is one of the token's tenant and has
   all the token's actions. A token counts no longer than the key that verifies it.
5. A revocation refuses a token by its id, or all of a subject's tokens that were issued until ``LEEWAY_S`` after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from broadcaster.core.access.api_keys import check_tenant
from broadcaster.core.access.callers import Action, Caller, StreamGrant, read_actions
from broadcaster.errors import SetupError, TokenExpired

CLAIM: Final = "broadcaster"
VERSION: Final = 1
OWN_ISSUER: Final = "broadcaster"
DEFAULT_AUDIENCE: Final = "broadcaster"
TOKEN_ACTIONS: Final = frozenset({Action.WATCH, Action.STOP, Action.APPEND})
MAX_TOKEN_CHARS: Final = 8192
MAX_GRANTS: Final = 64
MAX_AUDIENCES: Final = 16
# The clocks of two servers that keep the time differ by less.
LEEWAY_S: Final = 5.0

# As the ids of streams (log/redis/keys.py); a prefix is the beginning of one.
_STREAM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_OWN_FIELDS: Final = frozenset({"v", "tenant", "grants", "by"})
_FOREIGN_FIELDS: Final = frozenset({"v", "grants"})
# Beyond it a double is no whole number any more, and no clock shows it.
_LAST_S: Final = 2**53


@dataclass(frozen=True, slots=True)
class ViewerToken:
    """What a token allows, and until when (seconds since 1970)."""

    tenant: str
    grants: tuple[StreamGrant, ...]
    issued_s: float
    expires_s: float
    id: str = ""
    subject: str = ""
    minted_by: str = ""

    def caller(self, credential: str, *, signer: Signer | None = None) -> TokenHolder:
        """The caller that presents it; ``credential`` is its name in counts and logs."""
        return TokenHolder(
            self.tenant,
            frozenset[Action]().union(*(grant.actions for grant in self.grants)),
            grants=self.grants,
            name=self.subject[:64],
            credential=credential,
            expires_s=self.expires_s,
            life_s=self.expires_s - self.issued_s,
            token=self,
            signer=signer,
        )


class Signer(NamedTuple):
    """The issuer of a token, and the key that verified it."""

    issuer: str
    key: object


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHolder(Caller):
    """A caller with a token; ``signer`` None: it is one of our own."""

    token: ViewerToken
    signer: Signer | None = None


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What the tokens of one issuer must be like. ``tenant`` None: they name it, and have an id (our own)."""

    max_s: float
    audience: str = DEFAULT_AUDIENCE
    tenant: str | None = None


def read_token(claims: Mapping[str, Any], rules: TokenRules, *, now_s: float) -> ViewerToken:
    """The token that has these claims, whose signature and issuer were checked.

    Raises ValueError, whose text is for tests and never for callers, when a rule is broken; TokenExpired when the token
    is valid but for its age.
    """
    audiences = claims.get("aud")
    listed = audiences if isinstance(audiences, list) else [audiences]
    if not 1 <= len(listed) <= MAX_AUDIENCES or rules.audience not in listed:
        raise ValueError("another audience")
    issued_s, expires_s = _time(claims, "iat"), _time(claims, "exp")
    if issued_s > now_s + LEEWAY_S or ("nbf" in claims and _time(claims, "nbf") > now_s + LEEWAY_S):
        raise ValueError("it is not valid yet")
    if not 0 < expires_s - issued_s <= rules.max_s:
        raise ValueError("it lives too long, or not at all")
    token_id, subject = _name(claims, "jti"), _name(claims, "sub")
    if rules.tenant is None and not token_id:
        raise ValueError("jti is missing")
    own = claims.get(CLAIM)
    if not isinstance(own, dict) or type(own.get("v")) is not int or own["v"] != VERSION:
        raise ValueError(f"the claim {CLAIM} of version {VERSION} is missing")
    if own.keys() not in ((_OWN_FIELDS, _OWN_FIELDS - {"by"}) if rules.tenant is None else (_FOREIGN_FIELDS,)):
        raise ValueError(f"the claim {CLAIM} has other fields")
    token = ViewerToken(
        tenant=_tenant(own["tenant"]) if rules.tenant is None else rules.tenant,
        grants=read_grants(own["grants"]),
        issued_s=issued_s,
        expires_s=expires_s,
        id=token_id,
        subject=subject,
        minted_by=_name(own, "by"),
    )
    if now_s >= expires_s:
        raise TokenExpired("the token has expired; get a new one from the service that issued it")
    return token


def own_claims(token: ViewerToken, *, audience: str = DEFAULT_AUDIENCE) -> dict[str, Any]:
    """The claims of a token of ours. Raises ValueError if no front-end would accept them (rule 3)."""
    grants = [grant_claim(grant) for grant in token.grants]
    claims: dict[str, Any] = {
        "iss": OWN_ISSUER,
        "aud": audience,
        "iat": token.issued_s,
        "exp": token.expires_s,
        "jti": token.id,
        CLAIM: {"v": VERSION, "tenant": token.tenant, "grants": grants}
        | ({"by": token.minted_by} if token.minted_by else {}),
    }
    if token.subject:
        claims["sub"] = token.subject
    rules = TokenRules(max_s=token.expires_s - token.issued_s, audience=audience)
    read_token(claims, rules, now_s=token.issued_s)
    return claims


def grant_claim(grant: StreamGrant) -> dict[str, Any]:
    """A grant as it stands in a token."""
    return {"prefix" if grant.is_prefix else "stream": grant.stream, "actions": sorted(grant.actions)}


def read_grants(value: Any) -> tuple[StreamGrant, ...]:
    """The grants of a token (rule 3). Raises ValueError."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_GRANTS:
        raise ValueError(f"grants are a list of 1 to {MAX_GRANTS}")
    return tuple(_grant(each) for each in value)


def read_token_actions(names: Iterable[object]) -> frozenset[Action]:
    """The actions of these names. Raises ValueError for none, for one twice, and for one that no token can grant."""
    listed = list(names)
    actions = read_actions(listed)
    if len(actions) < len(listed) or not actions <= TOKEN_ACTIONS:
        raise ValueError(f"the actions of a token are some of {', '.join(sorted(TOKEN_ACTIONS))}, each once")
    return actions


def _grant(value: Any) -> StreamGrant:
    if not isinstance(value, dict) or value.keys() not in ({"stream", "actions"}, {"prefix", "actions"}):
        raise ValueError('a grant has "actions", and either "stream" or "prefix"')
    is_prefix = "prefix" in value
    stream, actions = value["prefix" if is_prefix else "stream"], value["actions"]
    if not isinstance(stream, str) or _STREAM.fullmatch(stream) is None:
        raise ValueError("a stream or prefix is 1 to 128 of A-Z a-z 0-9 _ . : - and begins with a letter or a digit")
    if not isinstance(actions, list):
        raise ValueError("the actions of a grant are a list")
    return StreamGrant(stream, read_token_actions(actions), is_prefix)


def _tenant(name: Any) -> str:
    try:
        return check_tenant(name if isinstance(name, str) else "")
    except SetupError as error:
        raise ValueError(error.detail) from None


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LAST_S:  # NaN is refused, too
        raise ValueError(f"{name} is no time")
    return float(value)


def _name(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError(f"{name} is 1 to 256 printable characters")
    return value
