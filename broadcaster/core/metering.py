"""How much the model has written, for the estimate of an answer whose output count never came."""

from __future__ import annotations

from typing import Final

BYTES_PER_TOKEN: Final = 4
"""For the estimate of an answer that was stopped: a token is about four UTF-8 bytes of English, and the error for
other languages is smaller than with characters (a Chinese character is three bytes and about one token)."""


class OutputMeter:
    """How much the model has written, for the estimate of an answer whose output count never came."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0

    def count(self, text: str) -> None:
        """Add the UTF-8 size of a piece that the model wrote."""
        self.bytes += len(text) if text.isascii() else len(text.encode())

    def estimated_tokens(self) -> int:
        """One token for every BYTES_PER_TOKEN bytes, rounded up."""
        return -(-self.bytes // BYTES_PER_TOKEN)
