"""The SDK of OpenAI before the app over a world in memory, and the server of the models that this world can run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import openai
import pytest

from broadcaster.testing import ScriptedProvider
from tests.support.apps.wired_world import MODELS, text, wired
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S


@pytest.fixture
async def sdk(live_client: httpx2.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{live_client.base_url}/v1".replace("//v1", "/v1")
    http_client = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="any", max_retries=0, timeout=DEADLINE_S, http_client=http_client
    ) as client:
        yield client


@pytest.fixture
async def server(world: MemoryWorld) -> AsyncIterator[ScriptedProvider]:
    """Answers "Hello there" on every wire until a test scripts another answer; ``services`` needs its ``ROUTES``."""
    async with wired(world) as scripted:
        for each in MODELS:
            scripted.script(each.model, each.script(text("Hello ", "there")))
        yield scripted
