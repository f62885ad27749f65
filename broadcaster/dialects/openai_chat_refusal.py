"""What a chat completions request is refused for: one parameter, by its name."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from broadcaster.errors import InvalidInput

UnknownParameters: TypeAlias = Literal["refuse", "drop", "pass"]
"""What becomes of a body's fields whose names are not known here: refused, left out, or sent to the model's server."""

UNSUPPORTED: Final = "unsupported_parameter"
UNKNOWN: Final = "unknown_parameter"
MISSING: Final = "missing_required_parameter"
WRONG_TYPE: Final = "invalid_type"
WRONG_VALUE: Final = "invalid_value"


class Refused(InvalidInput):
    """``param`` cannot be served; ``word`` is the API's own code for why."""

    code = UNSUPPORTED

    def __init__(self, param: str, detail: str, *, word: str = UNSUPPORTED) -> None:
        super().__init__(f"{param}: {detail}")
        self.param = param
        self.word = word


class ItemNotFound(Refused):
    """``param`` names an item that is not kept, or not any more."""

    status = 404

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(param, detail, word="item_not_found")
