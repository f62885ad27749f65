"""openai: chat completions and Responses, async and blocking, by ``create`` and by the helpers."""

from __future__ import annotations

from typing import Any

from jobs import KEY, Job
from openai import AsyncOpenAI, OpenAI


def _client(job: Job) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=job.openai_url, api_key=KEY)


def _blocking(job: Job) -> OpenAI:
    return OpenAI(base_url=job.openai_url, api_key=KEY)


def _chat(job: Job) -> dict[str, Any]:
    messages = [{"role": "user", "content": job.prompt}]
    return {"model": job.model, "messages": messages, "stream_options": {"include_usage": True}}


def _responses(job: Job) -> dict[str, Any]:
    return {"model": job.model, "input": job.prompt}


CALLS = {
    "openai: chat": lambda job, _: _client(job).chat.completions.create(**_chat(job), stream=True),
    "openai: chat, helper": lambda job, _: _client(job).chat.completions.stream(**_chat(job)),
    "openai: chat, blocking helper": lambda job, _: _blocking(job).chat.completions.stream(**_chat(job)),
    "openai: Responses": lambda job, _: _client(job).responses.create(**_responses(job), stream=True),
    "openai: Responses, helper": lambda job, _: _client(job).responses.stream(**_responses(job)),
    "openai: Responses, blocking helper": lambda job, _: _blocking(job).responses.stream(**_responses(job)),
}
