"""Viewing, feeds, generations and the surfaces of SDKs as a router, for a host's FastAPI app.

    app = FastAPI()
    app.include_router(create_router(partial(open_services, settings), can_watch=owns), prefix="/llm")

Rules
1. The router leaves the host's state, middleware, exception handlers and OpenAPI method alone.
2. The router only reads, and calls ``can_watch`` for every stream. Listing, generating, stopping, writing and deleting
   exist only where the host gives a guard for them (rights.py).
3. A guard decides by the head of a request, before its body and the log are read, and is left before the route runs
   (host_guards.py). A missing parameter of a guard is a fault of the request: our 400.
4. Our errors are problems, or in a surface's own shape, wherever the router is mounted (route_table.py); 404 and 405 of
   a path are the host's.
5. Links in bodies and headers begin with what stands before our own paths: the prefixes and root_path.
6. One router may be included several times: it is opened once, on one event loop. Two routers share nothing.
   FastAPI makes included routes at the first request, which takes 0.1 s: the router has them made when it is opened.
7. Our responses do not depend on the host's default response class.
8. No WebSocket is served unless the host asks for it: middleware for plain requests sees no handshake.

BROADCASTER_HOST, PORT and AUTH do not apply to a host, and neither does our own app's guard against foreign Hosts and
Origins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Required, TypedDict, Unpack

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.responses import JSONResponse

from broadcaster.core.access.api_keys import check_tenant
from broadcaster.core.requests.options import check_options
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import SetupError
from broadcaster.web.documents.problems import embedded_problems
from broadcaster.web.former_router import refuse_former_form
from broadcaster.web.guards.host_guards import GuardFunction, HostGuard
from broadcaster.web.guards.rights import OF_NO_STREAM, Right, Rights
from broadcaster.web.route_table import MountedRoute
from broadcaster.web.routes import feeds, generations, streams
from broadcaster.web.server.draining import draining_on_signals
from broadcaster.web.services import Mount, Services
from broadcaster.web.surfaces.table import SURFACES


class RouterOptions(TypedDict, total=False):
    """What a host grants: see ``Broadcaster.router``. ``drain_on_signal`` is True without it, ``websockets`` False."""

    can_watch: Required[GuardFunction]
    can_list: GuardFunction | None
    can_generate: GuardFunction | None
    can_stop: GuardFunction | None
    can_write: GuardFunction | None
    can_delete: GuardFunction | None
    on_generate: GuardFunction | None
    drain_on_signal: bool
    websockets: bool


@refuse_former_form
def create_router(
    open_services: Callable[[], AbstractAsyncContextManager[Services]],
    *,
    tenant: str = LOCAL_TENANT,
    **options: Unpack[RouterOptions],
) -> APIRouter:
    """The router of one log. ``open_services`` is entered with the host's lifespan and left with it.

    The guards: see `Broadcaster.router`, rights.py and host_guards.py. ``tenant``: whose streams are served.
    ``drain_on_signal``: viewers are disconnected at SIGTERM and SIGINT (draining.py). ``websockets``: whether
    WebSockets are served.

    Raises TypeError for a function that cannot be the guard it is given as.
    """
    return create_router_of(Mount(tenant=check_tenant(tenant)), open_services, options)


class OwnJson(JSONResponse):
    """Our JSON, whatever the host's default is; encoded without a text in between, which may have megabytes."""

    def render(self, content: object) -> bytes:
        """The body."""
        return msgspec.json.encode(content)


def create_router_of(
    mount: Mount, open_services: Callable[[], AbstractAsyncContextManager[Services]], options: RouterOptions
) -> APIRouter:
    """``create_router`` on a mount that its caller may open, too."""
    check_options("router", options, RouterOptions)
    if "can_watch" not in options:
        raise TypeError("a router needs can_watch: a guard that decides which streams a caller may watch")
    serves_websockets = options.get("websockets", False)
    rights = _rights({right: options.get(right.value) for right in Right}, options.get("on_generate"))
    lifespan = _lifespan(mount, open_services, drain_on_signal=options.get("drain_on_signal", True))
    router = APIRouter(route_class=MountedRoute.of(mount, rights), default_response_class=OwnJson, lifespan=lifespan)
    for routes in (generations.routes, streams.routes, feeds.routes, *SURFACES):
        for row in routes:
            guards = rights.guards_of(row.operation)
            if guards is None or (row.takes_websocket and not serves_websockets):
                continue
            row.add_to(
                router,
                # One app may have two of us, and an operation's id only once: the path is in FastAPI's own.
                operation_id=None,
                responses=embedded_problems(row.options["responses"]),
                dependencies=[scheme for guard in guards for scheme in guard.security],
            )
    return router


def _rights(functions: Mapping[Right, Any], on_generate: GuardFunction | None) -> Rights:
    """Raises TypeError for a function that is not a guard, and for ``on_generate`` without ``can_generate``."""
    guards = {
        right: HostGuard(right.value, function, takes_stream=right not in OF_NO_STREAM)
        for right, function in functions.items()
        if function is not None or right is Right.WATCH
    }
    if on_generate is None:
        return Rights(guards)
    if Right.GENERATE not in guards:
        raise TypeError("on_generate is never called without can_generate")
    return Rights(guards, on_generate=HostGuard("on_generate", on_generate, returns_nothing=True))


def _lifespan(
    mount: Mount, open_services: Callable[[], AbstractAsyncContextManager[Services]], *, drain_on_signal: bool
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        nonlocal loop
        _prepare(app)
        if mount.services is not None:
            if loop is not asyncio.get_running_loop():
                raise SetupError("this router is open on another event loop; create one for each")
            yield  # included twice: the first lifespan is the last to end
            return
        loop = asyncio.get_running_loop()
        async with open_services() as services, draining_on_signals(services) if drain_on_signal else nullcontext():
            mount.services = services
            try:
                yield
            finally:
                mount.services = None

    return lifespan


def _prepare(app: Any) -> None:
    """Let FastAPI make the routes of included routers, which it keeps."""
    if isinstance(app, FastAPI):
        deque(iter_route_contexts(app.routes), maxlen=0)
