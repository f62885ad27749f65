"""A host's app with everything of ours granted: ``python -m uvicorn tests.attacks.host:app``."""

from __future__ import annotations

import time
from functools import partial

from fastapi import FastAPI, Request, Response

from broadcaster.settings import Settings
from broadcaster.web.mount import create_router
from broadcaster.web.wiring import open_services
from tests.support.apps.mounting import EVERYTHING

app = FastAPI()
app.include_router(create_router(partial(open_services, Settings()), **EVERYTHING), prefix="/llm")


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers at once."""
    return {}


@app.post("/control/read")
async def read(request: Request) -> int:
    """Read the body, and answer with its length: what the host's server costs for a body."""
    return len(await request.body())


@app.post("/control/refuse")
async def refuse() -> Response:
    """Answer without reading the body, which the host's server still receives."""
    return Response(status_code=503)


@app.post("/stand-still")
async def stand_still(seconds: float) -> None:
    """Hold the loop, as a host's own mistake does."""
    time.sleep(seconds)  # noqa: ASYNC251
