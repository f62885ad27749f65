"""anthropic: Messages, async and blocking, by ``create`` and by the helper."""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic, AsyncAnthropic
from jobs import KEY, Job


def _fields(job: Job) -> dict[str, Any]:
    return {"model": job.model, "messages": [{"role": "user", "content": job.prompt}], "max_tokens": 64}


CALLS = {
    "anthropic: create": lambda job, _: AsyncAnthropic(base_url=job.url, api_key=KEY).messages.create(
        **_fields(job), stream=True
    ),
    "anthropic: helper": lambda job, _: AsyncAnthropic(base_url=job.url, api_key=KEY).messages.stream(**_fields(job)),
    "anthropic: blocking helper": lambda job, _: Anthropic(base_url=job.url, api_key=KEY).messages.stream(
        **_fields(job)
    ),
}
