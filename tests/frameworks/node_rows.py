"""The rows of node: ``node/*.mjs`` run them, a driver for each family of packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.frameworks.rows import CHAT, MESSAGES, PLAIN, RESPONSES, STREAM, Row

AI: Final = "node-ai"
OPENAI: Final = "node-openai"
AGENTS: Final = "node-openai-agents"
LANGCHAIN: Final = "node-langchain"
TANSTACK: Final = "node-tanstack"


def _ai() -> Iterator[Row]:
    """Versions 6 and 7 of ``ai`` with each of its model providers."""
    providers = {
        "@ai-sdk/openai": RESPONSES,
        "@ai-sdk/openai .chat": CHAT,
        "@ai-sdk/openai-compatible": CHAT,
        "@ai-sdk/anthropic": MESSAGES,
    }
    for version in (6, 7):
        for provider, surface in providers.items():
            yield Row(f"ai {version}: {provider}", AI, surface, finish="stop")


ROWS: Final = (
    *_ai(),
    Row("openai 7: chat", OPENAI, CHAT, finish="stop"),
    Row("openai 7: Responses", OPENAI, RESPONSES, finish="completed"),
    Row("@openai/agents: Responses", AGENTS, RESPONSES, finish=None),
    Row("@openai/agents: chat", AGENTS, CHAT, finish=None),
    Row("@langchain/openai: chat", LANGCHAIN, CHAT, finish="stop"),
    Row("@langchain/openai: Responses", LANGCHAIN, RESPONSES, finish="completed"),
    # Of a stream it reads the prompt's tokens at the start alone, and OpenAI's wires count them at the end.
    Row("@langchain/anthropic", LANGCHAIN, MESSAGES, finish="end_turn", usage=frozenset({PLAIN})),
    Row("@tanstack/ai-openai: Responses", TANSTACK, RESPONSES, finish=None, usage=frozenset({STREAM})),
    Row("@tanstack/ai-openai: chat", TANSTACK, CHAT, finish=None, usage=frozenset({STREAM})),
    Row("@tanstack/ai-anthropic", TANSTACK, MESSAGES, finish=None, usage=frozenset({STREAM})),
)
