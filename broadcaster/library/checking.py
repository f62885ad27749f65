"""What a caller gives, held to the schemas of the HTTP routes: one set of rules, whichever way it comes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from broadcaster.errors import InvalidInput
from broadcaster.log.feeds import FeedConfig
from broadcaster.web.feed_schemas import FeedBody

_Model = TypeVar("_Model", bound=BaseModel)


def checked(schema: type[_Model], fields: Mapping[str, Any]) -> _Model:
    """The fields as their schema has them; None is what was not given. Raises InvalidInput, which names the fields."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = (".".join(map(str, fault["loc"])) + f": {fault['msg']}".replace("Value error, ", "") for fault in faults)
        raise InvalidInput("; ".join(each.removeprefix(": ") for each in told)) from None


def feed_config(fields: Mapping[str, Any], *, lease_s: float | None) -> FeedConfig:
    """How a feed is kept. Raises InvalidInput; what a lease may be is the log's to say."""
    return replace(FeedConfig(**checked(FeedBody, fields).model_dump()), lease_s=lease_s)
