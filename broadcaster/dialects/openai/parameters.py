"""The parameters of a request on the wires of OpenAI, and what one of them is refused for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypeVar

from broadcaster.core.providers.model_routing import MAX_MODEL_CHARS
from broadcaster.dialects.reading import Json
from broadcaster.errors import InvalidInput

_Value = TypeVar("_Value")

UnknownParameters: TypeAlias = Literal["refuse", "drop", "pass"]
"""What happens to a body's unknown fields: they are refused, left out, or sent to the model's server."""

UNSUPPORTED: Final = "unsupported_parameter"
UNKNOWN: Final = "unknown_parameter"
MISSING: Final = "missing_required_parameter"
WRONG_TYPE: Final = "invalid_type"
WRONG_VALUE: Final = "invalid_value"
MAX_TOKENS: Final = 10_000_000
"""As for /v1/generations: more than any model writes."""
NO_BOUND: Final = "leave it out for an answer without a bound"


# A caller chooses the names of unknown fields.
_PARAM_CHARS: Final = 200


class BadParameter(InvalidInput):
    """``param`` cannot be served; ``api_code`` is the API's own code for the reason."""

    code = UNSUPPORTED

    def __init__(self, param: str, detail: str, *, api_code: str = UNSUPPORTED) -> None:
        self.param = param if len(param) <= _PARAM_CHARS else f"{param[:_PARAM_CHARS]}…"
        super().__init__(f"{self.param}: {detail}")
        self.api_code = api_code


class ItemNotFound(BadParameter):
    """``param`` names an item that is not stored, or has expired."""

    status = 404

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(param, detail, api_code="item_not_found")


class RequestFields:
    """The values of a body, each checked to be of the type that it must have. Every method raises BadParameter."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given

    def text(self, name: str) -> str | None:
        return self._of(name, str, "a text")

    def model(self) -> str | None:
        model = self.text("model")
        if model is not None and len(model) > MAX_MODEL_CHARS:
            detail = f"a model's name has at most {MAX_MODEL_CHARS} characters, not {len(model)}"
            raise BadParameter("model", detail, api_code=WRONG_VALUE)
        return model

    def flag(self, name: str) -> bool | None:
        return self._of(name, bool, "true or false")

    def object(self, name: str) -> Json:
        return dict(self._of(name, dict, "an object") or {})

    def items(self, name: str) -> list[Any]:
        return list(self._of(name, list, "a list") or [])

    def objects(self, name: str) -> list[Json]:
        found = self.items(name)
        for at, each in enumerate(found):
            if not isinstance(each, dict):
                raise BadParameter(f"{name}[{at}]", "must be an object", api_code=WRONG_TYPE)
        return found

    def texts(self, name: str) -> list[str]:
        found = self.items(name)
        if not all(isinstance(each, str) for each in found):
            raise BadParameter(name, "must be a list of texts", api_code=WRONG_TYPE)
        return found

    def number(self, name: str, *, most: float) -> float | None:
        value = self.given.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadParameter(name, "must be a number", api_code=WRONG_TYPE)
        if value is not None and not 0 <= value <= most:
            raise BadParameter(name, f"must be between 0 and {most:g}", api_code=WRONG_VALUE)
        return value

    def whole(self, name: str) -> int | None:
        """A whole number, or a flag: callers that distinguish them check that themselves."""
        return self._of(name, int, "a whole number")

    def _of(self, name: str, type: type[_Value], what: str) -> _Value | None:
        value = self.given.get(name)
        if value is not None and not isinstance(value, type):
            raise BadParameter(name, f"must be {what}", api_code=WRONG_TYPE)
        return value
