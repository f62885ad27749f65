"""The dialect ``openai-responses``: the Responses wire of the OpenAI API, and of the servers that speak it.

Source: the types of the openai package (``ResponseStreamEvent`` and below), its stream helper, and what llama.cpp's
server sends (captured in the tests). The walk through a stream is in ``openai_responses_decode``, the wire's structs
and words in ``…_wire`` and ``…_words``, the output in ``…_items`` (who is meant), ``…_parts`` (what is written) and
``…_tools``.
"""

from broadcaster.dialects.openai_responses_decode import OpenAIResponsesDecoder
from broadcaster.dialects.openai_responses_words import INCOMPLETE_REASONS, PASSED_TYPE, PROVIDER

__all__ = ["INCOMPLETE_REASONS", "PASSED_TYPE", "PROVIDER", "OpenAIResponsesDecoder"]
