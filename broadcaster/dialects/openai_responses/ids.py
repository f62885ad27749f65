"""The ids of output items: each names the generation that it belongs to, so that an item can be found by its id.

Rules
1. An item without a provider's id is ``msg_gen_1f_0``: its kind, the generation, and its place.
2. An item with a provider's id is ``rs_abc_gen_1f``: that id, and the generation.
3. The provider receives its own id back: ``encrypted_content`` is valid under the id that it was written with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "mcp_call": "mcp",
    "image_generation_call": "ig",
}
_OTHER: Final = "item"
_OURS: Final = frozenset({*_PREFIXES.values(), _OTHER})
_ID: Final = re.compile(r"(?P<own>.+)_(?P<generation>gen_[0-9A-Za-z]+)(?:_\d+)*")
_REFERENCE: Final = "item_reference"
_NAMES: Final = ("id", "approval_request_id")
"""The fields of an item that hold the id of an item."""


def own_id(type: str, stream_id: str, place: int) -> str:
    """Rule 1."""
    return f"{_PREFIXES.get(type, _OTHER)}_{stream_id}_{place}"


def kept_id(provider_id: str, stream_id: str) -> str:
    """Rule 2."""
    return f"{provider_id}_{stream_id}"


def provider_id(id: str) -> str:
    """The provider's id for an item; an id without one is returned as it is (rule 3)."""
    match = _ID.fullmatch(id)
    return id if match is None or match["own"] in _OURS else match["own"]


def generation_of(id: str) -> str | None:
    """The generation that an item's id names; None when it has none."""
    match = _ID.fullmatch(id)
    return None if match is None else match["generation"]


def reference_of(item: Any) -> str | None:
    """The id that an input item refers to; None when it is not a reference. The type may be left out."""
    match item:
        case {"id": str(id), **rest} if rest in ({}, {"type": None}) or rest.get("type") == _REFERENCE:
            return id
        case _:
            return None


def with_provider_ids(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item under the ids by which its provider knows it."""
    named = {name: provider_id(id) for name in _NAMES if isinstance(id := item.get(name), str)}
    return {**item, **named}
