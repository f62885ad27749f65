"""openai-agents: agents over a model of either API of OpenAI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents import Agent, Model, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from jobs import KEY, Answer, City, Job
from openai import AsyncOpenAI


def _client(job: Job) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=job.openai_url, api_key=KEY)


def _end(answer: Answer, result: Any) -> None:
    answer.text = result.final_output
    usage = result.context_wrapper.usage
    answer.count(usage.input_tokens, usage.output_tokens)


@dataclass(frozen=True)
class OpenAIAgents:
    """An agent."""

    create: Callable[[Job], Model]

    async def plain(self, job: Job, answer: Answer) -> None:
        _end(answer, await Runner.run(self._agent(job), job.prompt))

    async def stream(self, job: Job, answer: Answer) -> None:
        result = Runner.run_streamed(self._agent(job), job.prompt)
        async for event in result.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                if answer.add(event.data.delta, job):
                    result.cancel()
                    return
        _end(answer, result)

    async def tools(self, job: Job, answer: Answer) -> None:
        @function_tool
        def get_weather(city: str) -> str:
            """The weather in a city."""
            return answer.weather(city)

        answer.text = (await Runner.run(self._agent(job, tools=[get_weather]), job.prompt)).final_output

    async def structured(self, job: Job, answer: Answer) -> None:
        answer.object = (await Runner.run(self._agent(job, output_type=City), job.prompt)).final_output.model_dump()

    def _agent(self, job: Job, **options: Any) -> Agent[Any]:
        return Agent(name="assistant", model=self.create(job), **options)


ROWS = {
    "openai-agents: Responses": OpenAIAgents(lambda job: OpenAIResponsesModel(job.model, openai_client=_client(job))),
    "openai-agents: chat": OpenAIAgents(lambda job: OpenAIChatCompletionsModel(job.model, openai_client=_client(job))),
}
