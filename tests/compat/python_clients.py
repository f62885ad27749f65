"""The packages ``openai`` and ``anthropic`` of this interpreter, and curl."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from anthropic import AnthropicError, AsyncAnthropic
from openai import AsyncOpenAI, OpenAIError

from broadcaster.core.sse import DEFAULT_EVENT, SseDecoder
from tests.compat.readings import Json, Shown
from tests.compat.response_events import of_events
from tests.support.servers.programs import find_program

MODEL: Final = "claude-scripted"
QUESTION: Final = "What is the weather in Paris?"
Headers = Mapping[str, str] | None

MESSAGES: Final[list[Any]] = [{"role": "user", "content": QUESTION}]


def describe(error: Exception) -> Json:
    """What a caller may look at."""
    return {
        "name": type(error).__name__,
        "message": str(error),
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "type": getattr(error, "type", None),
    }


def openai() -> AsyncOpenAI:
    """A client that tries nothing twice; ``with_options`` gives it an address, and shares its connections."""
    return AsyncOpenAI(api_key="k", max_retries=0)


def anthropic() -> AsyncAnthropic:
    """The same of the other package."""
    return AsyncAnthropic(api_key="k", max_retries=0)


async def chat(client: AsyncOpenAI, *, model: str = MODEL, headers: Headers = None, **_: Any) -> Shown:
    """Chat completions, by the helper that puts the final object together."""
    seen: list[str] = []
    final: Any = None
    try:
        async with client.chat.completions.stream(
            model=model, messages=MESSAGES, stream_options={"include_usage": True}, extra_headers=headers
        ) as stream:
            async for event in stream:
                seen.append(event.type)
                final = stream.current_completion_snapshot
            final = await stream.get_final_completion()
    except OpenAIError as error:
        return Shown(final.model_dump(mode="json") if final else None, describe(error), tuple(seen))
    return Shown(final.model_dump(mode="json"), None, tuple(seen))


async def response(
    client: AsyncOpenAI,
    *,
    stream_id: str = "",
    model: str = MODEL,
    starting_after: int | None = None,
    cancel: bool = False,
) -> Shown:
    """Responses: a new one, or a stored one from its beginning or from after a number, or as a cancel leaves it."""
    if cancel:
        return Shown((await client.responses.cancel(stream_id)).model_dump(mode="json"))
    if not stream_id:
        created = await client.responses.create(model=model, input=QUESTION, stream=True, background=True)
        return await _read_response(created)
    cursor: Any = {} if starting_after is None else {"starting_after": starting_after}
    return await _read_response(await client.responses.retrieve(stream_id, stream=True, **cursor))


async def _read_response(events: Any) -> Shown:
    seen: list[Json] = []
    error: Json | None = None
    try:
        async for event in events:
            seen.append(event.model_dump(mode="json"))  # noqa: PERF401  what came before an error is kept
    except OpenAIError as failure:
        error = describe(failure)
    return of_events(seen, error)


async def message(client: AsyncAnthropic, *, model: str = MODEL, headers: Headers = None, **_: Any) -> Shown:
    """Messages, by the helper that puts the final object together."""
    seen: list[str] = []
    final: Any = None
    try:
        async with client.messages.stream(
            model=model, max_tokens=1024, messages=MESSAGES, extra_headers=headers
        ) as stream:
            async for event in stream:
                seen.append(event.type)
                final = stream.current_message_snapshot
            final = await stream.get_final_message()
    except AnthropicError as error:
        return Shown(final.model_dump(mode="json") if final else None, describe(error), tuple(seen))
    return Shown(final.model_dump(mode="json"), None, tuple(seen))


def find_curl() -> str:
    """The program's path."""
    return find_program("curl", remedy="install it, e.g. apt install curl")


async def curl(url: str, *options: str) -> bytes:
    """The body, byte for byte."""
    process = await asyncio.create_subprocess_exec(
        *(find_curl(), "--silent", "--show-error", "--no-buffer", "--max-time", "60", *options, url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    body, _ = await process.communicate()
    return body


def entries_of(body: bytes) -> list[Json]:
    """The entries in a body of the native dialect; the hub's notices are left out."""
    return [
        {"id": message.id, "event": json.loads(message.data)}
        for message in SseDecoder().decode(body)
        if message.event == DEFAULT_EVENT
    ]
