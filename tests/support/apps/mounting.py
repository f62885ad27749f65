"""A stranger's app with our router in it: own middleware, handlers, routes, state and lifespan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import JSONResponse, Response

from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.hub.hub import Hub
from broadcaster.web.mount import create_router
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.streaming import DEADLINE_S, on_stock_uvicorn

HOSTS_TENANT = "the host's own meaning of the word"


@asynccontextmanager
async def _lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    yield {"greeting": "hello", "broadcaster": "the host's"}


async def _mark(request: Request, call_next: RequestResponseEndpoint) -> Response:
    """The host's middleware: a tenant for each caller, repeated after the route has run."""
    request.state.tenant = HOSTS_TENANT
    response = await call_next(request)
    response.headers["x-tenant"] = request.state.tenant
    return response


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"host": error.detail}, status_code=error.status_code, headers=error.headers)


async def _refuse_invalid(_: Request, __: Exception) -> Response:
    return JSONResponse({"host": "invalid"}, status_code=422)


async def _hello(number: int, request: Request) -> dict[str, Any]:
    return {"number": number, "greeting": request.state.greeting, "tenant": request.state.tenant}


def create_host(*routers: tuple[str, APIRouter]) -> FastAPI:
    """The stranger's app with these routers under their prefixes."""
    app = FastAPI(lifespan=_lifespan)
    app.add_middleware(BaseHTTPMiddleware, dispatch=_mark)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_invalid)
    app.get("/hello/{number}")(_hello)
    for prefix, router in routers:
        app.include_router(router, prefix=prefix)
    return app


def every_stream(stream_id: str) -> bool:
    """A guard of streams that grants all of them."""
    return True


def every_caller() -> bool:
    """A guard without a stream that grants it to everyone."""
    return True


EVERYTHING: Final[Mapping[str, Any]] = {
    "can_watch": every_stream,
    "can_list": every_caller,
    "can_generate": every_caller,
    "can_stop": every_stream,
    "can_write": every_stream,
    "can_delete": every_stream,
}


class Mounted:
    """A router over a world in memory, and the hub of its services while it is open.

    ``guards``: the router's; without any, everything is granted to everyone, and WebSockets are served.
    """

    def __init__(self, *, tenant: str = LOCAL_TENANT, **guards: Any) -> None:
        self.world = MemoryWorld()
        self.opened = 0
        self.hub: Hub | None = None
        self.changes: dict[str, Any] = {}
        self.router = create_router(self._open, tenant=tenant, **(guards or {**EVERYTHING, "websockets": True}))

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        async with memory_services(self.world, **self.changes) as services:
            self.opened += 1
            self.hub = services.hub
            yield services
            self.hub = None


async def _leave() -> None:
    """No viewer is left at the end of these tests."""


@asynccontextmanager
async def serve_host(app: FastAPI, *, root_path: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the app on a stock uvicorn."""
    async with on_stock_uvicorn(app, on_drain=_leave, root_path=root_path) as port:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as client:
            yield client
