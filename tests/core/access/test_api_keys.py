"""Keys: each opens for its tenant alone, and a setting that is wrong is refused without being repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.access.api_keys import MAX_KEYS, Keyring

KEYS = {"web": ["web-key-0123456789", "web-key-next-0123456789"], "jobs": ["jobs-key-0123456789"]}


def test_a_key_opens_for_its_tenant_and_a_replaced_one_meanwhile_too() -> None:
    ring = Keyring(KEYS)
    for tenant, keys in KEYS.items():
        for key in keys:
            assert ring.tenant_of(key.encode()) == tenant
    assert (ring.key_count, ring.tenants) == (3, frozenset(KEYS))


@given(st.binary(max_size=300))
def test_nothing_else_opens(key: bytes) -> None:
    assert Keyring(KEYS).tenant_of(key) is None


@pytest.mark.parametrize("own", KEYS["web"])
def test_a_key_is_compared_whole(own: str) -> None:
    ring = Keyring(KEYS)
    for near in (own[:-1], f"{own} ", own.upper(), f" {own}", f"{own}\0"):
        assert ring.tenant_of(near.encode()) is None


def test_a_keyring_holds_no_key() -> None:
    ring = Keyring(KEYS)
    held = repr([getattr(ring, name) for name in Keyring.__slots__]) + repr(ring)
    for key in (key for keys in KEYS.values() for key in keys):
        assert key not in held


SECRET = "a-key-nobody-may-see"


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
