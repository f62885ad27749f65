"""The ids of calls: each provider writes its own, and some refuse a conversation that has those of another one.

Rules
1. An id that fits stays. Any other becomes ``call_`` and a hash of it: the same one on the call and on its result, and
   in every request of the conversation. Different ids stay different.
2. Only the request to the provider has that id: the log and the client keep the one that the model's provider gave.

Source: the refusals of the APIs ("String should match pattern", "string too long"); no SDK has these bounds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

CLAUDE_IDS: Final = re.compile(r"[a-zA-Z0-9_-]+")
CHAT_IDS: Final = re.compile(r".{1,40}", re.DOTALL)
RESPONSES_IDS: Final = re.compile(r".{1,64}", re.DOTALL)
_HASH_CHARS: Final = 32


def with_fitted_ids(messages: Iterable[Mapping[str, Any]], fits: re.Pattern[str]) -> list[Mapping[str, Any]]:
    """Stored messages whose calls and results have ids that fit (rule 1)."""
    return [_message(message, fits) for message in messages]


def _message(message: Mapping[str, Any], fits: re.Pattern[str]) -> Mapping[str, Any]:
    content = message.get("content")
    if not isinstance(content, list | tuple):
        return message
    return {**message, "content": [_part(part, fits) for part in content]}


def _part(part: Any, fits: re.Pattern[str]) -> Any:
    match part:
        case {"type": "tool_use", "id": str(id)} if not fits.fullmatch(id):
            return {**part, "id": _hashed(id)}
        case {"type": "tool_result", "tool_use_id": str(id)} if not fits.fullmatch(id):
            return {**part, "tool_use_id": _hashed(id)}
        case _:
            return part


def _hashed(id: str) -> str:
    # A half of a surrogate pair has no UTF-8 form, and may be in an id.
    return f"call_{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:_HASH_CHARS]}"
