"""Starlette with one route of its own, which returns a stream; our routes are not mounted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.apps.hosts import broadcaster


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[None]:
    async with broadcaster:
        yield


async def _mine(request: Request) -> Response:
    return broadcaster.response(request.path_params["id"], request)


app = Starlette(routes=[Route("/mine/{id}", _mine)], lifespan=_lifespan)
