"""LangChain: its chat models of OpenAI, on both APIs, and of Anthropic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs import KEY, Answer, City, Job
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


def chat(job: Job) -> BaseChatModel:
    """Chat completions."""
    return ChatOpenAI(model=job.model, base_url=job.openai_url, api_key=KEY)


def responses(job: Job) -> BaseChatModel:
    """Responses."""
    return ChatOpenAI(model=job.model, base_url=job.openai_url, api_key=KEY, use_responses_api=True)


def anthropic(job: Job) -> BaseChatModel:
    """Messages."""
    return ChatAnthropic(model=job.model, base_url=job.url, api_key=KEY)


def end(answer: Answer, message: AIMessage | AIMessageChunk) -> None:
    """The finish reason and the counts of a message."""
    metadata: dict[str, Any] = message.response_metadata
    answer.finish = metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("status")
    if usage := message.usage_metadata:
        answer.count(usage["input_tokens"], usage["output_tokens"])


@dataclass(frozen=True)
class LangChain:
    """A chat model."""

    create: Callable[[Job], BaseChatModel]

    async def plain(self, job: Job, answer: Answer) -> None:
        message = await self.create(job).ainvoke(job.prompt)
        answer.text = message.text
        end(answer, message)

    async def stream(self, job: Job, answer: Answer) -> None:
        whole: AIMessageChunk | None = None
        async for chunk in self.create(job).astream(job.prompt):
            whole = chunk if whole is None else whole + chunk
            if answer.add(chunk.text, job):
                return
        if whole is not None:
            answer.text = whole.text
            end(answer, whole)

    async def tools(self, job: Job, answer: Answer) -> None:
        @tool
        def get_weather(city: str) -> str:
            """The weather in a city."""
            return answer.weather(city)

        model = self.create(job).bind_tools([get_weather])
        messages: list[Any] = [("user", job.prompt)]
        message = await model.ainvoke(messages)
        messages += [message, *[await get_weather.ainvoke(call) for call in message.tool_calls]]
        answer.text = (await model.ainvoke(messages)).text

    async def structured(self, job: Job, answer: Answer) -> None:
        answer.object = (await self.create(job).with_structured_output(City).ainvoke(job.prompt)).model_dump()


ROWS = {
    "LangChain: chat": LangChain(chat),
    "LangChain: Responses": LangChain(responses),
    "LangChain: Anthropic": LangChain(anthropic),
}
