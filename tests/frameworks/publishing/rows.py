"""The calls of released SDKs that `publish` is given, and what each must store.

``python/publishing/driver.py`` makes the call of a row, by its label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.frameworks.model import ANSWER_TEXT, PROMPT, TEXT, WEATHER_PROMPT
from tests.frameworks.rows import CHAT, MESSAGES, RESPONSES

NEW: Final = "publish"
OLD: Final = "publish-openai2"


@dataclass(frozen=True)
class Source:
    """One call. ``wire`` is that of its model; ``runs_tool``: an agent, whose tool is called.

    ``has_counts``: whether the SDK reports the provider's counts. ``has_input``: whether input is among them: LangChain
    reads it from an event in which the scripted provider has none. ``finish``: the finish reason, where it reports one.
    """

    label: str
    wire: str
    environment: str = NEW
    runs_tool: bool = False
    is_blocking: bool = False
    text: str = TEXT
    has_counts: bool = True
    has_input: bool = True
    finish: str | None = "stop"
    prompt: str = PROMPT

    def __str__(self) -> str:
        return self.label


def _agent(label: str, wire: str, **fields: object) -> Source:
    fields = {"text": ANSWER_TEXT, "prompt": WEATHER_PROMPT, "runs_tool": True} | fields
    return Source(label, wire, **fields)  # type: ignore[arg-type]


SOURCES: Final = (
    Source("openai: chat", CHAT),
    Source("openai: chat, helper", CHAT),
    Source("openai: chat, blocking helper", CHAT, is_blocking=True),
    Source("openai: Responses", RESPONSES),
    Source("openai: Responses, helper", RESPONSES),
    Source("openai: Responses, blocking helper", RESPONSES, is_blocking=True),
    Source("anthropic: create", MESSAGES),
    Source("anthropic: helper", MESSAGES),
    Source("anthropic: blocking helper", MESSAGES, is_blocking=True),
    Source("LiteLLM: acompletion, chat", CHAT, OLD),
    Source("LiteLLM: acompletion, Responses", RESPONSES, OLD),
    Source("LiteLLM: acompletion, Anthropic", MESSAGES, OLD),
    Source("LiteLLM: completion, chat", CHAT, OLD, is_blocking=True),
    Source("LiteLLM: completion, Anthropic", MESSAGES, OLD, is_blocking=True),
    Source("LangChain: chat, astream", CHAT),
    Source("LangChain: chat, stream", CHAT, is_blocking=True),
    Source("LangChain: Responses, astream", RESPONSES),
    Source("LangChain: Anthropic, astream", MESSAGES, has_input=False),
    Source("LangChain: Anthropic, stream", MESSAGES, is_blocking=True, has_input=False),
    Source("LangChain: chat, astream_events", CHAT),
    _agent("LangGraph: messages", CHAT),
    _agent("LangGraph: messages, Responses", RESPONSES),
    _agent("LangGraph: messages, Anthropic", MESSAGES, has_input=False),
    _agent("LangGraph: messages, blocking", CHAT, is_blocking=True),
    _agent("LangGraph: messages, subgraphs", CHAT),
    _agent("LangGraph: modes", CHAT),
    _agent("LangGraph: modes, subgraphs", CHAT),
    _agent("LangGraph: modes, v2", CHAT),
    _agent("LangGraph: modes, blocking", CHAT, is_blocking=True),
    _agent("LangGraph: astream_events", CHAT),
    Source("LangGraph: parallel, messages", CHAT, text=TEXT + TEXT),
    Source("LangGraph: parallel, astream_events", CHAT, text=TEXT + TEXT),
    _agent("Pydantic AI: run_stream_events, chat", CHAT),
    _agent("Pydantic AI: run_stream_events, Responses", RESPONSES),
    _agent("Pydantic AI: run_stream_events, Anthropic", MESSAGES),
    _agent("Pydantic AI: iter", CHAT),
    _agent("Pydantic AI: stream_text", CHAT, runs_tool=False, has_counts=False, finish=None),
    Source("Pydantic AI: model_request_stream", CHAT),
    _agent("OpenAI Agents: Responses", RESPONSES),
    _agent("OpenAI Agents: chat", CHAT),
    _agent("OpenAI Agents: stream_events", RESPONSES),
    Source("OpenAI Agents: handoff", RESPONSES),
)
