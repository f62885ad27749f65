"""A small chat app that keeps its answers alive: its own login, its own page, and broadcaster's router for the streams.

    CHAT_SECRET=… BROADCASTER_REDIS_URL=redis://localhost:6379 uvicorn examples.fastapi_chat.app:app --workers 2

``POST /chat`` begins an answer and returns at once. Any process of the app then serves its stream, to any tab of the
user, from any point: the request that asked for it may be long gone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

from fastapi import Body, Depends, FastAPI, HTTPException, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from broadcaster import Broadcaster
from broadcaster.errors import BroadcasterError, LogUnavailable
from examples.fastapi_chat import chats, tokens
from examples.fastapi_chat.login import sign_in, signed_in

# A model that broadcaster's workers serve (`broadcaster up` has "local"); without one, this app makes up the words.
MODEL: Final = os.environ.get("CHAT_MODEL")
PAGE: Final = Path(__file__).with_name("page.html")

broadcaster = Broadcaster.from_url(os.environ["BROADCASTER_REDIS_URL"])

User = Annotated[str, Depends(signed_in)]


def can_watch(stream_id: str, user: User) -> bool:
    """Users watch their own answers. For every other stream the router answers as if it did not exist."""
    return chats.is_owner(user, stream_id)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    chats.create_table()
    yield


app = FastAPI(lifespan=lifespan, title="A chat app")
# The router only reads: the routes below begin and stop answers. It opens with the app and ends with it: viewers are
# sent elsewhere, and the answers that this process makes come to their end first (at most BROADCASTER_DRAIN_S).
app.include_router(broadcaster.router(can_watch=can_watch), prefix="/stream")


@app.get("/", include_in_schema=False)
def page() -> FileResponse:
    return FileResponse(PAGE)


@app.post("/login", status_code=204)
def login(response: Response, name: Annotated[str, Body(embed=True, pattern="^[A-Za-z0-9_-]{1,40}$")]) -> None:
    sign_in(response, name)


@app.get("/chat")
async def questions(user: User) -> list[dict[str, str]]:
    """What the page begins with, also after a reload."""
    return [await _answered(question) for question in await run_in_threadpool(chats.newest, user)]


@app.post("/chat", status_code=202)
async def start_answer(
    user: User, prompt: Annotated[str, Body(embed=True, min_length=1, max_length=4000)]
) -> dict[str, str]:
    """Begin an answer. It belongs to no request: the user may leave, and watch it from elsewhere."""
    # The row comes first: no user could watch or stop an answer without one, and a second try would be a second answer.
    return await _answered(await run_in_threadpool(chats.remember, user, prompt))


@app.post("/chat/{stream_id}/stop", status_code=204)
async def stop(stream_id: str, user: User) -> None:
    """End an answer, whichever process makes it, for all its viewers."""
    if not await run_in_threadpool(chats.is_owner, user, stream_id):
        raise HTTPException(404, "no such answer")
    await broadcaster.stop(stream_id)


async def _answered(question: chats.Question) -> dict[str, str]:
    """The question as the page shows it. Its answer begins now if it has not: once, however often this is called."""
    stream_id = question.stream_id
    if stream_id is None:
        stream_id = await _begin(question)
        await run_in_threadpool(chats.set_stream, question.id, stream_id)
    # `wait_s`: a page may be faster than the first word.
    events_url = f"/stream/v1/streams/{stream_id}/events?wait_s=10"
    return {"id": stream_id, "prompt": question.prompt, "events_url": events_url}


async def _begin(question: chats.Question) -> str:
    if MODEL is None:
        return broadcaster.publish_nowait(tokens.answer(question.prompt), id=question.id, if_exists="join").id
    try:
        return await broadcaster.start(question.prompt, model=MODEL, idempotency_key=question.id)
    except LogUnavailable:
        raise  # it may have begun: the next call finds out
    except BroadcasterError:
        await run_in_threadpool(chats.forget, question.id)
        raise
