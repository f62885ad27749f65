"""The SDK of OpenAI before the app over a world in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import openai
import pytest

from tests.support.servers.front_end import DEADLINE_S


@pytest.fixture
async def sdk(live_client: httpx2.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{live_client.base_url}/v1".replace("//v1", "/v1")
    http_client = openai.DefaultAsyncHttpxClient(verify=False)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="any", max_retries=0, timeout=DEADLINE_S, http_client=http_client
    ) as client:
        yield client
