"""The dialect ``openai-chat``: the chat completions wire of the OpenAI API, and of the many servers that speak it.

Source: the types of the openai package (``ChatCompletionChunk`` and below); what vLLM, llama.cpp, Azure, OpenRouter,
DeepSeek, Mistral and others add to it.
"""
