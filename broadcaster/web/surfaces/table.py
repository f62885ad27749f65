"""The table of surfaces: their routes, the tags they are listed under, and the shape of errors below their paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from starlette.datastructures import Headers

from broadcaster.web.documents.problem_shapes import ErrorShape, is_below
from broadcaster.web.route_table import RouteTable
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


class Surface(NamedTuple):
    """``paths``: errors below them have this ``shape``, also where no route of the surface matches.

    A surface without paths leaves unmatched requests to ``shape_elsewhere``.
    """

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
        "The chat transport of the Vercel AI SDK: `useChat` works unchanged.",
    ),
    Surface(
        openai_chat.routes,
        (openai_chat.PATH,),
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
    Surface(
        passed_calls.routes,
        (),
        openai_error,
        passed_calls.TAG,
        "Embeddings and legacy completions, passed to the provider of the model unchanged.",
    ),
    Surface(
        token_counts.messages_routes,
        (),
        anthropic_messages.shape_error,
        token_counts.MESSAGES_TAG,
        "The tokens of a Messages request: counted by its provider, or estimated.",
    ),
    Surface(
        token_counts.responses_routes,
        (),
        openai_error,
        token_counts.RESPONSES_TAG,
        "The tokens of a Response's input: counted by its provider, or estimated.",
    ),
    Surface(models.routes, (), openai_error, models.TAG, "The models, for the SDKs of OpenAI and of Anthropic."),
    Surface(ag_ui.routes, (ag_ui.PATH,), ag_ui.ag_ui_error, "ag-ui", "AG-UI: `HttpAgent` works unchanged."),
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

_SDK_PREFIX: Final = "/v1"
_OWN_PATHS: Final = ("/v1/generations", "/v1/streams")
_ANTHROPIC_HEADERS: Final = ("anthropic-version", "x-api-key")


def shape_elsewhere(path: str, headers: Headers) -> ErrorShape | None:
    """The shape of errors outside the surfaces, for SDKs that call routes of their API that this server does not have.

    None: a path of our own, or outside every API.
    """
    if not is_below(path, _SDK_PREFIX) or any(is_below(path, own) for own in _OWN_PATHS):
        return None
    is_anthropic = any(name in headers for name in _ANTHROPIC_HEADERS)
    return anthropic_messages.shape_error if is_anthropic else openai_error
