"""``GET /v1/models``: the models, for the SDKs of OpenAI and of Anthropic.

Rules
1. Models are known by their routes: those that a pattern serves cannot be listed, but every name can be looked up.
2. A request with the header ``anthropic-version`` is answered in the words of Anthropic's API, any other in OpenAI's.
3. All models are on the first page, whatever the limit that the client sends.
4. HEAD answers as GET does; the server sends no body.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

from fastapi import Header, Path, Response
from fastapi.responses import JSONResponse

from broadcaster.errors import UnknownModel
from broadcaster.web.problem_shapes import reshape
from broadcaster.web.problems import answer_error
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services, ServicesHere
from broadcaster.web.surfaces import anthropic_messages
from broadcaster.web.surfaces.openai_errors import openai_error

TAG: Final = "models"
_UNKNOWN_DATE: Final = "1970-01-01T00:00:00Z"
"""What Anthropic's API names where the date of a release is not known."""

routes = RouteTable(prefix="/v1", tags=[TAG], errors=openai_error)

_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "In the shape of the OpenAI API, or of Anthropic's",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    "default": {
        "description": "An error in the shape of that API",
        "content": {"application/json": {"schema": {"type": "object", "required": ["error"]}}},
    },
}

AnthropicVersion: TypeAlias = Annotated[
    str | None, Header(alias="anthropic-version", description="any value: the answer has the shape of Anthropic's API")
]
Name: TypeAlias = Annotated[str, Path(description="a name, with its slashes if it has some")]


@routes.head("/models", operation_id="list_models", responses=_RESPONSES, include_in_schema=False)
@routes.get(
    "/models",
    summary="The models that can be asked for by name",
    operation_id="list_models",
    response_class=JSONResponse,
    responses=_RESPONSES,
)
async def list_models(services: ServicesHere, anthropic_version: AnthropicVersion = None) -> dict[str, Any]:
    """The default model, and those that have a route of their own; patterns serve more."""
    names = list(dict.fromkeys((services.default_model, *services.routes.names)))
    if anthropic_version is None:
        return {"object": "list", "data": [_openai_model(services, name) for name in names]}
    models = [_anthropic_model(services, name) for name in names]
    return {"data": models, "has_more": False, "first_id": names[0], "last_id": names[-1]}


@routes.head("/models/{model:path}", operation_id="get_model", responses=_RESPONSES, include_in_schema=False)
@routes.get(
    "/models/{model:path}",
    summary="One model",
    operation_id="get_model",
    response_class=JSONResponse,
    responses=_RESPONSES,
)
async def get_model(services: ServicesHere, model: Name, anthropic_version: AnthropicVersion = None) -> Response:
    """Whether some route serves a model of this name."""
    if anthropic_version is None:
        return JSONResponse(_openai_model(services, model))
    try:
        return JSONResponse(_anthropic_model(services, model))
    except UnknownModel as unknown:
        return reshape(answer_error(unknown), anthropic_messages.shape_error)


def _openai_model(services: Services, name: str) -> dict[str, Any]:
    """Raises UnknownModel. When a model was made is not known here."""
    return {"id": name, "object": "model", "created": 0, "owned_by": services.routes.provider_for(name)}


def _anthropic_model(services: Services, name: str) -> dict[str, Any]:
    """Raises UnknownModel."""
    services.routes.provider_for(name)
    return {"type": "model", "id": name, "display_name": name, "created_at": _UNKNOWN_DATE}
