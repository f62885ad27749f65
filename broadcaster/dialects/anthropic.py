"""The dialect ``anthropic``: the Messages wire of the Claude API, and of every server that speaks it.

Source: the types of the anthropic package (``RawMessageStreamEvent`` and below); docs.anthropic.com, "Streaming
messages". Structs and tables are in ``anthropic_wire``, the content blocks in ``anthropic_blocks``.
"""

from broadcaster.dialects.anthropic_decode import AnthropicDecoder
from broadcaster.dialects.anthropic_wire import FINISH_REASONS, PASSED_TYPE, PROVIDER, fault_of

__all__ = ["FINISH_REASONS", "PASSED_TYPE", "PROVIDER", "AnthropicDecoder", "fault_of"]
