"""A caller's arguments, checked by the schemas of the HTTP routes: the library and HTTP have the same rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from broadcaster.core.requests.publishing import plain_copy
from broadcaster.errors import InvalidInput
from broadcaster.log.feeds.feeds import FeedConfig
from broadcaster.web.documents.feed_schemas import FeedBody
from broadcaster.web.documents.schemas import IDEMPOTENCY_KEY, MAX_IDEMPOTENCY_KEY_CHARS

_Model = TypeVar("_Model", bound=BaseModel)


def checked(schema: type[_Model], fields: Mapping[str, Any]) -> _Model:
    """The fields checked by their schema; None means not given. Raises InvalidInput, which names the fields."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        given = plain_copy(given)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        messages = (
            ".".join(map(str, fault["loc"])) + f": {fault['msg']}".replace("Value error, ", "") for fault in faults
        )
        raise InvalidInput("; ".join(each.removeprefix(": ") for each in messages)) from None


def feed_config(fields: Mapping[str, Any]) -> FeedConfig:
    """The configuration of a feed. Raises InvalidInput."""
    return FeedConfig(**checked(FeedBody, fields).model_dump(exclude_none=True))


def check_idempotency_key(key: str) -> None:
    """Raises InvalidInput when an HTTP header cannot hold the key: then HTTP could not repeat the call."""
    if len(key) > MAX_IDEMPOTENCY_KEY_CHARS or re.fullmatch(IDEMPOTENCY_KEY, key) is None:
        raise InvalidInput(f"idempotency_key: 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters of printable ASCII")
