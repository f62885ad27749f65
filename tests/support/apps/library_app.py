"""A stranger's app with the library in it: ``python -m uvicorn tests.support.apps.library_app:app``.

``POST /jobs/{id}`` starts an answer that never ends by itself; ``GET /numbers/{id}`` reads one inside the process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from broadcaster import Broadcaster
from tests.support.apps.mounting import every_stream

app = FastAPI()
broadcaster = Broadcaster.from_url(os.environ["BROADCASTER_REDIS_URL"], drain_s=0.3)
app.include_router(broadcaster.router(can_watch=every_stream), prefix="/llm")


async def _texts() -> AsyncIterator[str]:
    while True:
        yield "word "
        await asyncio.sleep(0.01)


@app.post("/jobs/{id}", status_code=202)
async def start(id: str) -> dict[str, str]:
    broadcaster.publish_nowait(_texts(), id=id)
    return {"events_url": f"/llm/v1/streams/{id}/events?wait_s=5"}


@app.get("/numbers/{id}")
async def numbers(id: str) -> StreamingResponse:
    async def lines() -> AsyncIterator[bytes]:
        async for event in broadcaster.events(id, wait_s=5):
            yield b"%d\n" % event.cursor.seq

    return StreamingResponse(lines(), media_type="text/plain")
