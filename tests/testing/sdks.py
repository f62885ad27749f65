"""The real SDKs in front of a scripted provider; they never retry, so that one call is one request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai

from broadcaster.testing import ScriptedProvider

TIMEOUT_S = 30.0
MESSAGES: Any = [{"role": "user", "content": "Hi"}]


@dataclass
class Sdks:
    """Both clients and their server; every call requests the model ``m`` unless the test names another."""

    server: ScriptedProvider
    claude: anthropic.AsyncAnthropic
    openai: openai.AsyncOpenAI

    async def message(self, **fields: Any) -> Any:
        return await self.claude.messages.create(**{"model": "m", "max_tokens": 64, "messages": MESSAGES, **fields})

    async def completion(self, **fields: Any) -> Any:
        return await self.openai.chat.completions.create(**{"model": "m", "messages": MESSAGES, **fields})

    async def response(self, **fields: Any) -> Any:
        return await self.openai.responses.create(**{"model": "m", "input": "Hi", **fields})

    async def answer(self, wire: str, **fields: Any) -> Any:
        """A call by the name of the wire, the last part of its path."""
        calls = {"messages": self.message, "completions": self.completion, "responses": self.response}
        return await calls[wire](**fields)


@asynccontextmanager
async def opened(
    server: ScriptedProvider, *, api_key: str = "any", timeout_s: float = TIMEOUT_S
) -> AsyncIterator[Sdks]:
    settings: dict[str, Any] = {"api_key": api_key, "max_retries": 0, "timeout": timeout_s}
    # Nothing here uses TLS, and to load the machine's trusted certificates takes 0.1 s for each client.
    async with (
        anthropic.DefaultAsyncHttpxClient(verify=False) as one,
        openai.DefaultAsyncHttpxClient(verify=False) as other,
    ):
        claude = anthropic.AsyncAnthropic(base_url=server.base_url, http_client=one, **settings)
        yield Sdks(server, claude, openai.AsyncOpenAI(base_url=server.openai_base_url, http_client=other, **settings))


@asynccontextmanager
async def scripted(**settings: Any) -> AsyncIterator[Sdks]:
    """A scripted provider and the SDKs in front of it."""
    async with ScriptedProvider() as server, opened(server, **settings) as sdks:
        yield sdks


async def collect(stream: Any) -> list[Any]:
    async with stream:
        return [event async for event in stream]
