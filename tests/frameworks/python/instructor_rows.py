"""instructor: objects alone, by tools or by a schema, whole and growing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import instructor
from anthropic import AsyncAnthropic
from jobs import KEY, Answer, City, Job
from openai import AsyncOpenAI


def _openai(mode: instructor.Mode) -> Callable[[Job], Any]:
    return lambda job: instructor.from_openai(AsyncOpenAI(base_url=job.openai_url, api_key=KEY), mode=mode)


def _anthropic(job: Job) -> Any:
    return instructor.from_anthropic(
        AsyncAnthropic(base_url=job.url, api_key=KEY), mode=instructor.Mode.ANTHROPIC_TOOLS
    )


@dataclass(frozen=True)
class Instructor:
    """A patched client."""

    create: Callable[[Job], Any]
    options: tuple[tuple[str, Any], ...] = ()

    async def plain(self, job: Job, answer: Answer) -> None:
        await self.structured(job, answer)

    async def stream(self, job: Job, answer: Answer) -> None:
        async for city in self.create(job).create_partial(**self._request(job)):
            answer.object = city.model_dump()

    async def structured(self, job: Job, answer: Answer) -> None:
        await self.stream(job, answer)
        assert answer.object == (await self.create(job).create(**self._request(job))).model_dump()

    def _request(self, job: Job) -> dict[str, Any]:
        messages = [{"role": "user", "content": job.prompt}]
        return {"model": job.model, "response_model": City, "messages": messages, **dict(self.options)}


ROWS = {
    "instructor: TOOLS": Instructor(_openai(instructor.Mode.TOOLS)),
    "instructor: JSON_SCHEMA": Instructor(_openai(instructor.Mode.JSON_SCHEMA)),
    "instructor: ANTHROPIC_TOOLS": Instructor(_anthropic, (("max_tokens", 1024),)),
}
