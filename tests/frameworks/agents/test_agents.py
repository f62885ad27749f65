"""Coding agents against the product itself.

Each shows a text, makes a file, meets a refusal, is left and stopped in mid-answer, and loses its worker.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broadcaster.testing import Answer, Script
from tests.frameworks.agents.model import DONE, FILE, LINE, PART, TASK, CodingModel, InterruptedModel, TalkingModel
from tests.frameworks.agents.programs import AGENT_TIMEOUT_S, AGENTS, Agent, Ran, Working, run, work_on
from tests.frameworks.model import CITY, CITY_PROMPT, PROMPT, TEXT
from tests.frameworks.rows import CHAT, ERRORS, LOST, MESSAGES, PLAIN, RESPONSES, STOP, STREAM, STRUCTURED, TOOLS
from tests.frameworks.serving import ENDED_S, Serving

# Several agents run in a test, and some take seconds of an idle core to begin.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

ANSWER = "".join(DONE)


def agents(case: str) -> pytest.MarkDecorator:
    """Run the test for every agent that does not leave the case out, each filling its cell as ``agent``."""
    params = [
        pytest.param(agent, marks=pytest.mark.frameworks(agent.label, case), id=agent.label)
        for agent in AGENTS
        if case not in agent.left_out
    ]
    return pytest.mark.parametrize("agent", params)


def has_made_it(ran: Ran) -> bool:
    """Whether the file is there, and the agent reports it and succeeds."""
    file = ran.folder / FILE
    return ran.code == 0 and file.exists() and file.read_text() == f"{LINE}\n"


async def show_a_text(serving: Serving, agent: Agent, home: Path, *, is_streamed: bool) -> None:
    """A task without a tool: the agent shows the whole text once, and succeeds, with a model of each wire."""
    more = () if is_streamed else agent.plain
    for wire in (CHAT, RESPONSES, MESSAGES):
        model = serving.model(wire)
        serving.scripted.script(model, Script(TalkingModel()))
        serving.address.forget()
        ran = await run(agent, home / wire, url=serving.url, model=model, task=PROMPT, more=more)
        assert (ran.code, " ".join(ran.output.split()).count(TEXT)) == (0, 1), (wire, ran)
        assert bool(serving.address.lines_with(b"text/event-stream")) is is_streamed, wire
        assert (await serving.generation(model)).status == "finished"


@agents(PLAIN)
async def test_an_agent_shows_a_text_that_it_has_not_streamed(serving: Serving, agent: Agent, tmp_path: Path) -> None:
    await show_a_text(serving, agent, tmp_path, is_streamed=False)


@agents(STREAM)
async def test_an_agent_shows_the_whole_text_of_a_stream_once(serving: Serving, agent: Agent, tmp_path: Path) -> None:
    await show_a_text(serving, agent, tmp_path, is_streamed=True)


@agents(STRUCTURED)
async def test_an_agent_gives_the_object_of_a_schema(serving: Serving, agent: Agent, tmp_path: Path) -> None:
    for wire in (CHAT, RESPONSES, MESSAGES):
        model = serving.model(wire)
        serving.scripted.script(model, Script(TalkingModel()))
        given = {"url": serving.url, "model": model, "task": CITY_PROMPT}
        ran = await run(agent, tmp_path / wire, **given, more=agent.structured)
        assert ran.code == 0, (wire, ran)
        shown = json.loads(ran.output)
        # Claude Code shows its run as JSON, and the object in it.
        assert shown.get("structured_output", shown) == CITY, (wire, ran)


@agents(TOOLS)
async def test_an_agent_makes_a_file_with_a_model_of_each_wire(serving: Serving, agent: Agent, tmp_path: Path) -> None:
    for wire in (CHAT, RESPONSES, MESSAGES):
        model = serving.model(wire)
        serving.scripted.script(model, Script(CodingModel()))
        ran = await run(agent, tmp_path / wire, url=serving.url, model=model, task=TASK)
        assert has_made_it(ran), (wire, ran)
        assert ran.output.count(ANSWER) <= 1, ran
        assert (await serving.generation(model)).status == "finished"


@agents(ERRORS)
async def test_an_agent_shows_a_refused_key_and_retries_after_too_many_requests(
    serving: Serving, agent: Agent, tmp_path: Path
) -> None:
    model = serving.model(agent.surface)
    refusal = Answer(401, message="this key is not one of ours")
    serving.scripted.script(model, Script(refusal))
    ran = await run(agent, tmp_path / "refused", url=serving.url, model=model, task=TASK)
    assert "this key is not one of ours" in ran.shown, ran
    assert not (ran.folder / FILE).exists()
    model = serving.model(agent.surface)
    too_many = Answer(429, headers={"retry-after": "0"}, message="too many requests")
    serving.scripted.script(model, Script(too_many), Script(CodingModel()))
    ran = await run(agent, tmp_path / "limited", url=serving.url, model=model, task=TASK)
    assert has_made_it(ran) or "too many requests" in ran.shown.lower(), ran


@asynccontextmanager
async def interrupted(
    serving: Serving, agent: Agent, home: Path
) -> AsyncIterator[tuple[Working, InterruptedModel, str]]:
    """An agent that has received ``PART`` of an answer, the model that waits there, and the model's name."""
    serving.address.forget()
    name = serving.model(agent.surface)
    model = InterruptedModel()
    serving.scripted.script(name, Script(model))
    async with work_on(agent, home, url=serving.url, model=name, task=TASK) as working:
        async with asyncio.timeout(AGENT_TIMEOUT_S):
            await model.has_begun.wait()
        await serving.until_received(PART)
        yield working, model, name


def has_no_text_twice(ran: Ran) -> bool:
    """Of the model's texts."""
    return ran.output.count(PART) <= 1 and ran.output.count(ANSWER) <= 1


@agents(STOP)
async def test_an_agent_that_its_user_ends_stops_the_answer_and_a_stop_ends_the_agent(
    serving: Serving, agent: Agent, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """An agent with a reason repeats a request that was stopped."""
    async with interrupted(serving, agent, tmp_path / "left") as (working, model, name):
        generation = await serving.open_generation(name)
        await working.leave()
        assert model.request is not None
        await model.request.wait_disconnected(ENDED_S)
        assert await serving.end_of(generation.id) == "aborted"
    async with interrupted(serving, agent, tmp_path / "stopped") as (working, _, name):
        generation = await serving.open_generation(name)
        await serving.native.stop(generation.id)
        ran = await working.end()
        assert await serving.end_of(generation.id) == "aborted"
        assert has_no_text_twice(ran), ran
        reason = agent.reasons.get(STOP)
        assert (ran.folder / FILE).exists() is (reason is not None), ran
        if reason is not None:
            record_property("reason", reason)


@agents(LOST)
async def test_an_agent_whose_worker_is_killed_ends_with_an_error_or_completes_and_never_doubles_text(
    serving: Serving, agent: Agent, tmp_path: Path
) -> None:
    async with interrupted(serving, agent, tmp_path / "lost") as (working, _, _):
        await serving.replace_worker()
        ran = await working.end()
    assert has_made_it(ran) or ran.code != 0, ran
    assert has_no_text_twice(ran), ran
