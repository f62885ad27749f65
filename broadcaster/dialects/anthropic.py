"""The dialect ``anthropic``: the Messages wire of the Claude API, and of every server that speaks it.

Source: the types of the anthropic package (``RawMessageStreamEvent`` and below); docs.anthropic.com, "Streaming
messages". Structs and tables are in ``anthropic_wire``; decoding is in ``anthropic_decode`` and ``anthropic_blocks``.
The way back: ``anthropic_encode`` over ``anthropic_answer`` (one attempt), ``anthropic_line`` (its blocks) and
``anthropic_words``; ``anthropic_message`` is the whole message, ``anthropic_request`` reads what is asked.
"""

from broadcaster.dialects.anthropic_decode import AnthropicDecoder
from broadcaster.dialects.anthropic_wire import FINISH_REASONS, PASSED_TYPE, PROVIDER, fault_of

__all__ = ["FINISH_REASONS", "PASSED_TYPE", "PROVIDER", "AnthropicDecoder", "fault_of"]
