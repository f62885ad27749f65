"""The checks before the app sees a request: pure ASGI layers, which do not touch response bodies.

    RequestId      every response has ``x-request-id``: the caller's own when it is harmless, else a new one; and the
                   same under ``request-id``, where the Anthropic SDKs read it. No response is for caches
    NoWebSocket    a WebSocket handshake is answered with 426 (RFC 9110, 15.5.22), except at the path of a stream:
                   every other response here is plain HTTP
    LoopbackGuard  while AUTH is off: Host and Origin must be this machine, and foreign pages only link here, except
                   those that the operator listed (cors.py)

Why LoopbackGuard. Without keys the loopback address is the only lock, and a browser on this machine walks through it:
a page may post a form to http://127.0.0.1 (CSRF, visible in Origin), or have its own host name resolve to 127.0.0.1 and
then read the responses too (DNS rebinding, visible in Host). A GET of a page's <img> has Sec-Fetch-Site alone:
the page cannot read the response, but it would hold a viewer's place, and keep a generation from being abandoned.
What a body must be is the routes' own rule, wherever they are mounted (json_body.py).

Why no cache. Caches between a front-end and its clients may store only files of the page, which carry their own header.
RFC 9111 keeps a shared cache from storing the response to a request with ``Authorization``. It does not mention
``x-api-key``: a cache with a default lifetime would give one tenant's list to another.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.web.documents.problems import problem_response
from broadcaster.web.guards.cors import is_allowed_origin
from broadcaster.web.guards.request_counts import RequestCounts
from broadcaster.web.viewing.handshake import handshake_of

REQUEST_ID_HEADER: Final = "x-request-id"
ANTHROPIC_REQUEST_ID_HEADER: Final = "request-id"

_CREDENTIALS: Final = "authorization, x-api-key"

_STREAM_WEBSOCKET: Final = re.compile(r"/v1/streams/[^/]+/ws")
_SERVED: Final = {"upgrade": "HTTP/1.1", "connection": "upgrade"}
"""The protocol that a 426 must name (RFC 9110, 15.5.22)."""

_HARMLESS_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_REQUEST_ID: Final = REQUEST_ID_HEADER.encode()
_ANTHROPIC_REQUEST_ID: Final = ANTHROPIC_REQUEST_ID_HEADER.encode()
_FROM_ANOTHER_SITE: Final = (b"sec-fetch-site", b"cross-site")
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
_OWN_FIELDS: Final = frozenset({_REQUEST_ID, _ANTHROPIC_REQUEST_ID, _NO_SNIFFING[0]})
"""Of every response; what a route or a layer has set there is replaced."""
_OF_HANDSHAKES: Final = frozenset({b"sec-websocket-key", b"upgrade"})
# The port is the client's view of it (a forwarded port differs from ours), so any will do.
_AUTHORITY: Final = r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?"
_LOOPBACK_HOST: Final = re.compile(_AUTHORITY, re.ASCII | re.IGNORECASE)
_LOOPBACK_ORIGIN: Final = re.compile(f"https?://{_AUTHORITY}", re.ASCII | re.IGNORECASE)


class RequestId:
    """Names and counts every request; the name is in ``scope["state"]["request_id"]`` and in the response's header."""

    def __init__(self, app: ASGIApp, counts: RequestCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = name_request(scope)

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts.add(scope["path"], message["status"])
                message["headers"] = named_fields(message["headers"], request_id)
            await send(message)

        await self._app(scope, receive, naming)


def name_request(scope: Scope) -> bytes:
    """The request's id, which its scope has from here on."""
    given = next((value for name, value in scope["headers"] if name == _REQUEST_ID), b"")
    request_id = given if _HARMLESS_ID.fullmatch(given) else b"req_%b" % secrets.token_hex(8).encode()
    scope.setdefault("state", {})["request_id"] = request_id.decode()
    return request_id


def named_fields(fields: Iterable[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a response with those that every response has."""
    others = [field for field in fields if field[0] not in _OWN_FIELDS]
    return kept_from_caches([*others, (_REQUEST_ID, request_id), (_ANTHROPIC_REQUEST_ID, request_id), _NO_SNIFFING])


class NoWebSocket:
    """Answers a WebSocket handshake with 426, before any other check, but for those that the route of a stream serves.

    Clients that try a WebSocket first (Codex) read 426 as "use HTTP", and any other status as a failure to repeat. A
    proxy that removes ``Upgrade`` leaves the key of the handshake.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_offered(scope) and not is_of_stream(scope):
            detail = "no WebSocket is served here; send the request over HTTP and read the answer as server-sent events"
            await problem_response("websocket_not_served", detail, headers=_SERVED)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class LoopbackGuard:
    """Refuses (1) a Host that is foreign, missing or sent twice, (2) an Origin that is neither loopback nor listed,
    (3) a fetch that a page of another site makes a browser do, except a link that opens here in its own tab."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = _refusal_of(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(*refusal)(scope, receive, send)


def admit_loopback(scope: Scope) -> Scope | None:
    """The scope that the app gets behind the guard, which is the same; None: the request is refused."""
    return scope if _refusal_of(scope) is None else None


def _refusal_of(scope: Scope) -> tuple[str, str] | None:
    """Code and detail; see LoopbackGuard."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    if len(hosts) != 1 or not is_loopback_host(hosts[0]):
        return "forbidden_host", "without keys only the hosts 127.0.0.1, localhost and [::1] are served"
    if not is_allowed_origin(scope) and not all(map(is_loopback_origin, origins)):
        detail = "without keys only pages of this machine may call, and those of BROADCASTER_CORS_ORIGINS"
        return "forbidden_origin", detail
    if not origins and _is_fetched_by_another_site(scope):
        return "forbidden_origin", "without keys a page of another site may link here, and not fetch"
    return None


def kept_from_caches(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers with ``cache-control: no-store`` unless they have one, and JSON with what it depends on (``vary``)."""
    kept = list(fields)
    values = dict(kept)
    if b"cache-control" not in values:
        kept.append((b"cache-control", b"no-store"))
    if values.get(b"content-type", b"").partition(b";")[0].endswith(b"json"):
        MutableHeaders(raw=kept).add_vary_header(_CREDENTIALS)
    return kept


def uncached(send: Send) -> Send:
    """``send`` for an app that is not ours: it marks each response as not to be cached."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = kept_from_caches(message["headers"])
        await send(message)

    return sending


def is_of_stream(scope: Scope) -> bool:
    """Whether this is the path of a stream's WebSocket in our own app."""
    return _STREAM_WEBSOCKET.fullmatch(scope["path"].removeprefix(scope.get("root_path", ""))) is not None


def _is_offered(scope: Scope) -> bool:
    if handshake_of(scope) is not None:
        return True
    return any(_is_of_handshake(*field) for field in scope["headers"] if field[0] in _OF_HANDSHAKES)


def _is_of_handshake(name: bytes, value: bytes) -> bool:
    """Whether a header belongs to a WebSocket handshake (RFC 6455, 4.1)."""
    return name == b"sec-websocket-key" or (name == b"upgrade" and value.lower() == b"websocket")


def is_loopback_host(host: str) -> bool:
    """Whether a Host header names this machine's loopback, with any port."""
    return _LOOPBACK_HOST.fullmatch(host) is not None


def is_loopback_origin(origin: str) -> bool:
    """Whether an Origin header is a page of this machine; ``null`` (a sandboxed frame, a file) is not."""
    return _LOOPBACK_ORIGIN.fullmatch(origin) is not None


def _is_fetched_by_another_site(scope: Scope) -> bool:
    """https://www.w3.org/TR/fetch-metadata/ : pages cannot set these, and no other client sends them."""
    if not any(field == _FROM_ANOTHER_SITE for field in scope["headers"]):
        return False
    headers, method = Headers(scope=scope), scope.get("method", "GET")
    is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest", "document") == "document"
    return not (is_link and method in ("GET", "HEAD"))
