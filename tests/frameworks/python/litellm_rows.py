"""litellm: ``openai/``, ``openai/responses/`` and ``anthropic/`` before the model's name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import litellm
from jobs import KEY, Answer, City, Job

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass(frozen=True)
class Litellm:
    """``litellm.acompletion``."""

    prefix: str

    async def plain(self, job: Job, answer: Answer) -> None:
        completion = await self._complete(job, [{"role": "user", "content": job.prompt}])
        answer.text = completion.choices[0].message.content
        answer.finish = completion.choices[0].finish_reason
        answer.count(completion.usage.prompt_tokens, completion.usage.completion_tokens)

    async def stream(self, job: Job, answer: Answer) -> None:
        messages = [{"role": "user", "content": job.prompt}]
        chunks = await self._complete(job, messages, stream=True, stream_options={"include_usage": True})
        async for chunk in chunks:
            if usage := getattr(chunk, "usage", None):
                answer.count(usage.prompt_tokens, usage.completion_tokens)
            for choice in chunk.choices:
                answer.finish = choice.finish_reason or answer.finish
                if answer.add(choice.delta.content, job):
                    await chunks.aclose()
                    return

    async def tools(self, job: Job, answer: Answer) -> None:
        messages: list[Any] = [{"role": "user", "content": job.prompt}]
        message = (await self._complete(job, messages, tools=[WEATHER])).choices[0].message
        messages.append(message)
        for call in message.tool_calls or ():
            result = answer.weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": result})
        answer.text = (await self._complete(job, messages, tools=[WEATHER])).choices[0].message.content

    async def structured(self, job: Job, answer: Answer) -> None:
        completion = await self._complete(job, [{"role": "user", "content": job.prompt}], response_format=City)
        answer.object = City.model_validate_json(completion.choices[0].message.content).model_dump()

    async def _complete(self, job: Job, messages: list[Any], **options: Any) -> Any:
        address = job.url if self.prefix == "anthropic" else job.openai_url
        return await litellm.acompletion(
            model=f"{self.prefix}/{job.model}", api_base=address, api_key=KEY, messages=messages, **options
        )


ROWS = {
    "litellm: openai/": Litellm("openai"),
    "litellm: openai/responses/": Litellm("openai/responses"),
    "litellm: anthropic/": Litellm("anthropic"),
}
