"""Quart: our paths go to our app, all others to Quart."""

from __future__ import annotations

from typing import Any

from quart import Quart

from tests.support.apps.hosts import broadcaster, owns

quart = Quart(__name__)
_llm = broadcaster.asgi(prefix="/llm", can_watch=owns)


@quart.get("/mine/<id>")
async def _mine(id: str) -> str:
    return f"a page of Quart about {id}"


@quart.after_serving
async def _close() -> None:
    await broadcaster.aclose()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """What the server serves."""
    await (_llm if scope.get("path", "").startswith("/llm/") else quart)(scope, receive, send)
