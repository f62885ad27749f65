"""The check of keys while AUTH is ``keys``: a pure ASGI layer, before any body is read.

Rules
1. Every path needs a key, except those without data of a tenant: the health of this process, the files of the page and
   of ``/docs``, and the API's description, which is the same everywhere (a browser that opens ``/docs`` sends no key).
2. A key comes in ``Authorization: Bearer`` or in ``x-api-key``, and nowhere else: a cookie is sent by foreign pages too
   (so Host and Origin are not checked here), and a query is written into logs.
3. Two keys that differ are refused: a proxy before us may have checked the one that we do not use.
4. The key's caller is in ``scope["state"]["caller"]``, and its tenant in ``scope["state"]["tenant"]``. The key itself
   goes no further: nothing behind this layer can log it, or send it on. What the caller may do is decided where the
   route is known (callers.py).
5. A key that cannot be judged yet, because Redis has not answered since the start, is refused with 503; an EventSource,
   which would stop for good, receives 200, ``retry`` and a close.
"""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from broadcaster.errors import LogUnavailable
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.web.documents.problems import error_response, problem_response
from broadcaster.web.guards.credentials import Credentials
from broadcaster.web.viewing.sse import EventStreamResponse

_OPEN: Final = frozenset({"/", "/healthz", "/readyz", "/docs", "/openapi.json"})
_STATIC_FILE: Final = re.compile(r"/(console|docs)/[^/]+\.[a-z]+")
_EVENTS: Final = re.compile(r"/v1/streams/[^/]+/events")
_RETRY: Final = b"retry: 2000\n\n"
_BEARER: Final = re.compile(rb"bearer +(?P<key>\S.*)", re.IGNORECASE)
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})

# RFC 6750, section 3: an error only when there were credentials.
_REFUSALS: Final = {
    "": "no key was sent: authorization: Bearer <key>, or x-api-key: <key>",
    "invalid_token": "the key is none of this front-end's",
    "invalid_request": "two keys were sent, and they differ: send one",
}


class KeyGuard:
    """401 for (1) no key, (2) two that differ, (3) one that is unknown."""

    def __init__(self, app: ASGIApp, *, credentials: Credentials) -> None:
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or _is_open(scope):
            await self._app(scope, receive, send)
            return
        keys = _keys(scope)
        try:
            caller = await self._credentials.caller_of(next(iter(keys))) if len(keys) == 1 else None
        except LogUnavailable as fault:
            await _unknown_yet(scope, fault)(scope, receive, send)
            return
        if caller is None:
            error = "invalid_token" if len(keys) == 1 else "invalid_request" if keys else ""
            challenge = 'Bearer realm="broadcaster"' + (f', error="{error}"' if error else "")
            refusal = problem_response("unauthorized", _REFUSALS[error], headers={"www-authenticate": challenge})
            await refusal(scope, receive, send)
            return
        scope.setdefault("state", {}).update(tenant=caller.tenant, caller=caller)
        headers = [(name, value) for name, value in scope["headers"] if name not in _CREDENTIALS]
        await self._app({**scope, "headers": headers}, receive, send)


def _is_open(scope: Scope) -> bool:
    path = _path(scope)
    return path in _OPEN or _STATIC_FILE.fullmatch(path) is not None


def _unknown_yet(scope: Scope, error: LogUnavailable) -> Response:
    if scope["method"] == "GET" and _EVENTS.fullmatch(_path(scope)):
        return EventStreamResponse(Refused(StopReason.LOG_UNAVAILABLE, _RETRY))
    return error_response(error)


def _path(scope: Scope) -> str:
    return str(scope["path"].removeprefix(scope.get("root_path", "")))


def _keys(scope: Scope) -> set[bytes]:
    """The different keys that were sent. Empty values and other schemes are ignored."""
    found = set()
    for name, value in scope["headers"]:
        if name == b"authorization":
            bearer = _BEARER.fullmatch(value.strip())
            if bearer is not None:
                found.add(bearer["key"])
        elif name == b"x-api-key" and value.strip():
            found.add(value.strip())
    return found


def describe_keys(document: dict[str, Any]) -> None:
    """Document in OpenAPI that calls need a key, in either of two headers, and which calls do not."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "a key of this front-end"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "the same key"},
    }
    document["security"] = [{"bearer": []}, {"apiKey": []}]
    for path, operations in document["paths"].items():
        if path in _OPEN:
            for operation in operations.values():
                operation["security"] = []
