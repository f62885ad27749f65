"""Viewing, over real processes: whole wherever it was cut, one history read however many join."""

from __future__ import annotations

import asyncio
import json

import pytest

from broadcaster.client import AsyncClient
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.testing import Script, ScriptedProvider, wire
from tests.support.log.log_world import until
from tests.support.servers.processes import Stack
from tests.support.watching import Seen, ids, watch

MODEL = "claude-scripted"


async def test_a_viewer_cut_at_every_event_and_resumed_on_the_other_front_end_sees_exactly_the_whole(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    scripted.script(MODEL, Script.of_text(*(f"word{n} " for n in range(12))))
    await stack.worker()
    first, second = (await stack.front_end()).url, (await stack.front_end()).url
    async with AsyncClient(first) as client:
        generation = await client.start("hi")
        whole = (await watch(first, generation.id)).entries
    stored = await Streams(connection).read(generation.id)
    assert whole == [(str(entry.cursor), entry.event.decode()) for entry in stored]
    assert len(whole) > 15
    for cut in range(1, len(whole)):
        prefix = await watch(first, generation.id, until=lambda seen, cut=cut: len(seen.entries) == cut)  # type: ignore[misc]
        rest = await watch(second, generation.id, after=ids(prefix)[-1])
        assert prefix.entries + rest.entries == whole
    assert (await watch(second, generation.id, after=whole[-1][0])).status == 204


async def test_a_viewer_cut_while_the_answer_is_live_resumes_on_the_other_front_end(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    urls = [(await stack.front_end()).url, (await stack.front_end()).url]
    async with AsyncClient(urls[0]) as client:
        generation = await client.start("hi")
        whole = asyncio.create_task(watch(urls[0], generation.id))
        got: list[tuple[str, str]] = []
        for n in range(8):
            await conversation.send_text(f"word{n} ")
            seen = await watch(
                urls[n % 2],
                generation.id,
                after=got[-1][0] if got else None,
                until=lambda seen, n=n: f"word{n} " in "".join(data for _, data in seen.entries),  # type: ignore[misc]
            )
            got += seen.entries
        await conversation.finish()
        got += (await watch(urls[0], generation.id, after=got[-1][0])).entries
    assert got == (await whole).entries


@pytest.mark.second_engine
async def test_200_late_joiners_cost_one_history_read(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end()
    async with AsyncClient(front_end.url) as client:
        generation = await client.start("hi")
    for n in range(40):
        await conversation.send_text(f"word{n} ")
    streams = Streams(connection)
    async with asyncio.timeout(20):
        while len(await streams.read(generation.id)) < 43:
            await asyncio.sleep(0.01)
    await connection.redis.config_set("slowlog-max-len", 10_000)
    await connection.redis.config_set("slowlog-log-slower-than", 0)  # every command
    caught_up: list[Seen] = []

    def note(seen: Seen) -> bool:
        if len(seen.entries) == 43 and seen not in caught_up:
            caught_up.append(seen)
        return False

    viewers = [asyncio.create_task(watch(front_end.url, generation.id, until=note)) for _ in range(200)]
    await until(lambda: len(caught_up) == 200, deadline_s=20)
    commands = [each["command"] for each in await connection.redis.slowlog_get(10_000)]
    await connection.redis.config_set("slowlog-log-slower-than", -1)
    reads = [each for each in commands if each.startswith(b"XRANGE") and b":log" in each]
    await conversation.finish()
    answers = [(await viewer).entries for viewer in viewers]
    assert len(reads) == 1, reads
    assert all(each == answers[0] for each in answers)
    assert json.loads(answers[0][-1][1])["type"] == "finish"


async def test_reasoning_and_tools_reach_the_viewer_and_the_folded_answer(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end()
    async with AsyncClient(front_end.url) as client:
        generation = await client.start("hi")
        await conversation.send_block(wire.thinking("let me think", signature="sig"))
        await conversation.send_block(wire.tool_use("weather", '{"ci', 'ty":"Bern"}'))
        await conversation.send_text("sunny")
        await conversation.finish("tool_use")
        whole = await client.get(generation.id, wait_s=10)
    assert (whole.status, whole.text, whole.reasoning) == ("finished", "sunny", "let me think")
    tools = [part for part in whole.parts if part["type"] == "tool"]
    assert [(part["toolName"], part["input"]) for part in tools] == [("weather", {"city": "Bern"})]
    assert whole.usage is not None
    assert whole.usage["inputTokens"] > 0


async def test_a_queued_generation_is_held_until_a_worker_comes(stack: Stack) -> None:
    front_end = await stack.front_end()
    async with AsyncClient(front_end.url) as client:
        generation = await client.start("hi")
        viewer = asyncio.create_task(watch(front_end.url, generation.id))
        assert (await client.get(generation.id)).status == "queued"
        await stack.worker()
        seen = await viewer
    assert json.loads(dict(seen.notices)["hub.hello"])["status"] == "queued"
    assert json.loads(seen.entries[-1][1])["type"] == "finish"
