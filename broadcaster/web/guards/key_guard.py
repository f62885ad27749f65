"""The check of keys and viewer tokens while AUTH is ``keys``: a pure ASGI layer, before any body is read.

Rules
1. Every path needs a credential, except those without data of a tenant: the health of this process, the files of the
   page and of ``/docs``, and the API's description, which is the same everywhere (a browser that opens ``/docs`` sends
   no key).
2. A key comes in ``Authorization: Bearer`` or in ``x-api-key``, and nowhere else: a cookie is sent by foreign pages too
   (so Host and Origin are not checked for keys), and a query is written into logs. A viewer token may also stand in the
   query or in a cookie (tokens/presented.py).
3. Two credentials that differ are refused: a proxy before us may have checked the one that we do not use.
4. The caller is in ``scope["broadcaster.caller"]``, its tenant in ``scope["state"]["tenant"]``. The credential itself
   goes no further: nothing behind this layer can log it, or send it on. What the caller may do is decided where the
   route is known (callers.py).
5. A credential that cannot be judged yet, because Redis has not answered since the start, is refused with 503; an
   EventSource, which would stop for good, receives 200, ``retry`` and a close.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final, NamedTuple

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from broadcaster.core.access.callers import CALLER_KEY, Caller
from broadcaster.errors import BroadcasterError, LogUnavailable
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.web.documents.problem_table import ForbiddenOrigin
from broadcaster.web.documents.problems import error_response, problem_response
from broadcaster.web.guards.credentials import Credentials, ListUnread
from broadcaster.web.guards.tokens.presented import (
    cookie_tokens,
    is_of_own_page,
    query_tokens,
    without_token_cookies,
)
from broadcaster.web.viewing.sse import EventStreamResponse

_OPEN: Final = frozenset({"/", "/healthz", "/readyz", "/docs", "/openapi.json"})
_STATIC_FILE: Final = re.compile(r"/(console(/[a-zA-Z0-9_-]+)*|docs)/[^/]+\.[a-z0-9]+")
_EVENTS: Final = re.compile(r"/v1/streams/[^/]+/events")
_RETRY: Final = b"retry: 2000\n\n"
_JWT: Final = re.compile(rb"eyJ[\w-]*\.[\w-]*\.[\w-]*", re.ASCII)
_BEARER: Final = re.compile(rb"bearer +(?P<key>\S.*)", re.IGNORECASE)
_CREDENTIALS: Final = frozenset({b"authorization", b"x-api-key"})

# RFC 6750, section 3: an error only when there were credentials.
_REFUSALS: Final = {
    "": "no key was sent: authorization: Bearer <key>, or x-api-key: <key>",
    "invalid_token": "this front-end does not know the key",
    "invalid_request": "two keys or tokens were sent, and they differ: send one",
}
_FOREIGN_PAGE: Final = (
    "the cookie with the token counts for pages of this host and of BROADCASTER_CORS_ORIGINS alone; "
    "other clients send the token as a bearer, or as ?token="
)


class _Unadmitted(Exception):
    """No credential counts; ``error`` is one of RFC 6750, or empty."""

    def __init__(self, error: str) -> None:
        self.error = error


class _Presented(NamedTuple):
    """The one credential of a request, and as what it was sent."""

    credential: bytes
    is_key: bool
    is_token: bool


class KeyGuard:
    """401 for (1) no credential, (2) two that differ, (3) one that is unknown, expired or revoked; 403 for (4) a cookie
    that a foreign page sent."""

    def __init__(self, app: ASGIApp, *, credentials: Credentials) -> None:
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or _is_open(scope):
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._credentials.judged(partial(_caller_of, _presented(scope)))
        except (_Unadmitted, BroadcasterError) as fault:
            await _refusal(scope, fault)(scope, receive, send)
            return
        await self._app(_admitted(scope, caller), receive, send)


def admit_by_key(scope: Scope, credentials: Credentials) -> Scope | None:
    """The scope that the app gets behind the guard; None: the request is refused, or must wait for its credential."""
    try:
        return _admitted(scope, _caller_of(_presented(scope), credentials))
    except (_Unadmitted, BroadcasterError, ListUnread):
        return None


def _presented(scope: Scope) -> _Presented:
    """The request's credential; a token of its query is forgotten. Raises _Unadmitted, ForbiddenOrigin."""
    keys, tokens, cookies = _keys(scope), query_tokens(scope), cookie_tokens(scope)
    if cookies and is_of_own_page(scope):
        tokens |= cookies
    elif cookies and not (keys or tokens):
        raise ForbiddenOrigin(_FOREIGN_PAGE)
    credentials = keys | tokens
    if len(credentials) != 1:
        raise _Unadmitted("invalid_request" if credentials else "")
    (credential,) = credentials
    return _Presented(credential, credential in keys, credential in tokens)


def _caller_of(presented: _Presented, credentials: Credentials) -> Caller:
    """Raises _Unadmitted, TokenInvalid, TokenExpired, TokenRevoked, ListUnread."""
    credential = presented.credential
    caller = credentials.caller_of(credential) if presented.is_key else None
    if caller is None and (presented.is_token or _JWT.fullmatch(credential)):
        caller = credentials.holder_of(credential.decode("latin-1"))
    if caller is None:
        raise _Unadmitted("invalid_token")
    return caller


def _admitted(scope: Scope, caller: Caller) -> Scope:
    """The scope without the credential (rule 4)."""
    scope.setdefault("state", {})["tenant"] = caller.tenant
    scope[CALLER_KEY] = caller  # in the scope that the layers outside see, too: they log its name
    return {**scope, "headers": _without_credentials(scope)}


def _is_open(scope: Scope) -> bool:
    path = _path(scope)
    return path in _OPEN or _STATIC_FILE.fullmatch(path) is not None


def _refusal(scope: Scope, fault: _Unadmitted | BroadcasterError) -> Response:
    challenge = 'Bearer realm="broadcaster"'
    if isinstance(fault, _Unadmitted):
        challenge += f', error="{fault.error}"' if fault.error else ""
        return problem_response("unauthorized", _REFUSALS[fault.error], headers={"www-authenticate": challenge})
    if isinstance(fault, LogUnavailable) and scope.get("method") == "GET" and _EVENTS.fullmatch(_path(scope)):
        return EventStreamResponse(Refused(StopReason.LOG_UNAVAILABLE, _RETRY))
    response = error_response(fault)
    if response.status_code == 401:
        response.headers["www-authenticate"] = f'{challenge}, error="invalid_token"'
    return response


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


def _without_credentials(scope: Scope) -> list[tuple[bytes, bytes]]:
    headers = []
    for name, value in scope["headers"]:
        if name == b"cookie":
            value = without_token_cookies(value)
        if name not in _CREDENTIALS and (value or name != b"cookie"):
            headers.append((name, value))
    return headers


def describe_keys(document: dict[str, Any]) -> None:
    """Document in OpenAPI that calls need a key, in either of two headers, and which calls do not."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "a key of this front-end, or a viewer token"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "the same key"},
        "token": {"type": "apiKey", "in": "query", "name": "token", "description": "a viewer token"},
    }
    document["security"] = [{"bearer": []}, {"apiKey": []}, {"token": []}]
    for path, operations in document["paths"].items():
        if path in _OPEN:
            for operation in operations.values():
                operation["security"] = []
