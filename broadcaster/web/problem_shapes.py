"""Our problems in the shape of somebody else's API: a surface's clients read its own error documents.

A shape is pure: the problem document (RFC 9457, problems.py) → that API's status, body and headers. It is applied to
whatever leaves a surface's path as a problem: what its route answers, wherever that is mounted (route_table.py), and
in our own app also what the layers around it say (keys, Host, a body too large, 404, 405, unexpected errors).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.web.problems import MEDIA_TYPE

# What the problem's own response said that holds for any body.
_KEPT: Final = ("allow", "cache-control", "retry-after", "www-authenticate", "broadcaster-generation-id")


class ShapedError(NamedTuple):
    """What is answered in a problem's place; ``headers`` come on top of the problem's own."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = {}


ErrorShape = Callable[[Mapping[str, Any]], ShapedError]
"""Problem document (``status``, ``code``, ``detail``, ``retry``, ``errors``) → the surface's own."""


def reshape(response: Response, shape: ErrorShape) -> Response:
    """The response in this shape if it is a problem, else as it is."""
    if not _is_problem(response.headers):
        return response
    return _answer(shape, bytes(response.body), response.headers)


def shaped_responses(
    responses: Mapping[int | str, Mapping[str, Any]], shape: ErrorShape
) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI ``responses`` of a route whose problems are answered in this shape: its examples say how."""
    shaped = {status: dict(response) for status, response in responses.items() if not _documents_problem(response)}
    for status, response in responses.items():
        if not _documents_problem(response):
            continue
        if status == "default":
            shaped[status] = _documented(str(response["description"]))
        for code, example in response["content"][MEDIA_TYPE]["examples"].items():
            error = shape(example["value"])
            entry = shaped.setdefault(error.status, _documented(str(response["description"])))
            examples = entry["content"]["application/json"].setdefault("examples", {})
            examples[code] = {**example, "value": error.body}
    return shaped


def _documents_problem(response: Mapping[str, Any]) -> bool:
    return MEDIA_TYPE in response.get("content", {})


def _documented(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"type": "object"}}}}


class ShapedProblems:
    """Pure ASGI: problems below certain paths are answered in the shape that belongs there."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        shapes: Sequence[tuple[str, ErrorShape]],
        elsewhere: Callable[[str, Headers], ErrorShape | None],
    ) -> None:
        """``shapes``: path, and what it is answered in; a path holds for what is below it too, the first one counts.

        ``elsewhere`` gives the shape for every other path, by the path and the request's headers.
        """
        self._app = app
        self._shapes = shapes
        self._elsewhere = elsewhere

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shape = self._shape_of(scope) if scope["type"] == "http" else None
        if shape is None:
            await self._app(scope, receive, send)
            return
        held = _Held(shape, scope, receive=receive, send=send)
        await self._app(scope, receive, held.forward)

    def _shape_of(self, scope: Scope) -> ErrorShape | None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        found = next((shape for at, shape in self._shapes if is_below(path, at)), None)
        return found or self._elsewhere(path, Headers(scope=scope))


def is_below(path: str, at: str) -> bool:
    """Whether it is this path, or one below it."""
    return path == at or path.startswith(f"{at}/")


class _Held:
    """Holds a problem back until its body is whole; everything else passes at once."""

    def __init__(self, shape: ErrorShape, scope: Scope, *, receive: Receive, send: Send) -> None:
        self._shape = shape
        self._scope = scope
        self._receive = receive
        self._send = send
        self._problem: Headers | None = None
        self._body = b""

    async def forward(self, message: Message) -> None:
        """Stands in ``send``'s place."""
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            if _is_problem(headers):
                self._problem = headers
                return
        elif self._problem is not None and message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await _answer(self._shape, self._body, self._problem)(self._scope, self._receive, self._send)
            return
        await self._send(message)


def _is_problem(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith(MEDIA_TYPE)


def _answer(shape: ErrorShape, body: bytes, headers: Mapping[str, str]) -> Response:
    shaped = shape(json.loads(body))
    kept = {name: headers[name] for name in _KEPT if name in headers}
    return JSONResponse(shaped.body, status_code=shaped.status, headers={**kept, **shaped.headers})
