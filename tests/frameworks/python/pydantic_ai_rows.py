"""pydantic-ai: its agents over models of OpenAI, on both APIs, and of Anthropic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs import KEY, Answer, City, Job
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


def _openai(job: Job) -> OpenAIProvider:
    return OpenAIProvider(base_url=job.openai_url, api_key=KEY)


def _end(answer: Answer, result: Any) -> None:
    answer.finish = result.response.finish_reason
    usage = result.response.usage
    answer.count(usage.input_tokens, usage.output_tokens)


@dataclass(frozen=True)
class PydanticAi:
    """An agent."""

    create: Callable[[Job], Model]

    async def plain(self, job: Job, answer: Answer) -> None:
        result = await Agent(self.create(job)).run(job.prompt)
        answer.text = result.output
        _end(answer, result)

    async def stream(self, job: Job, answer: Answer) -> None:
        async with Agent(self.create(job)).run_stream(job.prompt) as result:
            async for delta in result.stream_text(delta=True, debounce_by=None):
                if answer.add(delta, job):
                    return
            _end(answer, result)

    async def tools(self, job: Job, answer: Answer) -> None:
        def get_weather(city: str) -> str:
            """The weather in a city."""
            return answer.weather(city)

        answer.text = (await Agent(self.create(job), tools=[get_weather]).run(job.prompt)).output

    async def structured(self, job: Job, answer: Answer) -> None:
        answer.object = (await Agent(self.create(job), output_type=City).run(job.prompt)).output.model_dump()


ROWS = {
    "pydantic-ai: chat": PydanticAi(lambda job: OpenAIChatModel(job.model, provider=_openai(job))),
    "pydantic-ai: Responses": PydanticAi(lambda job: OpenAIResponsesModel(job.model, provider=_openai(job))),
    "pydantic-ai: Anthropic": PydanticAi(
        lambda job: AnthropicModel(job.model, provider=AnthropicProvider(base_url=job.url, api_key=KEY))
    ),
}
