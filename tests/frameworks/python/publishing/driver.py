"""The driver of ``publish``: broadcaster beside a framework, in the framework's environment.

    python driver.py SITE_PACKAGES

broadcaster is on the path (PYTHONPATH), and its packages are in ``SITE_PACKAGES``, behind those of the framework. A job
is the publication of one source; its answer says what was stored (``Published``).
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(sys.argv[1])
sys.path.append(str(Path(__file__).parents[1]))
os.environ.update(
    LITELLM_LOCAL_MODEL_COST_MAP="True", OPENAI_AGENTS_DISABLE_TRACING="1", LLM_USER_PATH=tempfile.mkdtemp()
)

from jobs import Answer, Job, serve

from broadcaster import Broadcaster, sync

# The module of each framework, by how its rows begin.
MODULES = {
    "LangChain": "langchain_calls",
    "LangGraph": "langgraph_calls",
    "Pydantic AI": "pydantic_ai_calls",
    "OpenAI Agents": "openai_agents_calls",
    "LiteLLM": "litellm_calls",
    "openai": "openai_calls",
    "anthropic": "anthropic_calls",
}


class Publishing:
    """The ways to publish one row's source; ``call`` makes the source from a job and an answer."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def publish(self, job: Job, answer: Answer) -> None:
        async with Broadcaster.from_url(job.redis_url) as broadcaster:
            await _note(broadcaster, await broadcaster.publish(await self._source(job, answer)), answer)

    async def tee(self, job: Job, answer: Answer) -> None:
        async with Broadcaster.from_url(job.redis_url) as broadcaster:
            async with broadcaster.tee(await self._source(job, answer)) as tee:
                async for item in tee:
                    answer.deltas.append(type(item).__name__)
                    if job.abort_after is not None and len(answer.deltas) >= job.abort_after:
                        break
            await _note(broadcaster, await tee.result(), answer)

    async def blocking(self, job: Job, answer: Answer) -> None:
        source = await self._source(job, answer)
        await asyncio.to_thread(_publish_blocking, job, source, answer)

    async def _source(self, job: Job, answer: Answer) -> Any:
        source = self._call(job, answer)
        return await source if inspect.iscoroutine(source) else source


def _publish_blocking(job: Job, source: Any, answer: Answer) -> None:
    with sync.BlockingBroadcaster.from_url(job.redis_url) as broadcaster:
        result = broadcaster.publish(source)
        events = [event.raw for event in broadcaster.events(result.id)]
    answer.object = _published(result, events)


async def _note(broadcaster: Broadcaster, result: Any, answer: Answer) -> None:
    answer.object = _published(result, [event.raw async for event in broadcaster.events(result.id)])


def _published(result: Any, events: list[bytes]) -> dict[str, Any]:
    return {
        "text": result.text,
        "status": result.status,
        "finish_reason": result.finish_reason,
        "usage": result.usage,
        "abort_reason": result.abort_reason,
        "events": [json.loads(event) for event in events],
    }


def find(row: str) -> Any:
    """The ways of a row."""
    name = MODULES[row.partition(":")[0]]
    if name not in sys.modules:
        importlib.import_module(name)
        gc.freeze()
    return Publishing(sys.modules[name].CALLS[row])


if __name__ == "__main__":
    asyncio.run(serve(find))
