"""A stranger's app for a server of its own: ``python -m uvicorn tests.support.apps.host_app:app``.

Its router stands under ``/llm``, over the Redis of BROADCASTER_REDIS_URL; every response names its process.
"""

from __future__ import annotations

import os
from functools import partial

from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import Response

from broadcaster.settings import Settings
from broadcaster.web.mount import create_router
from broadcaster.web.wiring import open_services
from tests.support.apps.mounting import every_stream


async def _sign(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers["x-pid"] = str(os.getpid())
    return response


app = FastAPI()
_router = create_router(
    partial(open_services, Settings()), can_watch=every_stream, can_write=every_stream, websockets=True
)
app.add_middleware(BaseHTTPMiddleware, dispatch=_sign)
app.include_router(_router, prefix="/llm")
