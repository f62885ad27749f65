"""Where a client puts its viewer token, when it cannot send the header: the query, and a cookie.

Rules
1. ``?token=`` is taken out of the query before anything else sees the request, or the handshake of a WebSocket: no
   route, no log and no link of ours has it. A response to such a request has ``referrer-policy: no-referrer``.
2. The cookie ``__Host-broadcaster-token`` counts only where the browser reports that one of our own pages sends the
   request: an ``Origin`` that is this host's own or is listed (CORS_ORIGINS), or, for GET and HEAD without an Origin,
   ``Sec-Fetch-Site: same-origin``. A foreign page makes a browser send the cookie too, and can set neither. The
   handshake of a WebSocket needs the ``Origin``, which every browser sends with it.
3. An origin is this host's own if it names the same authority as ``Host``, over https; over http on this machine alone.
   A browser keeps a ``__Host-`` cookie from every other http page.
4. A key is never taken from either place: a query is written into the logs of proxies, and keys do not expire.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.web.guards.cors import is_allowed_origin
from broadcaster.web.guards.request import is_loopback_host
from broadcaster.web.viewing.handshake import handshake_of

COOKIE: Final = "__Host-broadcaster-token"
REFERRER_POLICY: Final = "referrer-policy"
NO_REFERRER: Final = "no-referrer"

_NAME: Final = b"token"
_STATE: Final = "broadcaster.query_tokens"
_COOKIE: Final = COOKIE.encode()
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


class QueryToken:
    """Takes ``?token=`` out of the query (rule 1); ``query_tokens`` has what was taken."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] in ("http", "websocket") and take_query_tokens(scope):
            send = _without_referrer(send)
        await self._app(scope, receive, send)


def take_query_tokens(scope: Scope) -> bool:
    """Take the tokens out of the query (rule 1); whether there were any."""
    if not scope["query_string"]:
        return False
    tokens, rest = _without_tokens(scope["query_string"])
    if tokens:
        # In place: a server that logs requests reads the same scope.
        scope["query_string"] = rest
        scope.setdefault("state", {})[_STATE] = tokens
    return bool(tokens)


def query_tokens(scope: Scope) -> frozenset[bytes]:
    """The different tokens of the query, which are forgotten here."""
    tokens: frozenset[bytes] = scope.get("state", {}).pop(_STATE, frozenset())
    return tokens


def cookie_tokens(scope: Scope) -> frozenset[bytes]:
    """The different tokens in cookies."""
    return frozenset(
        value
        for name, header in scope["headers"]
        if name == b"cookie"
        for key, value in map(_pair, header.split(b";"))
        if key == _COOKIE and value
    )


def without_token_cookies(header: bytes) -> bytes:
    """The cookies of this header but for tokens."""
    return b";".join(each for each in header.split(b";") if _pair(each)[0] != _COOKIE).strip()


def is_of_own_page(scope: Scope) -> bool:
    """Whether a cookie of this request counts (rule 2)."""
    headers = Headers(scope=scope)
    origins, hosts = headers.getlist("origin"), headers.getlist("host")
    if origins:
        return len(origins) == 1 and len(hosts) == 1 and (is_allowed_origin(scope) or _is_own(origins[0], hosts[0]))
    is_safe = scope.get("method") in _SAFE_METHODS and handshake_of(scope) is None
    return is_safe and headers.getlist("sec-fetch-site") == ["same-origin"]


def _is_own(origin: str, host: str) -> bool:
    host = host.lower()
    return origin == f"https://{host.removesuffix(':443')}" or (is_loopback_host(host) and origin == f"http://{host}")


def _pair(text: bytes) -> tuple[bytes, bytes]:
    name, _, value = text.strip().partition(b"=")
    return name, value


def _without_tokens(query: bytes) -> tuple[frozenset[bytes], bytes]:
    tokens, rest = set(), []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_to_bytes(name) == _NAME:
            tokens.add(unquote_to_bytes(value))
        else:
            rest.append(part)
    return frozenset(tokens), b"&".join(rest)


def _without_referrer(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)[REFERRER_POLICY] = NO_REFERRER
        await send(message)

    return sending
