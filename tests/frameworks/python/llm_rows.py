"""``llm``: the models of its default plugin, by its Python API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs import KEY, Answer, City, Job
from llm.default_plugins.openai_models import AsyncChat, AsyncResponses


async def _end(answer: Answer, response: Any) -> None:
    answer.text = await response.text()
    usage = await response.usage()
    answer.count(usage.input, usage.output)


@dataclass(frozen=True)
class Llm:
    """An asynchronous model."""

    kind: type[AsyncChat] | type[AsyncResponses]

    async def plain(self, job: Job, answer: Answer) -> None:
        response = self._model(job).prompt(job.prompt, stream=False)
        await _end(answer, response)

    async def stream(self, job: Job, answer: Answer) -> None:
        response = self._model(job).prompt(job.prompt)
        async for delta in response:
            if answer.add(delta, job):
                return
        await _end(answer, response)

    async def tools(self, job: Job, answer: Answer) -> None:
        def get_weather(city: str) -> str:
            """The weather in a city."""
            return answer.weather(city)

        answer.text = await self._model(job).chain(job.prompt, tools=[get_weather]).text()

    async def structured(self, job: Job, answer: Answer) -> None:
        text = await self._model(job).prompt(job.prompt, schema=City).text()
        answer.object = City.model_validate_json(text).model_dump()

    def _model(self, job: Job) -> Any:
        return self.kind(
            job.model, key=KEY, model_name=job.model, api_base=job.openai_url, supports_schema=True, supports_tools=True
        )


ROWS = {"llm: chat": Llm(AsyncChat), "llm: Responses": Llm(AsyncResponses)}
