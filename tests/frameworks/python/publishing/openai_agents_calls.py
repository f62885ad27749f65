"""OpenAI Agents SDK: a streamed run, with tools, with a handoff, and one that a tool ends."""

from __future__ import annotations

from typing import Any

from agents import Agent, ModelSettings, Runner, function_tool
from jobs import Answer, Job
from openai_agents_rows import ROWS


def _run(job: Job, answer: Answer, row: str = "openai-agents: Responses", **options: Any) -> Any:
    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return answer.weather(city)

    settings = ModelSettings(include_usage=True)
    agent = Agent(
        name="assistant", model=ROWS[row].create(job), tools=[get_weather], model_settings=settings, **options
    )
    return Runner.run_streamed(agent, job.prompt)


def _handoff(job: Job) -> Any:
    model = ROWS["openai-agents: Responses"].create(job)
    writer = Agent(name="writer", model=model)
    return Runner.run_streamed(Agent(name="assistant", model=model, handoffs=[writer]), job.prompt)


CALLS = {
    "OpenAI Agents: Responses": _run,
    "OpenAI Agents: chat": lambda job, answer: _run(job, answer, "openai-agents: chat"),
    "OpenAI Agents: stream_events": lambda job, answer: _run(job, answer).stream_events(),
    "OpenAI Agents: handoff": lambda job, _: _handoff(job),
    "OpenAI Agents: ended by a tool": lambda job, answer: _run(job, answer, tool_use_behavior="stop_on_first_tool"),
}
