"""Keys: each opens for its tenant alone, and a setting that is wrong is refused without being repeated."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.access.api_keys import MAX_KEYS, Keyring
from broadcaster.core.access.callers import Action, Caller

KEYS = {"web": ["web-key-0123456789", "web-key-next-0123456789"], "jobs": ["jobs-key-0123456789"]}


def _tenant(ring: Keyring, key: str) -> str | None:
    caller = ring.caller_of(key.encode())
    return None if caller is None else caller.tenant


def test_a_key_opens_for_its_tenant_and_a_replaced_one_meanwhile_too() -> None:
    ring = Keyring.read(json.dumps(KEYS))
    for tenant, keys in KEYS.items():
        for key in keys:
            assert _tenant(ring, key) == tenant
    assert (ring.key_count, ring.tenants) == (3, frozenset(KEYS))


@given(st.binary(max_size=300))
def test_nothing_else_opens(key: bytes) -> None:
    assert Keyring.read(json.dumps(KEYS)).caller_of(key) is None


@pytest.mark.parametrize("own", KEYS["web"])
def test_a_key_is_compared_whole(own: str) -> None:
    ring = Keyring.read(json.dumps(KEYS))
    for near in (own[:-1], f"{own} ", own.upper(), f" {own}", f"{own}\0"):
        assert ring.caller_of(near.encode()) is None


def test_a_keyring_holds_no_key() -> None:
    ring = Keyring.read(json.dumps(KEYS))
    held = repr([getattr(ring, name) for name in Keyring.__slots__]) + repr(ring)
    for key in (key for keys in KEYS.values() for key in keys):
        assert key not in held


def test_a_key_can_be_kept_as_its_digest_with_rights_and_a_name() -> None:
    digest = hashlib.sha256(b"ci-key-0123456789").hexdigest()
    text = json.dumps(
        {"a": [{"sha256": digest, "rights": ["watch", "stop"], "name": "ci"}, {"key": "own-key-0123456789"}]}
    )
    ring = Keyring.read(text)
    credential = f"key:{digest[:16]}"
    caller = Caller("a", frozenset({Action.WATCH, Action.STOP}), name="ci", credential=credential)
    assert ring.caller_of(b"ci-key-0123456789") == ring.caller_with(credential) == caller
    own = ring.caller_of(b"own-key-0123456789")
    assert own is not None
    assert (own.tenant, own.name, own.tokens_per_day) == ("a", "", None)
    assert ring.caller_of(digest.encode()) is None


def test_a_key_has_the_budget_that_its_record_names() -> None:
    ring = Keyring.read(json.dumps({"a": [{"key": "own-key-0123456789", "tokens_per_day": 0}]}))
    caller = ring.caller_of(b"own-key-0123456789")
    assert caller is not None
    assert caller.tokens_per_day == 0


@pytest.mark.parametrize("key", ["a-key-of-sixteen", {"key": "a-key-of-sixteen"}])
def test_a_file_holds_digests_alone(key: object) -> None:
    with pytest.raises(ValueError, match="only digests") as refused:
        Keyring.read(json.dumps({"a": [{"sha256": DIGEST}, key]}), only_digests=True)
    assert "sixteen" not in str(refused.value)


def test_a_key_without_rights_may_do_everything_but_administer() -> None:
    caller = Keyring.read(json.dumps(KEYS)).caller_of(KEYS["jobs"][0].encode())
    assert caller is not None
    assert set(Action) - caller.actions == {Action.ADMIN}


SECRET = "a-key-nobody-may-see"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        [SECRET],
        {"a": SECRET},
        {"a": [SECRET, 1]},
        {"a": [SECRET, "short"]},
        {"a": [SECRET, "x" * 257]},
        {"a": [f"{SECRET} {SECRET}"]},
        {"a": [f"{SECRET}\N{LATIN SMALL LETTER E WITH ACUTE}"]},
        {"a": [SECRET, SECRET]},
        {"a": [SECRET], "b": [SECRET]},
        {"a": [SECRET], "b": []},
        {"a": [SECRET], "": ["a-key-of-sixteen"]},
        {"a:b": [SECRET]},
        {"{a}": [SECRET]},
        {f"{SECRET}/": ["a-key-of-sixteen"]},
        {"a": [f"{SECRET}-{number}" for number in range(MAX_KEYS + 1)]},
        {},
        None,
        {"a": [{"key": SECRET, "sha256": DIGEST}]},
        {"a": [{"name": SECRET[:4]}]},
        {"a": [{"key": SECRET, "right": ["watch"]}]},
        {"a": [{"key": SECRET, "rights": []}]},
        {"a": [{"key": SECRET, "rights": "watch"}]},
        {"a": [{"key": SECRET, "rights": ["watch", "everything"]}]},
        {"a": [{"key": SECRET, "rights": [["watch"]]}]},
        {"a": [{"key": SECRET, "name": "a\nb"}]},
        {"a": [{"key": SECRET, "tokens_per_day": -1}]},
        {"a": [{"key": SECRET, "tokens_per_day": True}]},
        {"a": [{"key": SECRET, "tokens_per_day": 10**13}]},
        {"a": [{"sha256": SECRET}]},
        {"a": [{"sha256": DIGEST[:-1]}]},
        {"a": [SECRET, {"sha256": DIGEST}]},
    ],
)
def test_a_setting_that_is_not_a_list_of_keys_is_refused_without_being_repeated(value: Any) -> None:
    with pytest.raises(ValueError) as refused:
        Keyring.read(json.dumps(value))
    assert SECRET not in str(refused.value)
    assert not isinstance(refused.value, json.JSONDecodeError)


@pytest.mark.parametrize(
    "text",
    ["", "{", f"a={SECRET}", f'{{"a": ["{SECRET}"], "a": ["another-key-of-16"]}}', "[" * 100_000, f'{{"a": {SECRET}}}'],
)
def test_a_setting_that_is_not_json_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        Keyring.read(text)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
