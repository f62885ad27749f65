"""The server that tutorials show: sse-starlette, and for every viewer a Redis subscription (or a reader) of its own.

It runs in an environment of its own (``make benchtools``); nothing of it is the product's.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import redis.asyncio as redis
from fastapi import FastAPI
from sse_starlette.sse import EventSourceResponse

app = FastAPI()
client = redis.Redis(
    connection_pool=redis.ConnectionPool.from_url(os.environ["NAIVE_REDIS_URL"], max_connections=20_000)
)


async def subscribe(name: str) -> AsyncIterator[dict[str, str]]:
    """What is published from now on."""
    number = 0
    async with client.pubsub() as subscription:
        await subscription.subscribe(f"live:{name}")
        async for message in subscription.listen():
            if message["type"] == "message":
                number += 1
                yield {"id": str(number), "data": message["data"].decode()}


async def read(name: str) -> AsyncIterator[dict[str, str]]:
    """What has been stored, from the beginning, and what comes."""
    last = b"0"
    while True:
        for _, entries in await client.xread({f"log:{name}": last}, count=100, block=10_000):
            for last, fields in entries:
                yield {"id": last.decode(), "data": fields[b"d"].decode()}


@app.get("/live/{name}")
async def live(name: str) -> EventSourceResponse:
    """Follow."""
    return EventSourceResponse(subscribe(name))


@app.get("/replay/{name}")
async def replay(name: str) -> EventSourceResponse:
    """Everything from the beginning."""
    return EventSourceResponse(read(name))
