"""What a request must be before the app sees it: pure ASGI layers, none of which touches a response body.

    RequestId      every answer carries ``x-request-id``: the caller's own when it is harmless, else a new one; and the
                   same under ``request-id``, where the Anthropic SDKs read it
    LoopbackGuard  while AUTH is off: Host and Origin must be this machine

Why LoopbackGuard. Without keys the loopback address is the only lock, and a browser on this machine walks through it:
a page may post a form to http://127.0.0.1 (CSRF, told by Origin), or have its own host name resolve to 127.0.0.1 and
then read the answers too (DNS rebinding, told by Host).
What a body must be is the routes' own rule, wherever they are mounted (json_body.py).
"""

from __future__ import annotations

import re
import secrets
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.web.problems import problem_response

REQUEST_ID_HEADER: Final = "x-request-id"
ANTHROPIC_REQUEST_ID_HEADER: Final = "request-id"

_HARMLESS_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
# The port is the client's view of it (a forwarded port differs from ours), so any will do.
_LOOPBACK_HOST: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class RequestId:
    """Names every request; the name is in ``scope["state"]["request_id"]`` and in the answer's header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = given if _HARMLESS_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = headers[ANTHROPIC_REQUEST_ID_HEADER] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        await self._app(scope, receive, naming)


class LoopbackGuard:
    """Refuses (1) a Host that is not loopback, or none, or two, (2) an Origin that is there and not loopback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not is_loopback_host(hosts[0]):
            code, detail = "forbidden_host", "without keys only the hosts 127.0.0.1, localhost and [::1] are served"
        elif any(not is_loopback_origin(origin) for origin in origins):
            code, detail = "forbidden_origin", "without keys only pages of this machine may call"
        else:
            await self._app(scope, receive, send)
            return
        await problem_response(code, detail)(scope, receive, send)


def is_loopback_host(host: str) -> bool:
    """Whether a Host header names this machine's loopback, whatever the port."""
    return _LOOPBACK_HOST.fullmatch(host) is not None


def is_loopback_origin(origin: str) -> bool:
    """Whether an Origin header is a page of this machine; ``null`` (a sandboxed frame, a file) is not."""
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.hostname in _LOOPBACK_NAMES and "@" not in parts.netloc
    except ValueError:
        return False
