"""``show``: everything about one generation, for people and for programs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.cli.conftest import ID, run
from tests.support.servers.sse_server import Exchange

NOW = time.time()
WHOLE: dict[str, Any] = {
    "id": ID,
    "status": "failed",
    "model": "claude-x",
    "title": "Why?",
    "prompt": "Why?\nReally?",
    "attempt": 2,
    "created_at": NOW - 130,
    "started_at": NOW - 125,
    "ended_at": NOW - 120.5,
    "viewers": 3,
    "last_id": "7-19",
    "last_seq": 19,
    "usage": {"type": "usage", "inputTokens": 12, "outputTokens": 40, "newCount": 1, "estimated": True},
    "text": "Because.\x1b[2J",
    "reasoning": "hm",
    "error": {"code": "worker_lost", "message": "it was lost"},
    "metadata": {"chat": "42"},
    "parts": [
        {"type": "step-start"},
        {"type": "text", "text": "Because.", "state": "done"},
        {
            "type": "tool",
            "toolCallId": "c",
            "toolName": "city",
            "state": "output-available",
            "input": {"n": "Bonn"},
            "output": "sun",
        },
        {"type": "tool", "toolCallId": "d", "toolName": "sea", "state": "output-error", "input": {}, "errorText": "no"},
        {"type": "tool", "toolCallId": "e", "toolName": "sky", "state": "input-streaming", "inputText": '{"n'},
        {"type": "source-url", "sourceId": "s", "url": "https://example.org", "title": "t"},
        {"type": "data-progress", "data": {"done": 1}},
    ],
}


@pytest.fixture
def printed(server):
    """Show the generation that this document describes; its stdout."""

    async def show(document: dict[str, Any], *options: str) -> str:
        async def plan(exchange: Exchange) -> None:
            await exchange.answer(200, json.dumps(document).encode())

        async def unknown(exchange: Exchange) -> None:
            await exchange.problem(404, "unknown_stream")

        is_feed = document.get("kind") == "feed"
        server.routes["GET", f"/v1/generations/{ID}"] = unknown if is_feed else plan
        server.routes["GET", f"/v1/streams/{ID}"] = plan
        result = await run("show", ID, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    return show


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "failed"),
        ("error", "worker_lost: it was lost"),
        ("model", "claude-x"),
        ("attempt", "2"),
        ("created", "m ago)"),
        ("started", "after 5.0s in the queue"),
        ("ended", "it ran for 4.5s"),
        ("events", "19, the last is 7-19"),
        ("viewers", "3"),
        ("usage", "tokens: 12 in, 40 out, 1 newCount (estimated)"),
        ("metadata", '{"chat":"42"}'),
        ("prompt", "Why?"),
        ("tool", 'city {"n":"Bonn"} → "sun"'),
        ("tool", "sea {} → failed: no"),
        ("tool", 'sky {"n…'),
        ("source", "t https://example.org"),
        ("progress", '{"done":1}'),
    ],
)
async def test_show_has_a_line_for_every_fact(printed, name, value):
    lines = (await printed(WHOLE)).split("\n")
    assert any(line.startswith(f"{name} ") and value in line for line in lines), lines


async def test_show_ends_with_the_reasoning_and_the_answer(printed):
    assert (await printed(WHOLE)).endswith("\nreasoning:\nhm\n\nanswer:\nBecause.\x1b[2J\n")


async def test_a_generation_that_waits_has_few_facts(printed):
    out = await printed({"id": ID, "status": "queued", "model": "local", "stop_requested": True})
    rows = [line.split(maxsplit=1) for line in out.strip().split("\n")]
    assert [[name, value.rstrip()] for name, value in rows] == [
        ["id", ID],
        ["status", "queued, stop requested"],
        ["model", "local"],
        ["attempt", "none yet"],
        ["events", "none yet"],
        ["viewers", "0"],
    ]


async def test_the_text_of_a_server_cannot_control_the_terminal(printed):
    assert "\x1b" not in await printed({"id": ID, "status": "queued", "model": "x\x1b[2J", "metadata": {"\x1b": 1}})


@pytest.mark.parametrize("kind", ["generation", "feed"])
async def test_show_names_a_content_of_which_a_part_is_gone(printed, kind):
    document = {"id": ID, "kind": kind, "status": "finished", "last_id": "7-9", "last_seq": 9}
    assert "\ncontent " not in await printed(document)
    gone = (await printed(document | {"truncated": True})).split("\n")
    assert ["content", "incomplete: its log has expired or was trimmed"] in [
        [field.strip() for field in line.split(maxsplit=1)] for line in gone
    ]


async def test_a_long_prompt_is_cut_and_its_length_printed(printed):
    out = await printed({"id": ID, "status": "queued", "prompt": "x" * 9000})
    assert "… (9000 characters)" in out
    assert len(out) < 4000


async def test_programs_get_the_whole_of_it(printed):
    document = json.loads(await printed(WHOLE, "--json"))
    assert {name: document[name] for name in WHOLE} == WHOLE


async def test_an_unknown_id_ends_with_1_and_the_command_that_lists_ids(server):
    async def unknown(exchange: Exchange) -> None:
        await exchange.problem(404, "unknown_stream")

    server.routes["GET", "/v1/generations/gen_x"] = unknown
    result = await run("show", "gen_x")
    assert result.exit_code == 1
    assert "broadcaster ls" in result.stderr


async def test_a_feed_is_printed_by_its_id_too(server):
    async def unknown(exchange: Exchange) -> None:
        await exchange.problem(404, "unknown_stream")

    async def feed(exchange: Exchange) -> None:
        state = {"id": ID, "kind": "feed", "status": "running", "first_seq": 3, "last_seq": 9, "last_id": "7-9"}
        content = {
            "text": "half done",
            "error": {"code": "disk", "message": "it is full"},
            "parts": [
                {"type": "data-progress", "data": {"done": 1, "total": 4, "message": "copying"}},
                {"type": "data-file", "data": {"url": "/a"}},
                {"type": "data-progress", "data": {"done": 2, "total": 4, "message": "copying"}},
                {"type": "data-progress", "id": "b", "data": {"done": 1, "total": 2}},
                {"type": "text", "text": "half done", "state": "done"},
            ],
        }
        assert exchange.request.query == {"parts": "true"}
        await exchange.answer(200, json.dumps({**state, "metadata": {"job": 1}, **content}).encode())

    server.routes["GET", f"/v1/generations/{ID}"] = unknown
    server.routes["GET", f"/v1/streams/{ID}"] = feed
    lines = [" ".join(line.split()) for line in (await run("show", ID)).stdout.split("\n")]
    assert {f"feed {ID}", "events 3 to 9, the last is 7-9", "error disk: it is full"} <= set(lines)
    assert [line for line in lines if line.startswith(("progress", "file"))] == [
        "progress 50% (2/4) copying",
        'file {"url":"/a"}',
        "progress b: 50% (1/2)",
    ]
    assert lines[-3:] == ["text:", "half done", ""]
    assert json.loads((await run("show", ID, "--json")).stdout)["kind"] == "feed"
