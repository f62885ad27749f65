"""smolagents: its model of OpenAI's API, which blocks, and the agent over it."""

from __future__ import annotations

import asyncio
from typing import Any

from jobs import KEY, Answer, City, Job
from smolagents import ChatMessage, MessageRole, OpenAIModel, ToolCallingAgent, tool


def _model(job: Job) -> OpenAIModel:
    # Its own repetitions begin after a minute.
    return OpenAIModel(model_id=job.model, api_base=job.openai_url, api_key=KEY, retry=False)


def _messages(job: Job) -> list[Any]:
    return [ChatMessage(role=MessageRole.USER, content=[{"type": "text", "text": job.prompt}])]


class Smolagents:
    """A model and an agent, in threads."""

    async def plain(self, job: Job, answer: Answer) -> None:
        message = await asyncio.to_thread(lambda: _model(job).generate(_messages(job)))
        answer.text = str(message.content)
        answer.finish = message.raw.choices[0].finish_reason
        if usage := message.token_usage:
            answer.count(usage.input_tokens, usage.output_tokens)

    async def stream(self, job: Job, answer: Answer) -> None:
        await asyncio.to_thread(self._stream, job, answer)

    def _stream(self, job: Job, answer: Answer) -> None:
        for delta in _model(job).generate_stream(_messages(job)):
            if usage := delta.token_usage:
                answer.count(usage.input_tokens, usage.output_tokens)
            if answer.add(delta.content, job):
                return

    async def tools(self, job: Job, answer: Answer) -> None:
        @tool
        def get_weather(city: str) -> str:
            """The weather in a city.

            Args:
                city: The city.
            """
            return answer.weather(city)

        agent = ToolCallingAgent(tools=[get_weather], model=_model(job))
        answer.text = str(await asyncio.to_thread(agent.run, job.prompt))

    async def structured(self, job: Job, answer: Answer) -> None:
        schema = {"name": "city", "schema": City.model_json_schema()}
        wanted_format: Any = {"type": "json_schema", "json_schema": schema}
        message = await asyncio.to_thread(lambda: _model(job).generate(_messages(job), response_format=wanted_format))
        answer.object = City.model_validate_json(str(message.content)).model_dump()


ROWS = {"smolagents": Smolagents()}
