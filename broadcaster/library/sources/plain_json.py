"""What tools and graphs give their SDK, which may be any object → a JSON value that an event can hold.

An SDK accepts a value that JSON cannot hold, and continues. The answer that holds this value continues, too.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from pydantic_core import PydanticSerializationError, to_jsonable_python

from broadcaster.core.requests.json_values import is_too_deep

_UNWRITABLE: Final = (
    PydanticSerializationError, msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError
)  # fmt: skip


def plain_json(value: Any) -> Any:
    """The value as JSON: bytes that are no UTF-8 become base64, NaN and Infinity null, unknown objects their ``str``.

    A value that contains itself, is nested too deeply or has a lone surrogate becomes a text with the name of its type.
    """
    try:
        plain = msgspec.json.decode(msgspec.json.encode(_jsonable(value)))
    except _UNWRITABLE as error:
        return f"(a {type(value).__name__} that JSON cannot hold: {type(error).__name__})"
    return f"(a {type(value).__name__} that is nested too deeply)" if is_too_deep(plain) else plain


def _jsonable(value: Any) -> Any:
    try:
        return to_jsonable_python(value, fallback=str, inf_nan_mode="null")
    except (PydanticSerializationError, UnicodeDecodeError):  # bytes that are no UTF-8
        return to_jsonable_python(value, fallback=str, inf_nan_mode="null", bytes_mode="base64")
