"""Chat completions streams by name: what the decoder must cope with, as bytes. Shared by the tests of every cut."""

import json
from pathlib import Path
from typing import Any, Final

Json = dict[str, Any]

DONE: Final = b"data: [DONE]\n\n"
LLAMA_CPP: Final = Path(__file__).with_name("chat_llama_cpp.sse").read_bytes()
"""As the local model sent it."""

USAGE: Final[Json] = {"prompt_tokens": 25, "completion_tokens": 12, "total_tokens": 37}


def chunk(*choices: Json, **fields: Any) -> Json:
    """A chunk with these choices; ``fields`` replace or add to its own."""
    head: Json = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-x"}
    return head | {"choices": list(choices)} | fields


def choice(delta: Json | None, **fields: Any) -> Json:
    """Choice 0; ``fields`` replace or add to its own."""
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} | fields


def wrote(content: str, **fields: Any) -> Json:
    """A chunk with a piece of text."""
    return chunk(choice({"content": content}), **fields)


def delta(**fields: Any) -> Json:
    """A chunk with a delta of choice 0."""
    return chunk(choice(fields))


def first() -> Json:
    """The chunk that opens an answer."""
    return delta(role="assistant", content="", refusal=None)


def last(finish_reason: Any = "stop") -> Json:
    """The chunk with the reason."""
    return chunk(choice({}, finish_reason=finish_reason))


def counted(**usage: Any) -> Json:
    """The chunk with the counts."""
    return chunk(usage=USAGE | usage)


def fragment(arguments: str | None = None, **fields: Any) -> Json:
    """An element of ``tool_calls`` with its ``name``, ``index``, ``id``, where given."""
    function = {name: fields.pop(name) for name in ("name",) if name in fields}
    if arguments is not None:
        function["arguments"] = arguments
    return {**fields, "function": function}


def stream(*chunks: Json | str | bytes) -> bytes:
    """Chunks as the API frames them; text and bytes as they are."""
    framed = (_framed(each) for each in chunks)
    return b"".join(framed)


def _framed(each: Json | str | bytes) -> bytes:
    if isinstance(each, bytes):
        return each
    data = each if isinstance(each, str) else json.dumps(each, ensure_ascii=False, separators=(",", ":"))
    return f"data: {data}\n\n".encode()


def answer(*chunks: Json, finish_reason: str = "stop") -> bytes:
    """A whole stream round these chunks."""
    return stream(first(), *chunks, last(finish_reason), counted(), DONE)


TEXT: Final = answer(wrote("Hello "), wrote("world"))
SIGNED: Final[Json] = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
AZURE_SAFE: Final = {"hate": {"filtered": False, "severity": "safe"}}

STREAMS: Final[dict[str, bytes]] = {
    "text": TEXT,
    "llama.cpp": LLAMA_CPP,
    "no content at all": answer(),
    "text and the reason in one chunk": stream(first(), chunk(choice({"content": "Hi"}, finish_reason="stop")), DONE),
    "reasoning then text": answer(delta(reasoning_content="Let me "), delta(reasoning_content="see."), wrote("Yes.")),
    "reasoning by its other name": answer(delta(reasoning="Hm.", content=""), wrote("Yes.")),
    "refusal": answer(delta(refusal="I "), delta(refusal="cannot.")),
    "tool with an empty first fragment": answer(
        delta(tool_calls=[fragment("", index=0, id="call_a", type="function", name="get_weather")]),
        *(delta(tool_calls=[fragment(text, index=0)]) for text in ('{"city": ', '"Pa', 'ris"}')),
        finish_reason="tool_calls",
    ),
    "signature behind a call": answer(
        delta(tool_calls=[fragment('{"x":1}', index=0, id="call_a", type="function", name="f")]),
        delta(tool_calls=[fragment("{}", index=1, id="call_b", type="function", name="g")]),
        delta(tool_calls=[fragment("", index=0, **SIGNED)]),
        finish_reason="tool_calls",
    ),
    "signature alone behind a call": answer(
        delta(tool_calls=[fragment("", index=0, id="call_a", type="function", name="f")]),
        delta(tool_calls=[fragment("{}", index=1, id="call_b", type="function", name="g")]),
        delta(tool_calls=[{"index": 0, **SIGNED}]),
        finish_reason="tool_calls",
    ),
    "tools that interleave": answer(
        wrote("Both."),
        delta(tool_calls=[fragment('{"x"', index=0, id="a", name="f"), fragment('{"y"', index=1, id="b", name="g")]),
        delta(tool_calls=[fragment(":1}", index=0)]),
        delta(tool_calls=[fragment(":2}", index=1)]),
        finish_reason="tool_calls",
    ),
    "tool cut by max_tokens": answer(
        delta(tool_calls=[fragment('{"text": "half', index=0, id="a", name="write")]), finish_reason="length"
    ),
    "function call of the older wire": answer(
        delta(content=None, function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": '{"x":1}'}),
        finish_reason="function_call",
    ),
    "text, tool, text": answer(
        wrote("a"),
        delta(tool_calls=[fragment("{}", index=0, id="a", name="f")]),
        wrote("b"),
        finish_reason="tool_calls",
    ),
    "two choices": stream(
        first(),
        chunk(choice({"content": "other"}, index=1)),
        wrote("mine"),
        last(),
        chunk(choice({}, index=1, finish_reason="stop")),
        DONE,
    ),
    "Azure": stream(
        chunk(id="", model="", object="", created=0, prompt_filter_results=[{"prompt_index": 0}]),
        first(),
        chunk(choice({"content": "Hi"}, content_filter_results=AZURE_SAFE)),
        chunk(choice({"content": "!"}, content_filter_results=AZURE_SAFE)),
        last(),
        DONE,
    ),
    "usage in every chunk": stream(
        first() | {"usage": {"prompt_tokens": 25, "completion_tokens": 0}},
        wrote("a", usage={"prompt_tokens": 25, "completion_tokens": 1}),
        wrote("b", usage={"prompt_tokens": 25, "completion_tokens": 2}),
        last() | {"usage": {"prompt_tokens": 25, "completion_tokens": 2}},
        DONE,
    ),
    "log probabilities, audio, annotations": answer(
        chunk(choice({"content": "a"}, logprobs={"content": [{"token": "a", "logprob": -0.5}]})),
        delta(audio={"id": "audio_1", "data": "eA=="}),
        delta(annotations=[{"type": "url_citation", "url_citation": {"url": "https://example.org/a", "title": "A"}}]),
    ),
    "comments and keep-alives": b": hello\n\n" + TEXT.replace(b"\n\n", b"\n\n: quiet\n\nevent: ping\ndata: {}\n\n"),
    "named events": TEXT.replace(b"data: {", b"event: chunk\ndata: {"),
    "CRLF": TEXT.replace(b"\n", b"\r\n"),
    "CR": TEXT.replace(b"\n", b"\r"),
    "data over several lines": TEXT.replace(b',"choices"', b',\ndata: "choices"'),
    "characters of every length": answer(*(wrote(text) for text in ("é", "日本", "🌊", "a\u2028b\u0085c"))),
    "an object that is no chunk": answer(wrote("a"), {"mood": "calm"}, wrote("b")),
    "choices that are null": stream(first(), chunk(choices=None), wrote("a"), chunk(choice(None)), last(), DONE),
    "more after the end": TEXT + stream({"error": {"type": "server_error"}}),
    "half a surrogate pair": TEXT.replace(b"world", b"\\ud83d"),
    "no end after the reason": stream(first(), wrote("a"), last()),
    "no end after the counts": stream(first(), wrote("a"), last(), counted()),
    "torn after the reason": stream(first(), wrote("a"), last(), counted())[:-20],
    "error in the middle": stream(first(), wrote("a"), {"error": {"type": "server_error", "code": None}}, DONE),
    "error at once": stream({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
    "error after the reason": stream(first(), wrote("a"), last(), {"error": {"type": "server_error"}}, DONE),
    "bad JSON in the middle": stream(first(), wrote("a"), '{"choices":'),
    "truncated": stream(first(), wrote("Hello ")),
    "cut inside an event": stream(first(), wrote("Hello "), last())[:-20],
    "an end without a reason": stream(first(), wrote("Hello "), DONE),
}
"""Every stream the decoder is fed with, whole or cut anywhere."""

BAD_ENDINGS: Final = frozenset(
    {
        "error in the middle",
        "error at once",
        "error after the reason",
        "bad JSON in the middle",
        "truncated",
        "cut inside an event",
        "an end without a reason",
    }
)
GOOD_ENDINGS: Final = [name for name in STREAMS if name not in BAD_ENDINGS]
