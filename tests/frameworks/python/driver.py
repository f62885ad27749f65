"""The driver of all rows of Python: it imports a framework at its row's first request."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import sys
import tempfile

from jobs import Framework, serve

# The module of each framework, by how its rows begin.
MODULES = {
    "LangChain": "langchain_rows",
    "LangGraph": "langgraph_rows",
    "haystack": "haystack_rows",
    "instructor": "instructor_rows",
    "litellm": "litellm_rows",
    "llama-index": "llama_index_rows",
    "llm": "llm_rows",
    "openai-agents": "openai_agents_rows",
    "pydantic-ai": "pydantic_ai_rows",
    "smolagents": "smolagents_rows",
}
# Frameworks that report to their makers, look for files of the user, or fetch lists: not here.
os.environ.update(
    HAYSTACK_TELEMETRY_ENABLED="False",
    HF_HUB_OFFLINE="1",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    LLM_USER_PATH=tempfile.mkdtemp(prefix="frameworks-"),
    OPENAI_AGENTS_DISABLE_TRACING="1",
)


def find(row: str) -> Framework:
    """The framework of a row."""
    name = MODULES[row.partition(":")[0]]
    if name not in sys.modules:
        importlib.import_module(name)
        gc.freeze()  # what a framework brings is no garbage, and takes half a second to look through
    return sys.modules[name].ROWS[row]


if __name__ == "__main__":
    asyncio.run(serve(find))
