"""LiteLLM: its streams over each wire, async and blocking."""

from __future__ import annotations

from typing import Any

import litellm
from jobs import KEY, Job


def _fields(job: Job, prefix: str) -> dict[str, Any]:
    return {
        "model": f"{prefix}/{job.model}",
        "api_base": job.url if prefix == "anthropic" else job.openai_url,
        "api_key": KEY,
        "messages": [{"role": "user", "content": job.prompt}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


CALLS = {
    "LiteLLM: acompletion, chat": lambda job, _: litellm.acompletion(**_fields(job, "openai")),
    "LiteLLM: acompletion, Responses": lambda job, _: litellm.acompletion(**_fields(job, "openai/responses")),
    "LiteLLM: acompletion, Anthropic": lambda job, _: litellm.acompletion(**_fields(job, "anthropic")),
    "LiteLLM: completion, chat": lambda job, _: litellm.completion(**_fields(job, "openai")),
    "LiteLLM: completion, Anthropic": lambda job, _: litellm.completion(**_fields(job, "anthropic")),
}
