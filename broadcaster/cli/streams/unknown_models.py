"""What a command prints when no route serves its model: the model, and those that the front-end lists."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.client import AsyncClient, ClientError

_NAMED_AT_MOST: Final = 5
_LONGEST_NAME: Final = 200


async def unknown_model(client: AsyncClient, error: ClientError, model: str | None) -> CommandFailed | None:
    """The failure of the command; None if the error is another one, or the models cannot be listed now."""
    if error.code != "unknown_model" or model is None:
        return None
    try:
        known = await client.models()
    except ClientError:
        return None  # the command fails with the first error
    name = model if len(model) <= _LONGEST_NAME else f"{model[:_LONGEST_NAME]}…"
    text = f"unknown_model: no route serves the model {name!r}; {describe_models(known, name)}"
    return CommandFailed(f"{text}; choose another --model, or add a route with BROADCASTER_ROUTES", ExitCode.FAILED)


def describe_models(known: Sequence[str], name: str) -> str:
    """How many there are, and those that resemble the name, or else the first ones."""
    if not known:
        return "the front-end lists no models"
    near = get_close_matches(name, known, n=_NAMED_AT_MOST)
    if near:
        return f"the nearest of the {len(known)} listed: {', '.join(near)}"
    more = ", …" if len(known) > _NAMED_AT_MOST else ""
    return f"{len(known)} listed: {', '.join(known[:_NAMED_AT_MOST])}{more}"
