"""Responses streams by name: what the decoder must cope with, as bytes. Shared by the tests of every cut."""

from pathlib import Path

from tests.dialects.openai_responses import responses_wire as wire
from tests.dialects.openai_responses.responses_wire import (
    Json,
    added,
    answer,
    call,
    created,
    done,
    frame,
    message,
    stream,
    text,
)

CAPTURED = (Path(__file__).parent / "responses_llama_cpp.sse").read_bytes()
"""llama.cpp's answer to "Write one short sentence about the sea.": no indexes, no numbers, no model before the end."""

HELLO = message(text("Hello ", "world"))
TEXT = stream(*answer(HELLO))
SEARCH = wire.provider_run(
    "web_search_call", "in_progress", "searching", "completed", action={"type": "search", "query": "a"}
)


def with_inserted(*strange: Json) -> bytes:
    """The text answer with events inserted after its first delta."""
    events = answer(HELLO)
    return stream(*events[:5], *strange, *events[5:])


def without(kind: str, *events: Json) -> list[Json]:
    """The events without those whose type ends so."""
    return [event for event in events if not event["type"].endswith(kind)]


STREAMS: dict[str, bytes] = {
    "text": TEXT,
    "llama.cpp": CAPTURED,
    "no content at all": stream(*answer()),
    "reasoning with summaries, then text": stream(
        *answer(wire.reasoning(["**One** ", "a"], ["**Two** b"], encrypted="ZW5j"), HELLO)
    ),
    "reasoning text": stream(*answer(wire.reasoning(texts=[["Let me ", "see."]]), HELLO)),
    "reasoning without text": stream(*answer(wire.reasoning(encrypted="ZW5j"), HELLO)),
    "refusal": stream(*answer(message(wire.refusal("I ", "cannot.")))),
    "two parts in a message": stream(*answer(message(text("a"), text("b")))),
    "two messages": stream(*answer(message(text("a"), id="msg_a", phase="commentary"), message(text("b"), id="msg_b"))),
    "function call": stream(*answer(call("get_weather", '{"city": ', '"Pa', 'ris"}'))),
    "function call without arguments": stream(*answer(call("now"))),
    "two calls": stream(
        *answer(call("a", '{"x":1}', id="fc_a", call_id="call_a"), call("b", "{}", id="fc_b", call_id="call_b"))
    ),
    "call cut by max_output_tokens": stream(
        *answer(call("write", '{"text": "half', status="incomplete"), end=wire.incomplete())
    ),
    "custom tool": stream(*answer(call("run", "print(", "1)", type="custom_tool_call"))),
    "web search with citations": stream(
        *answer(SEARCH, message(text("It says so.", annotations=[wire.url_citation("https://example.org/a")])))
    ),
    "code interpreter": stream(
        *answer(call("", "1+", "1", type="code_interpreter_call", container_id="c_1", outputs=[{"logs": "2"}]))
    ),
    "MCP call": stream(
        *answer(call("roll", '{"n":', "1}", id="mcp_1", type="mcp_call", server_label="dice", output="4"))
    ),
    "keepalives and comments": b": hello\n\n"
    + with_inserted({"type": "keepalive"}).replace(b"\n\n", b"\n\n: quiet\n\n"),
    "CRLF": TEXT.replace(b"\n", b"\r\n"),
    "CR": TEXT.replace(b"\n", b"\r"),
    "data over several lines": TEXT.replace(b',"delta"', b',\ndata: "delta"'),
    "characters of every length": stream(*answer(message(text("é", "日本", "🌊", "a\u2028b\u0085c")))),
    "unknown event": with_inserted({"type": "response.mood", "mood": "calm"}),
    "unknown item": stream(created(), added(wire.COMPACTION), done(wire.COMPACTION), wire.completed(wire.COMPACTION)),
    "unknown part": stream(*answer(message(wire.HOLOGRAM, text("after")))),
    "no numbers, no indexes": wire.bare(*answer(wire.reasoning(["a", "b"]), HELLO, call("f", '{"x":', "1}"))),
    "no deltas": stream(*without(".delta", *answer(wire.reasoning(["a"]), HELLO, call("f", "{}")))),
    "only finished items": stream(created(), done(HELLO.item), done(call("f", "{}").item, 1), wire.completed()),
    "only the end": stream(created(), wire.completed(wire.reasoning(["a"]).item, HELLO.item, call("f", "{}").item)),
    "nothing is finished": stream(created(), *HELLO.events(0)[:4], wire.completed(HELLO.item)),
    "parts and items that interleave": stream(
        created(),
        *HELLO.events(0)[:3],
        *call("f", '{"x":', "1}").events(1)[:2],
        *HELLO.events(0)[3:5],
        *call("f", '{"x":', "1}").events(1)[2:],
        *HELLO.events(0)[5:],
        wire.completed(HELLO.item, call("f", '{"x":1}').item),
    ),
    "more after the end": TEXT + b"data: [DONE]\n\n" + frame(wire.error()),
    "half a surrogate pair": stream(*without(".done", *answer(HELLO, end=wire.completed()))).replace(
        b"world", b"\\ud83d"
    ),
    "error in the middle": stream(created(), *HELLO.events(0), wire.error()),
    "failed": stream(created(), *HELLO.events(0), wire.failed()),
    "failed at once": stream(wire.failed("rate_limit_exceeded")),
    "bad JSON in the middle": stream(created()) + b'event: x\ndata: {"type":\n\n',
    "truncated": stream(*answer(HELLO)[:-1]),
    "cut inside an event": TEXT[:-20],
    "[DONE] instead of an end": stream(*answer(HELLO)[:-1]) + b"data: [DONE]\n\n",
}
"""Every stream the decoder is fed with, whole or cut anywhere."""

BAD_ENDINGS = {
    "error in the middle",
    "failed",
    "failed at once",
    "bad JSON in the middle",
    "truncated",
    "cut inside an event",
    "[DONE] instead of an end",
}
GOOD_ENDINGS = [name for name in STREAMS if name not in BAD_ENDINGS]
