"""Our problems in the shape of another API: the clients of a surface read the error documents of that API.

A shape is pure: the problem document (RFC 9457, problems.py) → that API's status, body and headers. It applies to every
problem below a surface's path: those of its routes, wherever they are mounted (route_table.py), and in our own app also
those of the layers around it (keys, Host, a body too large, 404, 405, unexpected errors).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.web.documents.problems import MEDIA_TYPE, CodedResponse

# Headers of the problem's response that stay valid with another body.
_KEPT: Final = (
    *("allow", "cache-control", "connection", "retry-after", "upgrade", "www-authenticate"),
    "broadcaster-generation-id",
)


class ShapedError(NamedTuple):
    """The response in a problem's place; ``headers`` are added to the problem's own."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = {}


ErrorShape = Callable[[Mapping[str, Any]], ShapedError]
"""Problem document (``status``, ``code``, ``detail``, ``retry``, ``errors``) → the surface's own."""
ShapeChoice = Callable[[Headers], ErrorShape]
"""The head of a request → the shape of its errors, at paths that the clients of several APIs call."""


def plain_error(problem: Mapping[str, Any]) -> ShapedError:
    """``{"error": …, "code": …}``, for clients that show the body of an error."""
    message = problem.get("detail") or problem.get("title") or problem["code"]
    return ShapedError(problem["status"], {"error": message, "code": problem["code"]})


def reshape(response: Response, shape: ErrorShape) -> Response:
    """The response in this shape if it is a problem, else as it is."""
    if not _is_problem(response.headers):
        return response
    return _shaped_response(shape, bytes(response.body), response.headers)


def shaped_responses(
    responses: Mapping[int | str, Mapping[str, Any]], shape: ErrorShape
) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI ``responses`` of a route whose problems have this shape, with examples in it."""
    shaped = {status: dict(response) for status, response in responses.items() if not _documents_problem(response)}
    for status, response in responses.items():
        if not _documents_problem(response):
            continue
        if status == "default":
            shaped[status] = json_content(str(response["description"]))
        for code, example in response["content"][MEDIA_TYPE]["examples"].items():
            error = shape(example["value"])
            entry = shaped.setdefault(error.status, json_content(str(response["description"])))
            examples = entry["content"]["application/json"].setdefault("examples", {})
            examples[code] = {**example, "value": error.body}
    return shaped


def _documents_problem(response: Mapping[str, Any]) -> bool:
    return MEDIA_TYPE in response.get("content", {})


def json_content(description: str, **schema: Any) -> dict[str, Any]:
    """The OpenAPI of a response with a JSON object; ``schema``: what else is known of the object."""
    return {"description": description, "content": {"application/json": {"schema": {"type": "object", **schema}}}}


class ShapedProblems:
    """Pure ASGI: problems below certain paths get the shape of their surface.

    ``shape_of`` gives the shape of a path, by the path and the request's headers; None: problems stay as they are.
    """

    def __init__(self, app: ASGIApp, *, shape_of: Callable[[str, Headers], ErrorShape | None]) -> None:
        self._app = app
        self._shape_of = shape_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shape = None
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            shape = self._shape_of(path, Headers(scope=scope))
        if shape is not None:
            send = _shaping(shape, scope, receive=receive, send=send)
        await self._app(scope, receive, send)


def is_below(path: str, at: str) -> bool:
    """Whether it is this path, or one below it."""
    return path == at or path.startswith(f"{at}/")


def _shaping(shape: ErrorShape, scope: Scope, *, receive: Receive, send: Send) -> Send:
    """``send`` that holds a problem back until its body is whole; everything else passes at once."""
    problem: Headers | None = None
    body = b""

    async def shaping(message: Message) -> None:
        nonlocal problem, body
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            if _is_problem(headers):
                problem = headers
                return
        elif problem is not None and message["type"] == "http.response.body":
            body += message.get("body", b"")
            if not message.get("more_body", False):
                await _shaped_response(shape, body, problem)(scope, receive, send)
            return
        await send(message)

    return shaping


def _is_problem(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith(MEDIA_TYPE)


def _shaped_response(shape: ErrorShape, body: bytes, headers: Mapping[str, str]) -> Response:
    problem = json.loads(body)
    shaped = shape(problem)
    kept = {name: headers[name] for name in _KEPT if name in headers}
    return CodedResponse(
        shaped.body, code=problem["code"], status_code=shaped.status, headers={**kept, **shaped.headers}
    )
