"""Litestar: a mounted ASGI app, and a handler of its own."""

from __future__ import annotations

from litestar import Litestar, Request, asgi, get
from litestar.types import ASGIApp, Receive, Scope, Send

from tests.support.apps.hosts import broadcaster, owns

_mounted = broadcaster.asgi(can_watch=owns)


@asgi("/llm", is_mount=True)
async def _llm(scope: Scope, receive: Receive, send: Send) -> None:
    await _mounted(scope, receive, send)


@get("/mine/{id:str}")
async def _mine(id: str, request: Request) -> ASGIApp:
    return broadcaster.response(id, request)


app = Litestar([_llm, _mine])
