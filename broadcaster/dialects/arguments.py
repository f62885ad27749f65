"""The arguments of calls, which are JSON in a text: their values have a bound.

A body's values are counted where it is read (web/guards/json_body.py), and a text in it is one of them. A text of 4 MB
can hold a million lists, which would block the loop of every process that parses it.

Rules
1. The calls of one request share the bound, and so do those of one answer: a thousand texts of 4 KB cost what one of
   4 MB does.
2. The values are counted before they are built. A text that does not fit takes nothing from the calls after it.
3. Nesting has the bound of a body.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broadcaster.core.requests.json_values import MAX_LEVELS, exact_count, is_deeper

MAX_ARGUMENT_VALUES: Final = 100_000
"""As many as a body has by default (``MAX_BODY_VALUES``)."""

_decoder: Final = msgspec.json.Decoder()


class UnparsedArguments(ValueError):
    """Arguments that are not parsed; its text completes the sentence "the tool's arguments …"."""


class ArgumentsReader:
    """Reads the arguments of the calls of one request, or of one answer."""

    def __init__(self) -> None:
        self._values_left = MAX_ARGUMENT_VALUES

    def parse(self, text: str) -> Any:
        """The value in the text. Raises UnparsedArguments: (1) too many values, (2) not JSON, (3) nested too deeply."""
        if not self.admit(text):
            raise UnparsedArguments(f"hold more than {MAX_ARGUMENT_VALUES} values")
        try:
            parsed = _decoder.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnparsedArguments(f"are not valid JSON: {error}") from error
        if is_deeper(text.encode(), MAX_LEVELS):
            raise UnparsedArguments("are nested too deeply")
        return parsed

    def admit(self, text: str) -> bool:
        """Whether the values of the text fit beside those that were admitted before; if so, they count from now on."""
        values = exact_count(text.encode(), most=self._values_left)
        if values > self._values_left:
            return False
        self._values_left -= values
        return True
