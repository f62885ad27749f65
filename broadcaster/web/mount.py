"""Viewing, feeds, generations and the surfaces of SDKs as a router, for somebody else's FastAPI app.

    app = FastAPI()
    app.include_router(create_router(partial(open_services, settings), auth=signed_in), prefix="/llm")

Rules
1. Nothing of the host is touched: not its state, its middleware, its exception handlers, its OpenAPI method.
2. ``auth`` is a plain dependency of the host, and refuses by raising HTTPException, which the host answers. It runs
   before any look at the log. ``write_auth`` guards what changes something, ``auth`` what reads. A parameter of a guard
   that is missing is a fault of the request: our 400.
3. A guard that yields, and whatever it depends on, is left before the answer is sent: a stream lasts for minutes, and
   would keep its session open (route_table.py).
4. Our errors are problems, or in a surface's own shape, wherever the router is mounted (route_table.py); 404 and 405 of
   a path are the host's.
5. Links in bodies and headers carry what stands before our own paths: the prefixes and root_path.
6. One router may be included several times: it is opened once, on one event loop. Two routers share nothing.
7. What goes over the wire is ours, whatever the host's default response class makes of its own answers.

What the host has to know: BROADCASTER_HOST, PORT and AUTH are not for it, and neither is the guard of our own app
against foreign Hosts and Origins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter, Depends
from fastapi.params import Depends as Guard
from starlette.responses import JSONResponse

from broadcaster.core.api_keys import check_tenant
from broadcaster.errors import SetupError
from broadcaster.web.draining import draining_on_signals
from broadcaster.web.problems import embedded_problems
from broadcaster.web.route_table import MountedRoute
from broadcaster.web.routes import feeds, generations, streams
from broadcaster.web.services import LOCAL_TENANT, Mount, Services
from broadcaster.web.surfaces.table import SURFACES

_READING: Final = ("GET", "HEAD")


def create_router(
    open_services: Callable[[], AbstractAsyncContextManager[Services]],
    *,
    auth: Callable[..., Any] | Guard | None,
    write_auth: Callable[..., Any] | Guard | None = None,
    tenant: str = LOCAL_TENANT,
    drain_on_signal: bool = True,
) -> APIRouter:
    """The router of one log. ``open_services`` is entered with the host's lifespan and left with it.

    ``auth``: a dependency (a function, or what ``Depends`` and ``Security`` give); None: everybody who reaches the
    app may read, and write too unless ``write_auth`` says otherwise. Rights on single streams are the guard's own:
    ``request.path_params`` has ``stream_id`` or ``generation_id``. ``tenant``: whose streams are served.
    ``drain_on_signal``: viewers are sent away at SIGTERM and SIGINT (draining.py).
    """
    mount = Mount(tenant=check_tenant(tenant))
    router = APIRouter(
        route_class=MountedRoute.of(mount),
        default_response_class=JSONResponse,
        lifespan=_lifespan(mount, open_services, drain_on_signal=drain_on_signal),
    )
    reading = _guards(auth)
    writing = reading if write_auth is None else _guards(write_auth)
    for routes in (generations.routes, streams.routes, feeds.routes, *(each.routes for each in SURFACES)):
        for row in routes:
            row.add_to(
                router,
                # One app may have two of us, and an operation's id only once: the path is in FastAPI's own.
                operation_id=None,
                responses=embedded_problems(row.options["responses"]),
                dependencies=reading if row.method in _READING else writing,
            )
    return router


def _guards(auth: Callable[..., Any] | Guard | None) -> Sequence[Guard]:
    if auth is None:
        return []
    return [auth if isinstance(auth, Guard) else Depends(auth, scope="function")]


def _lifespan(
    mount: Mount, open_services: Callable[[], AbstractAsyncContextManager[Services]], *, drain_on_signal: bool
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        nonlocal loop
        if mount.services is not None:
            if loop is not asyncio.get_running_loop():
                raise SetupError("this router is open on another event loop; create one for each")
            yield  # included twice: who came first keeps it open longer
            return
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(open_services())
            if drain_on_signal:
                await stack.enter_async_context(draining_on_signals(services))
            stack.callback(mount.close)
            mount.services = services
            yield

    return lifespan
