"""Anthropic streams by name: what the decoder must cope with, as bytes. Shared by the tests of every cut."""

from broadcaster.testing import wire
from broadcaster.testing.wire import frame

WEB_RESULT = {"type": "web_search_result", "url": "https://example.org/a", "title": "A", "encrypted_content": "eA=="}


def stream(*events: wire.WireEvent) -> bytes:
    return b"".join(frame(event) for event in events)


def _with_inserted(*strange: wire.WireEvent) -> bytes:
    start, block_start, *rest = wire.message(wire.text("before ", "after"))
    return stream(start, block_start, *strange, *rest)


TEXT = stream(*wire.message(wire.text("Hello ", "world")))

STREAMS: dict[str, bytes] = {
    "text": TEXT,
    "no content at all": stream(*wire.message()),
    "thinking then text": stream(*wire.message(wire.thinking("Let me ", "see."), wire.text("Yes."))),
    "redacted thinking": stream(*wire.message(wire.redacted_thinking("b3BhcXVl"), wire.text("Yes."))),
    "tool with an empty first fragment": stream(
        *wire.message(wire.tool_use("get_weather", "", '{"city": ', '"Pa', 'ris"}'), stop_reason="tool_use")
    ),
    "tool without arguments": stream(*wire.message(wire.tool_use("now", ""), stop_reason="tool_use")),
    "two tools": stream(
        *wire.message(wire.tool_use("a", '{"x":1}', id="toolu_a"), wire.tool_use("b", "{}", id="toolu_b"))
    ),
    "tool cut by max_tokens": stream(*wire.message(wire.tool_use("write", '{"text": "half'), stop_reason="max_tokens")),
    "server tool, result, citations": stream(
        *wire.message(
            wire.server_tool_use("web_search", '{"query":"a"}', caller={"type": "direct"}),
            wire.tool_result("web_search_tool_result", [WEB_RESULT], caller={"type": "direct"}),
            wire.text("It says so.", citations=[wire.web_citation("https://example.org/a")]),
        )
    ),
    "server tool that failed": stream(
        *wire.message(
            wire.server_tool_use("web_search", "{}"),
            wire.tool_result(
                "web_search_tool_result",
                {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
            ),
        )
    ),
    "pings and comments": b": hello\n\n" + frame(wire.ping()) + TEXT.replace(b"\n\n", b"\n\n: quiet\n\n"),
    "CRLF": TEXT.replace(b"\n", b"\r\n"),
    "CR": TEXT.replace(b"\n", b"\r"),
    "data over several lines": TEXT.replace(b',"delta"', b',\ndata: "delta"'),
    "characters of every length": stream(*wire.message(wire.text("é", "日本", "🌊", "a\u2028b\u0085c"))),
    "unknown event": _with_inserted({"type": "message_mood", "mood": "calm"}),
    "unknown delta": _with_inserted(wire.block_delta(0, {"type": "tone_delta", "tone": 3})),
    "unknown block": stream(
        *wire.message(
            wire.Block({"type": "hologram", "size": 3}, [{"type": "text_delta", "text": "x"}]), wire.text("after")
        )
    ),
    "blocks that interleave": stream(
        wire.message_start(),
        wire.block_start(0, wire.text().start),
        wire.block_start(1, wire.tool_use("t").start),
        wire.text_delta(0, "a"),
        wire.block_delta(1, {"type": "input_json_delta", "partial_json": "{}"}),
        wire.text_delta(0, "b"),
        wire.block_stop(1),
        wire.block_stop(0),
        wire.message_delta(),
        wire.message_stop(),
    ),
    "block never stopped": stream(
        wire.message_start(),
        wire.block_start(0, wire.text().start),
        wire.text_delta(0, "a"),
        wire.message_delta(),
        wire.message_stop(),
    ),
    "index used twice": stream(
        wire.message_start(),
        *wire.block_events(0, wire.text("a")),
        *wire.block_events(0, wire.text("b")),
        wire.message_delta(),
        wire.message_stop(),
    ),
    "more after the end": TEXT + b"data: [DONE]\n\n" + frame(wire.error()),
    "half a surrogate pair": TEXT.replace(b"world", b"\\ud83d"),
    "error in the middle": stream(wire.message_start(), *wire.block_events(0, wire.text("a")), wire.error()),
    "error at once": frame(wire.error("rate_limit_error")),
    "bad JSON in the middle": stream(wire.message_start()) + b'event: x\ndata: {"type":\n\n',
    "truncated": stream(*wire.message(wire.text("Hello "))[:-2]),
    "cut inside an event": TEXT[:-20],
}
"""Every stream the decoder is fed with, whole or cut anywhere."""

GOOD_ENDINGS = [
    name
    for name in STREAMS
    if name
    not in ("error in the middle", "error at once", "bad JSON in the middle", "truncated", "cut inside an event")
]
