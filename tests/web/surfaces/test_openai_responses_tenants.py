"""Responses over a real Redis with keys: one tenant's do not exist for another, whatever it requests of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import openai
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import DEADLINE_S, served

MINE, OTHERS = "the-key-of-mine-0", "the-key-of-others"


@pytest.fixture
async def url(connection: LogConnection) -> AsyncIterator[str]:
    keys = json.dumps({"mine": [MINE], "others": [OTHERS]})
    settings = Settings.model_validate({"redis_url": connection.url, "auth": "keys", "api_keys": keys})
    async with (
        open_services(settings) as services,
        served(create_app(settings, services=services), services) as client,
    ):
        yield f"{client.base_url}".rstrip("/") + "/v1"


@pytest.fixture
async def sdks(url: str) -> AsyncIterator[dict[str, openai.AsyncOpenAI]]:
    async with AsyncExitStack() as stack:
        opened = {}
        for key in (MINE, OTHERS, "nobodys"):
            http_client = openai.DefaultAsyncHttpxClient(verify=False)
            client = openai.AsyncOpenAI(
                base_url=url, api_key=key, max_retries=0, timeout=DEADLINE_S, http_client=http_client
            )
            opened[key] = await stack.enter_async_context(client)
        yield opened


async def test_a_response_of_another_tenant_is_unknown_at_every_call(sdks: dict[str, openai.AsyncOpenAI]) -> None:
    mine, others = sdks[MINE].responses, sdks[OTHERS].responses
    response = await mine.create(model="claude-x", input="Hi", background=True)
    for calling in (
        others.retrieve(response.id),
        others.retrieve(response.id, stream=True),
        others.retrieve(response.id, stream=True, starting_after=0),
        others.cancel(response.id),
        others.delete(response.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await calling
    with pytest.raises(openai.NotFoundError):
        [item async for item in others.input_items.list(response.id)]
    with pytest.raises(openai.BadRequestError) as refused:
        await others.create(model="claude-x", input="And?", previous_response_id=response.id)
    assert refused.value.code == "previous_response_not_found"
    assert (await mine.retrieve(response.id)).status == "queued"
    assert (await mine.cancel(response.id)).status == "cancelled"
    await mine.delete(response.id)


async def test_an_unknown_key_is_reported_in_the_format_of_the_api(sdks: dict[str, openai.AsyncOpenAI]) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        await sdks["nobodys"].responses.create(model="claude-x", input="Hi")
    assert refused.value.code == "invalid_api_key"
