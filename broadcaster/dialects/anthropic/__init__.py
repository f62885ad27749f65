"""The dialect ``anthropic``: the Messages wire of the Claude API, and of every server that speaks it.

Source: the types of the anthropic package (``RawMessageStreamEvent`` and below); docs.anthropic.com, "Streaming
messages".
"""
