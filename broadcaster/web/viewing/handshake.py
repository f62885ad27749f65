"""A WebSocket handshake as the GET request that it is (RFC 6455, 4.1), for every layer, guard and route.

Rules
1. Credentials, origins, guards, limits and parameters are checked where they are checked for any request. Only the
   response knows that there is a WebSocket: ``handshake_of`` gives it what accepts, sends and closes.
2. A response with the status 101 accepts the handshake. Every other response refuses it: as HTTP where the server can
   (the ASGI extension ``websocket.http.response``). Elsewhere the handshake is accepted and closed at once, with a
   code and the problem's ``code`` as the reason: a server that refuses by itself would answer a bare 403.
3. A page of any origin may open a WebSocket, and the browser sends the cookies of the host with it. So in a host's app
   the ``Origin`` of a handshake must be the host's own, or listed; our own app has its own rules (guards/request.py,
   guards/tokens/presented.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, cast

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.web.documents.problem_table import ForbiddenOrigin
from broadcaster.web.viewing.client_connection import TRANSPORT_EXTENSION

SWITCHING: Final = 101
POLICY: Final = 1008
INTERNAL: Final = 1011
LATER: Final = 1013

# A key of the ASGI event ``websocket.send`` that our own runner knows: the next event continues the same message.
MORE_FOLLOWS: Final = "broadcaster.more_follows"

_EXTENSION: Final = "broadcaster.handshake"
_HTTP_REFUSAL: Final = "websocket.http.response"
_SCHEMES: Final = {"ws": "http", "wss": "https"}
_LATER_STATUSES: Final = frozenset({408, 425, 429, 502, 503, 504})
# A close frame has room for 123 bytes of reason.
_MAX_REASON: Final = 120
_MAX_PROBLEM_BYTES: Final = 64 * 2**10
_QUOTED_CHARS: Final = 100


class _RefusalBody(msgspec.Struct):
    code: str = ""


class Handshake:
    """The WebSocket behind one request."""

    __slots__ = ("_can_refuse", "_is_connected", "_receive", "_refusal", "_send", "_status", "has_fragments")

    def __init__(self, receive: Receive, send: Send, *, can_refuse: bool, has_fragments: bool) -> None:
        """``has_fragments``: the server sends a message in fragments, as our own runner does."""
        self.has_fragments = has_fragments
        self._receive = receive
        self._send = send
        self._can_refuse = can_refuse
        self._is_connected = False
        self._status = 0
        self._refusal = b""

    # -- for the response that was accepted

    async def send_text(self, text: str, *, is_last: bool = True) -> None:
        """Send one message, or a fragment of one. Raises OSError when the client is gone, on some servers."""
        message: Message = {"type": "websocket.send", "text": text}
        await self._send(message if is_last else {**message, MORE_FOLLOWS: True})

    async def close(self, code: int, reason: str) -> None:
        """Send the close frame; nothing may follow."""
        await self._send({"type": "websocket.close", "code": code, "reason": reason[:_MAX_REASON]})

    async def until_message(self) -> bool:
        """Whether the client has sent a message; False: it is gone."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.connect":
                return bool(message["type"] == "websocket.receive")

    # -- for the layers of a request

    async def receive_http(self) -> Message:
        """See ASGI: a request without a body, then its disconnect."""
        if not self._is_connected:
            await self._until_connected()
            return {"type": "http.request", "body": b"", "more_body": False}
        while (await self._receive())["type"] != "websocket.disconnect":
            pass
        return {"type": "http.disconnect"}

    async def send_http(self, message: Message) -> None:
        """See ASGI (rule 2)."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if self._status == SWITCHING:
                await self._until_connected()
                await self._send({"type": "websocket.accept", "headers": list(message.get("headers", ()))})
                return
        if self._can_refuse:
            await self._send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.body":
            self._refusal += message.get("body", b"")[: _MAX_PROBLEM_BYTES - len(self._refusal)]
            if not message.get("more_body", False):
                await self._refuse()

    async def _until_connected(self) -> None:
        if not self._is_connected:
            self._is_connected = True
            await self._receive()

    async def _refuse(self) -> None:
        try:
            code = msgspec.json.decode(self._refusal, type=_RefusalBody).code
        except (msgspec.DecodeError, msgspec.ValidationError):  # a host's own page
            code = ""
        await self._until_connected()
        await self._send({"type": "websocket.accept"})
        await self.close(_close_code(self._status), code or f"http_{self._status}")


class HandshakeAsRequest:
    """A layer: what is inside it sees the GET request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket":
            scope, receive, send = as_request(scope, receive, send)
        await self._app(scope, receive, send)


def as_request(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """The GET request that a handshake is."""
    extensions = cast(Mapping[str, object], scope.get("extensions") or {})
    handshake = Handshake(
        receive, send, can_refuse=_HTTP_REFUSAL in extensions, has_fragments=TRANSPORT_EXTENSION in extensions
    )
    request = {
        **request_scope(scope),
        "scheme": _SCHEMES.get(scope.get("scheme", "ws"), "http"),
        "extensions": {**extensions, _EXTENSION: handshake},
    }
    return request, handshake.receive_http, handshake.send_http


def request_scope(scope: Scope) -> Scope:
    """The scope as a route of GET matches it."""
    return {**scope, "type": "http", "method": "GET"}


def handshake_of(scope: Scope) -> Handshake | None:
    """The WebSocket that the request would open; None: it is a plain request."""
    extensions = cast(Mapping[str, object], scope.get("extensions") or {})
    return cast(Handshake | None, extensions.get(_EXTENSION))


def check_origin(scope: Scope, *, listed: Collection[str]) -> None:
    """Raises ForbiddenOrigin for a handshake of a page of another host (rule 3). ``listed``: origins that may."""
    if handshake_of(scope) is None:
        return
    headers = Headers(scope=scope)
    origins, hosts = headers.getlist("origin"), headers.getlist("host")
    if not origins or (len(origins) == 1 and origins[0] in listed):
        return
    host = hosts[0].lower() if len(hosts) == 1 else ""
    own = {f"https://{host.removesuffix(':443')}"}
    if scope["scheme"] == "http":  # of the last stretch: a proxy may have ended TLS
        own.add(f"http://{host.removesuffix(':80')}")
    if len(origins) != 1 or not host or origins[0] not in own:
        raise ForbiddenOrigin(
            f"pages of {origins[0][:_QUOTED_CHARS]!r} may not open a WebSocket at {host[:_QUOTED_CHARS]!r}: list the "
            "origin in BROADCASTER_CORS_ORIGINS, or let the proxy in between pass the Host header on"
        )


def _close_code(status: int) -> int:
    """The code for a status that cannot be sent."""
    if status in _LATER_STATUSES:
        return LATER
    return INTERNAL if status >= 500 else POLICY
