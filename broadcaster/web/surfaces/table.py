"""The table of surfaces, and the shape of errors below their paths, also where no route of the surface matches."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers

from broadcaster.web.documents.problem_shapes import ErrorShape, is_below
from broadcaster.web.surfaces import (
    ag_ui,
    ai_sdk_chat,
    anthropic_messages,
    models,
    openai_chat,
    openai_responses,
    passed_calls,
    token_counts,
)
from broadcaster.web.surfaces.openai_errors import openai_error

SURFACES: Final = (
    ai_sdk_chat.routes,
    openai_chat.routes,
    anthropic_messages.routes,
    passed_calls.routes,
    token_counts.messages_routes,
    token_counts.responses_routes,
    models.routes,
    ag_ui.routes,
    openai_responses.routes,
)

_SDK_PREFIX: Final = "/v1"
"""Several surfaces have their routes right below it."""
_SDK_NAMES: Final = frozenset(
    row.path.split("/")[2] for routes in SURFACES for row in routes if is_below(row.path, _SDK_PREFIX)
)
"""The first parts of their paths: an SDK whose base_url lacks the prefix calls these at the root."""
_OWN_PATHS: Final = (
    *("/v1/generations", "/v1/streams", "/v1/tokens"),
    *("/v1/usage", "/v1/admin", "/v1/caller", "/v1/demo"),
)
_BELOW_OWN_PATHS: Final = tuple(f"{path}/" for path in _OWN_PATHS)
_ANTHROPIC_HEADERS: Final = ("anthropic-version", "x-api-key")


def shape_of(path: str, headers: Headers) -> ErrorShape | None:
    """The shape of errors at a path: its surface's, or that of the SDK which calls a route that this server lacks.

    None: a path of our own, or outside every API.
    """
    if path.startswith(_BELOW_OWN_PATHS) or path in _OWN_PATHS:
        return None
    for routes in SURFACES:
        if routes.prefix != _SDK_PREFIX and is_below(path, routes.prefix):
            return routes.errors
    if not is_below(path, _SDK_PREFIX) and path.removeprefix("/").split("/")[0] not in _SDK_NAMES:
        return None
    is_anthropic = any(name in headers for name in _ANTHROPIC_HEADERS)
    return anthropic_messages.shape_error if is_anthropic else openai_error
