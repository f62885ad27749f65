"""Counting the values of a JSON text, and its levels, without reading it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.requests.json_values import count_values, exact_count, is_deeper, is_too_deep

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('ab"\\[]{},: \n\u00e9\U0001f600'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('ab"\\[{,:'), inner),
    max_leaves=40,
)


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(_count, value.values()))
    return 1 + sum(map(_count, value)) if isinstance(value, list) else 1


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_the_count_is_exact_where_it_decides(value: Any, indent: int | None, ensure_ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii).encode()
    exact = _count(value)
    assert count_values(text, most=exact - 1) > exact - 1
    assert count_values(text, most=exact) <= exact
    assert exact_count(text, most=exact) == exact_count(text, most=10 * exact) == exact
    assert exact_count(text, most=exact - 1) > exact - 1


@given(VALUES, st.integers(0, 4))
def test_levels_are_those_of_the_value(value: Any, levels: int) -> None:
    def depth(of: Any) -> int:
        inner = of.values() if isinstance(of, dict) else of if isinstance(of, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert is_deeper(json.dumps(value).encode(), levels) is (depth(value) > levels)


@pytest.mark.parametrize("levels", [127, 128, 129, 300])
@pytest.mark.parametrize("text", [b"[%s]", b'{"a":%s}', b'[{"a":%s}]'])
def test_levels_are_those_that_are_counted_in_values(text: bytes, levels: int) -> None:
    nested = b"1"
    for _ in range(levels // text.count(b"%s") // (2 if text.startswith(b"[{") else 1)):
        nested = text.replace(b"%s", nested)
    assert is_deeper(nested, 128) is is_too_deep(json.loads(nested))
