"""LangChain: a chat model's stream, async and blocking."""

from __future__ import annotations

from jobs import KEY, Job
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_rows import anthropic, responses


def chat(job: Job) -> BaseChatModel:
    """Chat completions, with counts."""
    return ChatOpenAI(model=job.model, base_url=job.openai_url, api_key=KEY, stream_usage=True)


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"21 degrees in {city}"


CALLS = {
    "LangChain: chat, astream": lambda job, _: chat(job).astream(job.prompt),
    "LangChain: chat, stream": lambda job, _: chat(job).stream(job.prompt),
    "LangChain: Responses, astream": lambda job, _: responses(job).astream(job.prompt),
    "LangChain: Anthropic, astream": lambda job, _: anthropic(job).astream(job.prompt),
    "LangChain: Anthropic, stream": lambda job, _: anthropic(job).stream(job.prompt),
    "LangChain: chat, astream_events": lambda job, _: chat(job).astream_events(job.prompt),
    "LangChain: call of a tool": lambda job, _: chat(job).bind_tools([get_weather]).astream(job.prompt),
}
