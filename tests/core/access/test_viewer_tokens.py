"""Claims and grants of viewer tokens: what a token allows, and what makes the whole token invalid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.access.callers import Action, StreamGrant
from broadcaster.core.access.viewer_tokens import (
    LEEWAY_S,
    MAX_GRANTS,
    TOKEN_ACTIONS,
    TokenRules,
    ViewerToken,
    grant_claim,
    own_claims,
    read_grants,
    read_token,
)
from broadcaster.errors import TokenExpired
from tests.support.access import token_kit as kit

NOW_S = 1_795_230_000.0
OWN = TokenRules(max_s=3600)
FOREIGN = TokenRules(max_s=3600, tenant="web")

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", fullmatch=True)
GRANTS = st.builds(
    StreamGrant, IDS, st.frozensets(st.sampled_from(sorted(TOKEN_ACTIONS)), min_size=1), is_prefix=st.booleans()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def read(rules: TokenRules = OWN, *, now_s: float = NOW_S, **changes: Any) -> ViewerToken:
    make = kit.own_claims if rules.tenant is None else kit.foreign_claims
    return read_token(make(NOW_S, **changes), rules, now_s=now_s)


def test_a_token_allows_its_grants_and_nothing_else() -> None:
    grants = [{"stream": "gen_1", "actions": ["watch", "stop"]}, {"prefix": "job:42:", "actions": ["append"]}]
    caller = read(grants=grants, sub="user-7").caller("token:web:t-1")
    assert (caller.tenant, caller.name, caller.credential) == ("web", "user-7", "token:web:t-1")
    assert caller.may({Action.WATCH, Action.STOP}, stream_id="gen_1")
    assert caller.may({Action.APPEND}, stream_id="job:42:7")
    for actions, stream_id in (("append", "gen_1"), ("watch", "gen_12"), ("watch", "job:42:7"), ("append", "job:42")):
        assert not caller.may({Action(actions)}, stream_id=stream_id)
    assert not caller.may({Action.WATCH}, stream_id=None)


def test_a_tokens_life_begins_with_its_issue() -> None:
    caller = read(iat=NOW_S - 100, exp=NOW_S + 20).caller("token:web:t-1")
    assert (caller.expires_s, caller.life_s) == (NOW_S + 20, 120)


@given(grants=st.lists(GRANTS, min_size=1, max_size=MAX_GRANTS))
def test_what_is_minted_is_read_back(grants: list[StreamGrant]) -> None:
    token = ViewerToken("web", tuple(grants), NOW_S, NOW_S + 60, "t-1", "user-7")
    claims = json.loads(json.dumps(own_claims(token)))
    assert read_token(claims, OWN, now_s=NOW_S) == token


@given(grants=st.lists(GRANTS, min_size=1, max_size=4), stream_id=IDS)
def test_a_caller_may_what_one_of_its_grants_covers(grants: list[StreamGrant], stream_id: str) -> None:
    caller = read(grants=[grant_claim(grant) for grant in grants]).caller("c")
    for action in Action:
        covering = [
            grant
            for grant in grants
            if action in grant.actions
            and (stream_id.startswith(grant.stream) if grant.is_prefix else stream_id == grant.stream)
        ]
        assert caller.may({action}, stream_id=stream_id) == bool(covering)


@given(JSON)
def test_any_other_value_is_refused_or_is_a_list_of_grants(value: Any) -> None:
    try:
        grants = read_grants(value)
    except ValueError:
        return
    assert [grant_claim(grant) for grant in grants] == [{**each, "actions": sorted(each["actions"])} for each in value]


GOOD = {"stream": "gen_1", "actions": ["watch"]}


@pytest.mark.parametrize(
    "bad",
    [
        None, "gen_1", [], {}, {"stream": "gen_1"}, {"actions": ["watch"]},
        {"stream": "gen_1", "prefix": "gen_", "actions": ["watch"]},
        {"stream": "gen_1", "actions": ["watch"], "until": 1},
        {"stream": "", "actions": ["watch"]}, {"prefix": "", "actions": ["watch"]},
        {"stream": 7, "actions": ["watch"]}, {"stream": ["gen_1"], "actions": ["watch"]},
        {"stream": "a" * 129, "actions": ["watch"]}, {"stream": "web~job", "actions": ["watch"]},
        {"stream": "a\n", "actions": ["watch"]}, {"prefix": "*", "actions": ["watch"]},
        {"stream": "gen_1", "actions": []}, {"stream": "gen_1", "actions": "watch"},
        {"stream": "gen_1", "actions": {"watch": True}}, {"stream": "gen_1", "actions": ["watch", "watch"]},
        {"stream": "gen_1", "actions": ["watch", "start"]}, {"stream": "gen_1", "actions": ["admin"]},
        {"stream": "gen_1", "actions": ["WATCH"]}, {"stream": "gen_1", "actions": ["watch", None]},
        {"stream": "gen_1", "actions": [["watch"]]},
    ],
)  # fmt: skip
def test_one_malformed_grant_makes_the_whole_token_invalid(bad: Any) -> None:
    assert read(grants=[GOOD]).grants
    for grants in ([bad], [GOOD, bad], [bad, GOOD]):
        for rules in (OWN, FOREIGN):
            with pytest.raises(ValueError):
                read(rules, grants=grants)


def test_a_token_has_a_bounded_number_of_grants_and_at_least_one() -> None:
    assert len(read(grants=[GOOD] * MAX_GRANTS).grants) == MAX_GRANTS
    for grants in ([], [GOOD] * (MAX_GRANTS + 1), GOOD, None, "watch"):
        with pytest.raises(ValueError):
            read(broadcaster={"v": 1, "tenant": "web", "grants": grants})


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": None}, {"aud": "other"}, {"aud": []}, {"aud": ["other"]}, {"aud": {"broadcaster": 1}}, {"aud": 7},
        {"aud": ["broadcaster"] * 17}, {"aud": "Broadcaster"},
        {"iat": None}, {"iat": "1795230000"}, {"iat": True}, {"iat": NOW_S + LEEWAY_S + 1}, {"iat": -1},
        {"exp": None}, {"exp": str(NOW_S + 60)}, {"exp": float("nan")}, {"exp": float("inf")}, {"exp": 10**400},
        {"exp": NOW_S + 3601}, {"exp": NOW_S}, {"exp": NOW_S - 1}, {"exp": [NOW_S + 60]},
        {"nbf": NOW_S + LEEWAY_S + 1}, {"nbf": "now"},
        {"sub": 7}, {"sub": ""}, {"sub": "a" * 257}, {"sub": "a\nb"},
        {"jti": None}, {"jti": 7}, {"jti": ""}, {"jti": "a" * 257},
        {"broadcaster": None}, {"broadcaster": []}, {"broadcaster": {"v": 1, "tenant": "web"}},
        {"broadcaster": {"v": 2, "tenant": "web", "grants": [GOOD]}},
        {"broadcaster": {"v": True, "tenant": "web", "grants": [GOOD]}},
        {"broadcaster": {"v": "1", "tenant": "web", "grants": [GOOD]}},
        {"broadcaster": {"tenant": "web", "grants": [GOOD]}}, {"broadcaster": {"v": 1, "grants": [GOOD]}},
        {"broadcaster": {"v": 1, "tenant": "web", "grants": [GOOD], "admin": True}},
        {"broadcaster": {"v": 1, "tenant": "", "grants": [GOOD]}},
        {"broadcaster": {"v": 1, "tenant": "a:b", "grants": [GOOD]}},
        {"broadcaster": {"v": 1, "tenant": ["web"], "grants": [GOOD]}},
    ],
)  # fmt: skip
def test_a_token_with_a_claim_that_breaks_a_rule_is_invalid(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        read(**changes)


def test_a_token_may_name_several_audiences_and_lie_a_little_ahead_of_the_clock() -> None:
    token = read(aud=["other", "broadcaster"], iat=NOW_S + LEEWAY_S - 1, nbf=NOW_S + LEEWAY_S - 1)
    assert token.tenant == "web"


def test_the_token_of_an_issuer_names_no_tenant_and_needs_no_id() -> None:
    token = read(FOREIGN)
    assert (token.tenant, token.id) == ("web", "")
    for tenant in ("web", "other"):
        with pytest.raises(ValueError):
            read(FOREIGN, broadcaster={"v": 1, "tenant": tenant, "grants": [GOOD]})


def test_a_token_expires_on_the_second_and_is_invalid_first_if_it_is_both() -> None:
    assert read(now_s=NOW_S + 599.9).tenant == "web"
    with pytest.raises(TokenExpired):
        read(now_s=NOW_S + 600)
    with pytest.raises(ValueError):
        read(now_s=NOW_S + 600, aud="other")


@pytest.mark.parametrize("changes", [{"tenant": "a:b"}, {"id": ""}, {"subject": "a\n"}, {"grants": ()}])
def test_no_token_is_minted_that_no_front_end_would_accept(changes: dict[str, Any]) -> None:
    fields = {"tenant": "web", "grants": read_grants([GOOD]), "id": "t-1", "subject": ""} | changes
    with pytest.raises(ValueError):
        own_claims(ViewerToken(issued_s=NOW_S, expires_s=NOW_S + 60, **fields))
