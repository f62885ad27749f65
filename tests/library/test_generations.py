"""Answers requested inside a process, held to the rules of HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from broadcaster import Broadcaster
from broadcaster.errors import IdempotencyMismatch, InvalidInput, UnknownModel, UnknownStream, WebhookNotAllowed
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams

MESSAGES = ({"role": "user", "content": "Why?"},)


async def test_a_generation_is_started_fetched_stopped_and_read(broadcaster: Broadcaster, connection: LogConnection):
    generation_id = await broadcaster.start("Why?", system="Be brief.", max_tokens=9, metadata={"chat": 1})
    generation = await broadcaster.get(generation_id)
    assert (generation.status, generation.prompt, generation.metadata) == ("queued", "Why?", {"chat": 1})
    meta = await Streams(connection).meta(generation_id)
    assert meta is not None
    assert meta.request == {
        "messages": [{"role": "user", "content": "Why?"}],
        "system": "Be brief.",
        "max_tokens": 9,
        "metadata": {"chat": 1},
    }
    await broadcaster.stop(generation_id)
    await broadcaster.stop(generation_id)
    assert (await broadcaster.get(generation_id)).status == "aborted"
    (end,) = [event async for event in broadcaster.events(generation_id)]
    assert end.type == "abort"  # type: ignore[union-attr]


async def test_the_same_key_starts_one_generation(broadcaster: Broadcaster):
    one = await broadcaster.start(messages=MESSAGES, idempotency_key="k")
    assert await broadcaster.start(messages=MESSAGES, idempotency_key="k") == one
    with pytest.raises(IdempotencyMismatch):
        await broadcaster.start("Something else", idempotency_key="k")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, InvalidInput, "exactly one of prompt and messages"),
        ({"prompt": "a", "messages": MESSAGES}, InvalidInput, "exactly one"),
        ({"prompt": "a", "temprature": 1}, TypeError, "'temprature', did you mean 'temperature'"),
        ({"prompt": "a", "max_tokens": "9"}, InvalidInput, "max_tokens"),
        ({"prompt": "a", "metadata": {"x": float("nan")}}, InvalidInput, "NaN"),
        ({"prompt": "a", "model": "nobodys"}, UnknownModel, "no route serves the model 'nobodys'"),
        ({"prompt": "a", "webhook": {"url": "https://example.com/"}}, WebhookNotAllowed, "webhook"),
        ({"prompt": "a", "stream": True}, TypeError, "events"),
        ({"prompt": "a", "idempotency_key": "é"}, InvalidInput, "idempotency_key"),
        ({"prompt": "a", "idempotency_key": ""}, InvalidInput, "idempotency_key"),
    ],
)
async def test_a_request_that_http_refuses_is_refused(
    broadcaster: Broadcaster, arguments: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        await broadcaster.start(**arguments)


async def test_another_tenants_answer_is_unknown(broadcaster: Broadcaster, connection: LogConnection):
    generation_id = await broadcaster.start("Why?")
    async with Broadcaster.from_url(connection.url, tenant="acme") as other:
        with pytest.raises(UnknownStream):
            await other.get(generation_id)
        with pytest.raises(UnknownStream):
            await other.stop(generation_id)
