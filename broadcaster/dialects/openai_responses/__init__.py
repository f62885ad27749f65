"""The dialect ``openai-responses``: the Responses wire of the OpenAI API, and of the servers that speak it.

Source: the types of the openai package (``ResponseStreamEvent`` and below), its stream helper, and what llama.cpp's
server sends (captured in the tests).
"""
