"""llama-index: its model for servers of OpenAI's API, and the agent over it."""

from __future__ import annotations

from typing import Any

from jobs import KEY, Answer, City, Job
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike


def _model(job: Job) -> OpenAILike:
    # Without the first of the two, llama-index calls /v1/completions; without the other, no agent accepts the model.
    return OpenAILike(
        model=job.model, api_base=job.openai_url, api_key=KEY, is_chat_model=True, is_function_calling_model=True
    )


class LlamaIndex:
    """A model and an agent."""

    async def plain(self, job: Job, answer: Answer) -> None:
        response = await _model(job).acomplete(job.prompt)
        raw: Any = response.raw
        answer.text = response.text
        answer.finish = raw.choices[0].finish_reason
        answer.count(raw.usage.prompt_tokens, raw.usage.completion_tokens)

    async def stream(self, job: Job, answer: Answer) -> None:
        async for response in await _model(job).astream_complete(job.prompt):
            raw: Any = response.raw
            if raw.choices:
                answer.finish = raw.choices[0].finish_reason or answer.finish
            if answer.add(response.delta, job):
                return
            answer.text = response.text

    async def tools(self, job: Job, answer: Answer) -> None:
        def get_weather(city: str) -> str:
            """The weather in a city."""
            return answer.weather(city)

        answer.text = str(await FunctionAgent(tools=[get_weather], llm=_model(job)).run(job.prompt))

    async def structured(self, job: Job, answer: Answer) -> None:
        response: Any = await _model(job).as_structured_llm(City).acomplete(job.prompt)
        answer.object = response.raw.model_dump()


ROWS = {"llama-index: OpenAILike": LlamaIndex()}
