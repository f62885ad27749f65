"""The rows of Python: ``python/driver.py`` runs them in two environments, whose packages no resolver can join."""

from __future__ import annotations

from typing import Final

from tests.frameworks.rows import CHAT, LOST, MESSAGES, PLAIN, RESPONSES, STOP, STREAM, TOOLS, Row

NEW: Final = "python"
OLD: Final = "python-openai2"

# instructor gives objects alone.
OBJECTS_ALONE: Final = dict.fromkeys((PLAIN, STREAM, TOOLS, STOP, LOST), "objects only")


ROWS: Final = (
    Row("LangChain: chat", NEW, CHAT, finish="stop", usage=frozenset({PLAIN})),
    Row("LangChain: Responses", NEW, RESPONSES, finish="completed"),
    Row("LangChain: Anthropic", NEW, MESSAGES, finish="end_turn"),
    Row("LangGraph: agent, chat", NEW, CHAT, finish="stop", usage=frozenset({PLAIN})),
    Row("pydantic-ai: chat", NEW, CHAT, finish="stop"),
    Row("pydantic-ai: Responses", NEW, RESPONSES, finish="stop"),
    Row("pydantic-ai: Anthropic", NEW, MESSAGES, finish="stop"),
    Row("litellm: openai/", OLD, CHAT, finish="stop"),
    # Of a name that it knows as another provider's, litellm does not take `responses/` for a prefix.
    Row("litellm: openai/responses/", OLD, RESPONSES, finish="stop", wires=(CHAT, RESPONSES)),
    Row("litellm: anthropic/", OLD, MESSAGES, finish="stop"),
    Row("openai-agents: Responses", NEW, RESPONSES, finish=None),
    Row("openai-agents: chat", NEW, CHAT, finish=None, usage=frozenset({PLAIN})),
    Row("instructor: TOOLS", OLD, CHAT, finish=None, left_out=OBJECTS_ALONE),
    Row("instructor: JSON_SCHEMA", OLD, CHAT, finish=None, left_out=OBJECTS_ALONE),
    Row("instructor: ANTHROPIC_TOOLS", OLD, MESSAGES, finish=None, left_out=OBJECTS_ALONE),
    Row("llama-index: OpenAILike", OLD, CHAT, finish="stop", usage=frozenset({PLAIN})),
    Row("haystack: chat", NEW, CHAT, finish="stop", usage=frozenset({PLAIN})),
    Row("haystack: Responses", NEW, RESPONSES, finish="stop"),
    Row("smolagents", NEW, CHAT, finish=None),
    Row("llm: chat", NEW, CHAT, finish=None),
    Row("llm: Responses", NEW, RESPONSES, finish=None),
)
