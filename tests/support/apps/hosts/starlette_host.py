"""Starlette: ``Mount``, and a route of its own."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from tests.support.apps.hosts import broadcaster, owns


async def _mine(request: Request) -> Response:
    return broadcaster.response(request.path_params["id"], request)


app = Starlette(routes=[Route("/mine/{id}", _mine), Mount("/llm", app=broadcaster.asgi(can_watch=owns))])
