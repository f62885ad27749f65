"""Streams of released SDKs are published whole, by every way of publishing: text, tools, counts, the end."""

from __future__ import annotations

import asyncio
import itertools
import sysconfig
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest
import pytest_asyncio

from broadcaster.testing import Conversation, Script, ScriptedProvider
from tests.compat.node_clients import Json
from tests.frameworks.drivers import ENVIRONMENTS, ROOT, Drivers, Environment
from tests.frameworks.model import ANSWER_TEXT, PROMPT, RESULT, WEATHER_PROMPT, Model
from tests.frameworks.publishing.rows import NEW, OLD, SOURCES, Source
from tests.frameworks.rows import CHAT, RESPONSES
from tests.frameworks.serving import ENDED_S, MODELS

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers: Final = itertools.count(1)


def _environment(of: str) -> Environment:
    """The driver of publications, in the environment of other rows."""
    python, _ = ENVIRONMENTS[of].command()
    folder = ENVIRONMENTS[of].folder / "publishing"
    packages = sysconfig.get_path("purelib")
    command = ("env", f"PYTHONPATH={ROOT}", python, "driver.py", packages)
    return Environment(lambda: command, folder, ENVIRONMENTS[of].needs, ENVIRONMENTS[of].remedy)


PUBLISHING: Final = {NEW: _environment("python"), OLD: _environment("python-openai2")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def publishing() -> AsyncIterator[Drivers]:
    async with Drivers(PUBLISHING) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider(default=Script(Model())) as scripted:
        yield scripted


def rows(*sources: Source) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("source", sources, ids=str)


class Publishing:
    """Publications of a row, in its environment."""

    def __init__(self, drivers: Drivers, provider: ScriptedProvider, redis_url: str) -> None:
        self._drivers = drivers
        self._job = {"url": provider.base_url, "redis_url": redis_url}

    async def published(self, source: Source, way: str, **job: Any) -> Json:
        """What was stored."""
        answer = await self._request(source, way, **job)
        assert answer["error"] is None, answer["error"]
        stored: Json = answer["object"]
        return stored

    async def refused(self, source: Source) -> Json:
        """The exception of ``publish``."""
        error: Json = (await self._request(source, "publish"))["error"]
        return error

    async def _request(self, source: Source, way: str, **job: Any) -> Json:
        fields = {"model": f"{MODELS[source.wire]}-{next(_numbers)}", "prompt": source.prompt, **self._job, **job}
        return await self._drivers.request(source, way, **fields)


@pytest_asyncio.fixture(loop_scope="module")
async def calls(publishing: Drivers, provider: ScriptedProvider, redis_url: str) -> Publishing:
    return Publishing(publishing, provider, redis_url)


def types_of(events: Sequence[Json]) -> list[str]:
    return [event["type"] for event in events]


def judge(source: Source, stored: Json) -> None:
    """The whole answer, and what the SDK knows of it."""
    events = stored["events"]
    assert (stored["text"], stored["status"]) == (source.text, "finished"), events
    assert stored["finish_reason"] == source.finish
    assert types_of(events).count("text-delta") > 1 or source.text == ANSWER_TEXT
    if source.has_counts:
        assert stored["usage"]["outputTokens"] > 0, stored["usage"]
        assert stored["usage"]["inputTokens"] > 0 or not source.has_input, stored["usage"]
        # Of a call the scripted provider counts no output.
        assert "estimated" not in stored["usage"] or "tool-input-available" in types_of(events), stored["usage"]
    if source.runs_tool:
        judge_tool(events)


def judge_tool(events: Sequence[Json]) -> None:
    """The call comes before its output, and both before the text; they are steps of one answer."""
    (called,) = [event for event in events if event["type"] == "tool-input-available"]
    (returned,) = [event for event in events if event["type"] == "tool-output-available"]
    assert (called["toolName"], called["input"]) == ("get_weather", {"city": "Paris"})
    assert (returned["toolCallId"], returned["output"]) == (called["toolCallId"], RESULT)
    order = types_of(events)
    assert order.index("tool-input-available") < order.index("tool-output-available") < order.index("text-delta")
    assert (order.count("start"), order.count("start-step"), order.count("finish-step")) == (1, 2, 2), order


@rows(*SOURCES)
async def test_a_stream_is_published_whole(calls: Publishing, source: Source) -> None:
    judge(source, await calls.published(source, "publish"))


@rows(*SOURCES)
async def test_a_tee_publishes_a_stream_whole_and_yields_its_items(calls: Publishing, source: Source) -> None:
    judge(source, await calls.published(source, "tee"))


@rows(*(source for source in SOURCES if source.is_blocking))
async def test_a_blocking_program_publishes_a_stream_whole(calls: Publishing, source: Source) -> None:
    judge(source, await calls.published(source, "blocking"))


@rows(*(source for source in SOURCES if source.label.startswith("LangGraph: modes")))
async def test_other_modes_of_a_graph_are_data_and_a_node_writes_events(calls: Publishing, source: Source) -> None:
    events = (await calls.published(source, "publish"))["events"]
    (progress,) = [event for event in events if event["type"] == "data-progress"]
    assert progress["data"] == {"done": 1, "total": 2, "message": "Paris"}
    (custom,) = [event for event in events if event["type"] == "data-langgraph-custom"]
    assert custom["data"]["data"] == "half-way"
    updates = [event["data"]["data"] for event in events if event["type"] == "data-langgraph-updates"]
    assert [list(update) for update in updates] == [["agent"], ["tools"], ["agent"]]


@rows(Source("OpenAI Agents: handoff", RESPONSES))
async def test_a_handoff_is_a_call_with_its_output_and_names_the_new_agent(calls: Publishing, source: Source) -> None:
    events = (await calls.published(source, "publish"))["events"]
    agents = [event["data"]["agent"] for event in events if event["type"] == "data-openai-agents"]
    assert agents == ["assistant", "writer"]
    (called,) = [event for event in events if event["type"] == "tool-input-available"]
    (returned,) = [event for event in events if event["type"] == "tool-output-available"]
    assert called["toolName"] == "transfer_to_writer"
    assert returned["toolCallId"] == called["toolCallId"]
    assert "writer" in str(returned["output"])


@rows(Source("OpenAI Agents: ended by a tool", RESPONSES, prompt=WEATHER_PROMPT))
async def test_a_run_that_a_tool_ends_is_whole(calls: Publishing, source: Source) -> None:
    stored = await calls.published(source, "publish")
    assert (stored["text"], stored["status"], stored["finish_reason"]) == ("", "finished", "tool-calls")
    assert types_of(stored["events"])[-3:] == ["finish-step", "tool-output-available", "finish"]


@rows(Source("OpenAI Agents: Responses", RESPONSES), Source("LangGraph: messages", CHAT))
async def test_a_tee_that_is_left_stops_the_provider(
    calls: Publishing, provider: ScriptedProvider, source: Source
) -> None:
    conversation = Conversation(timeout_s=ENDED_S * 3)
    model = f"{MODELS[source.wire]}-left-{next(_numbers)}"
    provider.script(model, Script(conversation.as_step()))
    job = {"model": model, "prompt": PROMPT, "abort_after": 2}
    leaving = asyncio.create_task(calls.published(source, "tee", **job))
    for piece in ("Left ", "behind"):
        await conversation.send_text(piece)
    await (await conversation.request()).wait_disconnected(ENDED_S)
    stored = await leaving
    assert (stored["status"], stored["abort_reason"]) == ("aborted", "stopped")


@rows(Source("Pydantic AI: run_stream", CHAT))
async def test_an_object_without_events_is_refused_with_the_call_to_make(calls: Publishing, source: Source) -> None:
    error = await calls.refused(source)
    assert error["name"] == "TypeError"
    assert "publish agent.run_stream_events(" in error["message"]
