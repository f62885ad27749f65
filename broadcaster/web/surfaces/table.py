"""The table of surfaces: their routes, the tags they are listed under, and the shape of errors below their paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from broadcaster.web.problem_shapes import ErrorShape
from broadcaster.web.route_table import RouteTable
from broadcaster.web.surfaces import ag_ui, ai_sdk_chat, anthropic_messages, openai_chat, openai_responses
from broadcaster.web.surfaces.openai_errors import openai_error


class Surface(NamedTuple):
    """``paths``: what lies below them is answered in ``shape``, also what no route of the surface answers."""

    routes: RouteTable
    paths: Sequence[str]
    shape: ErrorShape
    tag: str
    description: str


SURFACES: Final = (
    Surface(
        ai_sdk_chat.routes,
        (ai_sdk_chat.PREFIX,),
        ai_sdk_chat.shape_error,
        "ai sdk",
        "The chat transport of the Vercel AI SDK: `useChat` works with it as it is.",
    ),
    Surface(
        openai_chat.routes,
        openai_chat.PATHS,
        openai_error,
        "chat completions",
        "This server as the `base_url` of the OpenAI SDKs.",
    ),
    Surface(
        anthropic_messages.routes,
        (anthropic_messages.PATH,),
        anthropic_messages.shape_error,
        "messages",
        "The Anthropic Messages API: point its SDKs' `base_url` here.",
    ),
    Surface(ag_ui.routes, (ag_ui.PATH,), ag_ui.ag_ui_error, "ag-ui", "AG-UI: `HttpAgent` works with it as it is."),
    Surface(
        openai_responses.routes,
        (openai_responses.PATH,),
        openai_error,
        openai_responses.TAG,
        "The Responses API of OpenAI: its SDKs work with this server as their `base_url`.",
    ),
)

SHAPES: Final = tuple((path, surface.shape) for surface in SURFACES for path in surface.paths)
"""See ``ShapedProblems``."""
