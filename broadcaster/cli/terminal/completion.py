"""What the shell offers after <Tab>: models from the routes, generations from the front-end.

The shell's prompt is blocked meanwhile: every completion has one second, and fails silently.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

import typer
from pydantic import ValidationError

from broadcaster.cli.running_up import front_end_url
from broadcaster.client import AsyncClient, ClientError, Generation
from broadcaster.settings import Settings

DEADLINE_S: Final = 1.0

_WILD: Final = re.compile(r"[*?[]")
_REGULAR: Final = "re:"


def complete_models(incomplete: str) -> list[str]:
    """The default model, and the name or the prefix of each pattern of the model routing."""
    try:
        settings = Settings()
    except ValidationError:
        return []
    stems = [_WILD.split(pattern, maxsplit=1)[0] for pattern in settings.routes if not pattern.startswith(_REGULAR)]
    return [each for each in dict.fromkeys((settings.default_model, *stems)) if each and each.startswith(incomplete)]


def complete_generations(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The ids that ``ls`` lists, each with its status and title."""
    try:
        settings = Settings()
        url = ctx.params.get("url") or front_end_url(settings, is_named="url" in settings.model_fields_set)
        found = asyncio.run(_list(url, settings.api_key))
    except (ValueError, ClientError, OSError, ImportError):
        return []
    return [(each.id, f"{each.status} {each.title}".strip()) for each in found if each.id.startswith(incomplete)]


async def _list(url: str, api_key: str | None) -> list[Generation]:
    async with asyncio.timeout(DEADLINE_S), AsyncClient(url, api_key, timeout_s=DEADLINE_S) as client:
        return list(await client.list())
