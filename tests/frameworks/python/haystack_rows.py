"""haystack: its generators of both APIs of OpenAI, and the agent over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from jobs import KEY, Answer, City, Job


class Left(Exception):
    """The only way out of a stream of haystack: the callback raises."""


def _end(answer: Answer, reply: ChatMessage) -> None:
    answer.text = reply.text or ""
    answer.finish = reply.meta.get("finish_reason") or reply.meta.get("status")
    counts: Any = reply.meta.get("usage") or {}
    read = counts.get("prompt_tokens", counts.get("input_tokens"))
    answer.count(read, counts.get("completion_tokens", counts.get("output_tokens")))


@dataclass(frozen=True)
class Haystack:
    """``field`` is the generation's option that takes a class."""

    generator: Callable[..., Any]
    field: str

    async def plain(self, job: Job, answer: Answer) -> None:
        _end(answer, await self._reply(job))

    async def stream(self, job: Job, answer: Answer) -> None:
        async def receive(chunk: StreamingChunk) -> None:
            if answer.add(chunk.content, job):
                raise Left

        try:
            _end(answer, await self._reply(job, streaming_callback=receive))
        except Left:
            return

    async def tools(self, job: Job, answer: Answer) -> None:
        def get_weather(city: str) -> str:
            """The weather in a city."""
            return answer.weather(city)

        agent = Agent(chat_generator=self._create(job), tools=[create_tool_from_function(get_weather)])
        result = await agent.run_async(messages=[ChatMessage.from_user(job.prompt)])
        answer.text = result["messages"][-1].text

    async def structured(self, job: Job, answer: Answer) -> None:
        reply = await self._reply(job, generation_kwargs={self.field: City})
        answer.object = City.model_validate_json(reply.text or "").model_dump()

    def _create(self, job: Job) -> Any:
        return self.generator(api_key=Secret.from_token(KEY), model=job.model, api_base_url=job.openai_url)

    async def _reply(self, job: Job, **options: Any) -> ChatMessage:
        result = await self._create(job).run_async(messages=[ChatMessage.from_user(job.prompt)], **options)
        reply: ChatMessage = result["replies"][0]
        return reply


ROWS = {
    "haystack: chat": Haystack(OpenAIChatGenerator, "response_format"),
    "haystack: Responses": Haystack(OpenAIResponsesChatGenerator, "text_format"),
}
