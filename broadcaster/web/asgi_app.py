"""The routes of a front-end as an ASGI app, for hosts that are no FastAPI apps, and a stream as one response.

Rules
1. A host that runs lifespans of what it mounts (or a server that runs the app itself) opens the app with its own start
   and closes it with its end. Most frameworks do not: then the first request opens it, and closing the Broadcaster
   closes it. The next request opens it anew. A request whose opening fails, or is ended by a closing, gets the problem
   of that error (503).
2. Frameworks differ in what they make of a path under which they mount: some strip their prefix without a word of it in
   ``root_path``, and Litestar ends every path with a slash. ``raw_path`` is what the client has requested.
3. A response that is never sent opens nothing: no viewer waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from broadcaster.core.access.api_keys import check_tenant
from broadcaster.errors import BroadcasterError
from broadcaster.web.documents.problems import answer_http, error_response
from broadcaster.web.guards.request import uncached
from broadcaster.web.mount import RouterOptions, create_router_of
from broadcaster.web.routes.streams import follow
from broadcaster.web.services import Arrival, Mount, Services

_CURSOR_HEADER: Final = "last-event-id"

GetServices = Callable[[], Awaitable[Services]]


class MountableApp:
    """An ASGI app; see the module's rules. ``prefix``: what stands before our paths in the path that it gets."""

    def __init__(
        self,
        open_services: Callable[[], AbstractAsyncContextManager[Services]],
        *,
        get_services: GetServices,
        tenant: str,
        prefix: str,
        options: RouterOptions,
    ) -> None:
        """``open_services``: for a lifespan. ``get_services``: opens them unless they are open, for a request."""
        self._mount = Mount(tenant=check_tenant(tenant))
        self._get_services = get_services
        self._lifespans = 0
        self._app = FastAPI(
            openapi_url=None, docs_url=None, redoc_url=None, exception_handlers={HTTPException: answer_http}
        )
        self._app.include_router(create_router_of(self._mount, open_services, options), prefix=prefix.rstrip("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one lifespan."""
        if scope["type"] == "lifespan":
            if self._lifespans == 0:
                self._mount.services = None  # of requests before it
            self._lifespans += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._lifespans -= 1
            return
        if self._lifespans == 0:
            try:
                self._mount.services = await self._get_services()
            except BroadcasterError as error:
                if scope["type"] != "http":
                    raise
                await error_response(error)(scope, receive, uncached(send))
                return
        await self._app(_placed(scope), receive, send)


def _placed(scope: Scope) -> Scope:
    """The scope with the path as our routes have it, and what stood before it in ``root_path``: rule 2."""
    path: str = scope["path"]
    requested = unquote((scope.get("raw_path") or b"").decode("latin-1").partition("?")[0])
    own = path.rstrip("/") or "/"
    before, root = requested.rstrip("/").removesuffix(own), scope.get("root_path", "")
    if own == path and not before:
        return scope
    is_stripped = bool(before) and before != requested.rstrip("/")
    return {**scope, "path": own, "root_path": before if is_stripped else root}


class WatchResponse(Response):
    """One stream for one request, as ``GET /v1/streams/{id}/events`` answers it. Its host decides who may get it."""

    def __init__(
        self,
        get_services: GetServices,
        request: Scope,
        *,
        tenant: str,
        stream_id: str,
        dialect: str,
        wait_s: float,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = []  # what the host adds
        self._get_services = get_services
        self._request = Request(request)
        self._tenant = tenant
        self._stream_id = stream_id
        self._dialect = dialect
        self._wait_s = wait_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the stream and send it, or the problem of our own error."""
        if scope["method"] != "GET":  # Starlette adds HEAD to a route of GET: its response would hold a viewer
            response: Response = Response(status_code=405, headers={"allow": "GET"})
        else:
            try:
                response = await self._follow(Request(scope, receive))
            except BroadcasterError as error:
                response = error_response(error)
        await response(scope, receive, uncached(self._with_headers(send)))
        if self.background is not None:
            await self.background()

    async def _follow(self, request: Request) -> Response:
        services = await self._get_services()
        services = services.visited_by(services.visitor_of(request.scope, is_hosted=True))
        return await follow(
            request=request,
            here=Arrival(services, self._tenant, base=""),
            stream_id=self._stream_id,
            last_event_id=self._request.headers.get(_CURSOR_HEADER, ""),
            after=self._request.query_params.get("after", ""),
            dialect=self._dialect,
            wait_s=self._wait_s,
        )

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and self.raw_headers:
                message = {**message, "headers": [*message["headers"], *self.raw_headers]}
            await send(message)

        return send_with_headers
