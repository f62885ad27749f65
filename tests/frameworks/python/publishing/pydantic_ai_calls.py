"""Pydantic AI: the events of a run, of its nodes and of one model request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from jobs import Answer, Job
from pydantic_ai import Agent, AgentRunResultEvent
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import ModelRequest
from pydantic_ai_rows import ROWS


def _model(job: Job, row: str) -> Any:
    return ROWS[row].create(job)


def _agent(job: Job, answer: Answer, row: str = "pydantic-ai: chat") -> Agent[None, str]:
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return answer.weather(city)

    return Agent(_model(job, row), tools=[get_weather])


async def _nodes(job: Job, answer: Answer) -> AsyncIterator[Any]:
    """The loop over an agent's nodes that docs/sources.md shows."""
    async with _agent(job, answer).iter(job.prompt) as run:
        async for node in run:
            if Agent.is_model_request_node(node) or Agent.is_call_tools_node(node):
                async with node.stream(run.ctx) as events:
                    async for event in events:
                        yield event
        yield AgentRunResultEvent(run.result)


async def _text(job: Job, answer: Answer) -> AsyncIterator[str]:
    async with _agent(job, answer).run_stream(job.prompt) as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            yield text


def _request(job: Job) -> list[Any]:
    return [ModelRequest.user_text_prompt(job.prompt)]


CALLS = {
    "Pydantic AI: run_stream_events, chat": lambda job, answer: _agent(job, answer).run_stream_events(job.prompt),
    "Pydantic AI: run_stream_events, Responses": lambda job, answer: _agent(
        job, answer, "pydantic-ai: Responses"
    ).run_stream_events(job.prompt),
    "Pydantic AI: run_stream_events, Anthropic": lambda job, answer: _agent(
        job, answer, "pydantic-ai: Anthropic"
    ).run_stream_events(job.prompt),
    "Pydantic AI: iter": _nodes,
    "Pydantic AI: stream_text": _text,
    "Pydantic AI: run_stream": lambda job, answer: _agent(job, answer).run_stream(job.prompt),
    "Pydantic AI: model_request_stream": lambda job, _: model_request_stream(
        _model(job, "pydantic-ai: chat"), _request(job)
    ),
}
