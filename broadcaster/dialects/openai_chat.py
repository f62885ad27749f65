"""The dialect ``openai-chat``: the chat completions wire of the OpenAI API, and of the many servers that speak it.

Source: the types of the openai package (``ChatCompletionChunk`` and below); what vLLM, llama.cpp, Azure, OpenRouter,
DeepSeek, Mistral and others add to it. Structs and tables are in ``openai_chat_wire``, the parts of an answer in
``openai_chat_parts`` and ``openai_chat_calls``, its counts in ``openai_chat_usage``. The way back is in
``openai_chat_encode``, ``openai_chat_answer`` and ``openai_chat_heads``.
"""

from broadcaster.dialects.openai_chat_decode import OpenAIChatDecoder
from broadcaster.dialects.openai_chat_encode import ChatDialect, ChatTranscript, whole_completion
from broadcaster.dialects.openai_chat_wire import FAILED_REASONS, FINISH_REASONS, PASSED_TYPE, PROVIDER

__all__ = [
    "FAILED_REASONS",
    "FINISH_REASONS",
    "PASSED_TYPE",
    "PROVIDER",
    "ChatDialect",
    "ChatTranscript",
    "OpenAIChatDecoder",
    "whole_completion",
]
