"""Names of the attributes and operations of our spans, and nothing else.

Source: OpenTelemetry semantic conventions 1.44 (registry, ``gen_ai.*``, ``http.*``, ``server.*``, ``error.*``). The
GenAI names are of status "development": when they change, this file does. No attribute holds a prompt, an answer, an
argument or a result of a tool.
"""

from __future__ import annotations

from typing import Final

# Generative AI
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK_S: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"

CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
FUNCTION: Final = "function"

# HTTP and errors
METHOD: Final = "http.request.method"
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"

# Ours
STREAM: Final = "broadcaster.stream"
TENANT: Final = "broadcaster.tenant"
SURFACE: Final = "broadcaster.surface"
REQUEST_ID: Final = "broadcaster.request_id"
PROVIDER_REQUEST_ID: Final = "broadcaster.provider_request_id"
ATTEMPT: Final = "broadcaster.attempt"
OUTCOME: Final = "broadcaster.outcome"
STOP_REASON: Final = "broadcaster.viewer.reason"
DIALECT: Final = "broadcaster.viewer.dialect"
