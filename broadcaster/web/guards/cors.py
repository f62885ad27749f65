"""Calls from pages of other origins (CORS), for the origins that the operator lists: Starlette's layer, off by default.

1. The layer stands outside all others that respond: preflights need no key, and refusals are readable like responses.
2. A request from an allowed origin is marked in ``scope["state"]`` (``is_allowed_origin``). The rules against foreign
   pages (request.py, json_body.py) let it pass; they hold for every other page as before.
3. The browser's own credentials are not used: a key comes in a header that the page sets, and cookies mean nothing. So
   any request header may be sent, and ``access-control-allow-credentials`` is never given.
4. A connection that is refused before its request was read (503, 431, 408, 400) has no origin. The text of the refusal
   is the same for every client, so it may be read from everywhere: ``*``.

The layer changes only the head of a response; on our runner the events of a stream do not pass through it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from broadcaster.dialects.durable.headers import EXPOSED_HEADERS
from broadcaster.web.documents.problems import GENERATION_ID_HEADER, PROVIDER_REQUEST_ID_HEADER, problem_response

PREFLIGHT_MAX_AGE_S: Final = 600
_QUOTED_CHARS: Final = 100

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE")
_EXPOSED: Final = (
    GENERATION_ID_HEADER.lower(),
    PROVIDER_REQUEST_ID_HEADER.lower(),
    "x-request-id",
    "request-id",
    "retry-after",
    "etag",
    "x-should-retry",
    "location",
    "allow",
    "www-authenticate",
    "x-vercel-ai-ui-message-stream",
    *EXPOSED_HEADERS,
)
_ALLOWED: Final = "broadcaster.allowed_origin"


class CrossOrigin(CORSMiddleware):
    """Responds to preflights, and lets pages of these origins read every response."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=frozenset(origins),
            allow_methods=_METHODS,
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=_EXPOSED,
            max_age=PREFLIGHT_MAX_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        origins = Headers(scope=scope).getlist("origin") if scope["type"] == "http" else []
        if len(origins) == 1 and origins[0] in self.allow_origins:
            scope.setdefault("state", {})[_ALLOWED] = True
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """What Starlette answers; for an origin that is not listed, a problem that names it and the setting."""
        response, origin = super().preflight_response(request_headers), request_headers["origin"]
        if origin in self.allow_origins:
            return response
        detail = f"pages of {origin[:_QUOTED_CHARS]!r} may not call: list this origin in BROADCASTER_CORS_ORIGINS"
        return problem_response("forbidden_origin", detail, headers={"vary": response.headers["vary"]})


def is_allowed_origin(scope: Scope) -> bool:
    """Whether the request is of a page whose origin the operator listed (rule 2)."""
    return _ALLOWED in scope.get("state", {})


def unread_headers(origins: Collection[str]) -> Mapping[str, str]:
    """The headers of a response without a request, where origins are listed (rule 4)."""
    if not origins:
        return {}
    return {"access-control-allow-origin": "*", "access-control-expose-headers": ", ".join(_EXPOSED)}
