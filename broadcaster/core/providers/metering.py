"""Estimates of tokens: of what a model has written where its provider never reported it, and of a request. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.core.requests.passed_calls import COUNT_TOKENS, INPUT_TOKENS, call_of

BYTES_PER_TOKEN: Final = 4
"""For the estimate of an answer that was stopped: a token is about four UTF-8 bytes of English, and the error for
other languages is smaller than with characters (a Chinese character is three bytes and about one token)."""
MEDIA_TOKENS: Final = 1600
"""For the estimate of an image, a recording or a file: as much as an image of the largest size that models read
unscaled. Its size in bytes does not indicate its tokens."""
_MEDIA: Final = frozenset({"data", "file_data", "image_url", "url"})
"""Fields that hold a file, as base64 or as a data URL, or its address."""
_AUDIO: Final = "input_audio"
"""The field that holds a recording: its ``data``, always base64, and its ``format``."""
_FREE_CALLS: Final = frozenset({COUNT_TOKENS, INPUT_TOKENS})
_NOT_READ: Final = frozenset({"model", "metadata", "surface", "max_steps", "max_tokens", "temperature"})
"""Fields of a stored request that no model reads."""
_MEDIA_URLS: Final = ("data:", "http://", "https://")


class OutputMeter:
    """How much the model has written, for the estimate of an answer whose output count never came."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0

    def count(self, text: str) -> None:
        """Add the UTF-8 size of a piece that the model wrote; half of a character counts one byte."""
        self.bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))

    def estimated_tokens(self) -> int:
        """One token for every BYTES_PER_TOKEN bytes, rounded up."""
        return -(-self.bytes // BYTES_PER_TOKEN)


def estimated_request_tokens(*parts: Any) -> int:
    """About how many tokens a request has: its texts and the names and values of its schemas, and its media.

    Costs no stack. The parts are JSON values, so their size is bounded by that of the request's body.
    """
    meter, media, left = OutputMeter(), 0, list(parts)
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            for name, inner in value.items():
                if _is_media(name, inner, of=value):
                    media += 1
                else:
                    meter.count(name)
                    left.append(inner)
        elif isinstance(value, list | tuple):
            left.extend(value)
        elif value is not None:
            meter.count(value if isinstance(value, str) else str(value))
    return meter.estimated_tokens() + media * MEDIA_TOKENS


def estimated_input_tokens(request: Mapping[str, Any]) -> int | None:
    """About how many tokens a provider reads for a stored request; None: it counts tokens, which costs none."""
    call = call_of(request)
    if call in _FREE_CALLS:
        return None
    if call is not None:
        return estimated_request_tokens(request["body"])
    return estimated_request_tokens(*(value for name, value in request.items() if name not in _NOT_READ))


def total_usage(counts: Sequence[ev.Usage]) -> ev.Usage:
    """The sum of the counts of several provider calls, with the metadata of the newest."""

    def add(name: str) -> int | None:
        known = [count for each in counts if (count := getattr(each, name)) is not None]
        return sum(known) if known else None

    names = (name for name in ev.Usage.__struct_fields__ if name.endswith("_tokens"))
    return ev.Usage(
        **{name: add(name) for name in names},
        estimated=any(each.estimated for each in counts),
        provider_metadata=counts[-1].provider_metadata if counts else None,
    )


def _is_media(name: str, value: object, *, of: Mapping[str, Any]) -> bool:
    if name == _AUDIO:
        return isinstance(value, Mapping)
    is_file = isinstance(value, str) and (of.get("type") == "base64" or value.startswith(_MEDIA_URLS))
    return name in _MEDIA and is_file
