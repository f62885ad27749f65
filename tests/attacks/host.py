"""A host's app with everything of ours granted: ``python -m uvicorn tests.attacks.host:app``."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from broadcaster.settings import Settings
from broadcaster.web.mount import create_router
from broadcaster.web.wiring import open_services
from tests.support.mounting import EVERYTHING

app = FastAPI()
app.include_router(create_router(partial(open_services, Settings()), **EVERYTHING), prefix="/llm")


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers at once."""
    return {}
