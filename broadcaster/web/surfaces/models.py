"""``GET /v1/models``: the models, for the SDKs of OpenAI and of Anthropic.

Rules
1. The default model and the names of the routes are listed. So is each name of a provider's own list that a route leads
   to that provider (core/providers/listed_models.py). A worker reads these lists. Without a list, or without
   Redis, the names and patterns of the routes remain. Every name that a route serves can be looked up, listed or
   not.
2. The response to a request with the header ``anthropic-version`` has the shape of Anthropic's API, any other OpenAI's.
   That holds for errors too.
3. All models are on the first page, also with a lower limit in the request.
4. HEAD responds as GET does, without a body.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias

from fastapi import Header, Path, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers

from broadcaster.core.providers.listed_models import RequestableModel, requestable, requestable_as
from broadcaster.web.documents.problem_shapes import ErrorShape, json_content
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.surfaces import anthropic_messages
from broadcaster.web.surfaces.openai_errors import openai_error

_ANTHROPIC_HEADER: Final = "anthropic-version"


def _error_shape(headers: Headers) -> ErrorShape:
    return anthropic_messages.shape_error if _ANTHROPIC_HEADER in headers else openai_error


routes = RouteTable(
    prefix="/v1",
    tag="models",
    description="The models, for the SDKs of OpenAI and of Anthropic.",
    errors=openai_error,
    errors_for=_error_shape,
)

_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: json_content("In the shape of the OpenAI API, or of Anthropic's"),
    "default": json_content("An error in the shape of that API", required=["error"]),
}

AnthropicVersion: TypeAlias = Annotated[
    str | None,
    Header(alias=_ANTHROPIC_HEADER, description="any value: the response has the shape of Anthropic's API"),
]
Name: TypeAlias = Annotated[str, Path(description="a name, with its slashes if it has some")]


@routes.head("/models", responses=_RESPONSES, include_in_schema=False)
@routes.get(
    "/models",
    summary="The models that can be requested by name",
    response_class=JSONResponse,
    responses=_RESPONSES,
)
async def list_models(here: Here, anthropic_version: AnthropicVersion = None) -> dict[str, Any]:
    """The default model, those with a route of their own, and what the providers list; a pattern may serve more."""
    services = here.services
    models = requestable(services.routes, await services.model_lists(), default=services.default_model)
    if anthropic_version is None:
        return {"object": "list", "data": list(map(_openai_model, models))}
    ends = {"first_id": models[0].name, "last_id": models[-1].name}
    return {"data": list(map(_anthropic_model, models)), "has_more": False, **ends}


@routes.head("/models/{model:path}", responses=_RESPONSES, include_in_schema=False)
@routes.get(
    "/models/{model:path}",
    summary="One model",
    responses=_RESPONSES,
)
async def get_model(here: Here, model: Name, anthropic_version: AnthropicVersion = None) -> Response:
    """The facts of the model of this name, if a route serves it."""
    services = here.services
    shape = _openai_model if anthropic_version is None else _anthropic_model
    return JSONResponse(shape(requestable_as(services.routes, await services.model_lists(), model)))


def _openai_model(model: RequestableModel) -> dict[str, Any]:
    """``created`` 0: the provider names no date. ``owned_by`` is then our name of the provider."""
    listed = model.listed
    owner = listed.owner or model.provider
    return {"id": model.name, "object": "model", "created": listed.created or 0, "owned_by": owner}


def _anthropic_model(model: RequestableModel) -> dict[str, Any]:
    """``created_at`` 1970-01-01T00:00:00Z: in this API the date of a model without a known one."""
    listed = model.listed
    created = f"{datetime.fromtimestamp(listed.created or 0, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"type": "model", "id": model.name, "display_name": listed.name or model.name, "created_at": created}
