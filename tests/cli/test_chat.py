"""``chat`` as a process: its lines come from a pipe, and its interrupts are signals."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from broadcaster.core.events import TextDelta
from tests.cli.conftest import DEADLINE_S, ID, STORY, as_log
from tests.support.log.log_world import until
from tests.support.servers.sse_server import Exchange, SseServer

ANSWER = "Héllo"


def answering(server: SseServer, text: str = ANSWER) -> None:
    async def state(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps({"id": ID, "status": "finished", "text": text}).encode())

    server.routes["GET", f"/v1/generations/{ID}"] = state


def started(server: SseServer) -> list:
    return [each.body for each in server.requests if (each.method, each.path) == ("POST", "/v1/generations")]


def has_read_the_answer(server: SseServer) -> bool:
    return any((each.method, each.path) == ("GET", f"/v1/generations/{ID}") for each in server.requests)


async def test_each_turn_sends_the_conversation_so_far(server, start):
    answering(server)
    chat = await start("chat", "--system", "be brief", "--model", "local")
    await chat.write("I am Robin\n")
    assert await chat.read_until("\n") == f"{ANSWER}\n"
    await chat.write("\nWho am I?\n/exit\nnever sent\n")
    code, out, _ = await chat.finish()
    assert (code, out) == (0, f"{ANSWER}\n")
    first = {"role": "user", "content": "I am Robin"}
    answer = {"role": "assistant", "content": ANSWER}
    assert started(server) == [
        {"messages": [first], "model": "local", "system": "be brief"},
        {"messages": [first, answer, {"role": "user", "content": "Who am I?"}], "model": "local", "system": "be brief"},
    ]


async def test_a_turn_that_failed_is_left_out_of_the_conversation_and_the_next_one_is_answered(server, start):
    answering(server)
    created = server.routes["POST", "/v1/generations"]

    async def refused(exchange: Exchange) -> None:
        server.routes["POST", "/v1/generations"] = created
        await exchange.problem(400, "unknown_model")

    server.routes["POST", "/v1/generations"] = refused
    chat = await start("chat")
    await chat.write("one\ntwo\n")
    code, out, err = await chat.finish()
    assert (code, out) == (1, f"{ANSWER}\n")
    assert "unknown_model" in err
    assert [body["messages"] for body in started(server)] == [
        [{"role": "user", "content": "one"}],
        [{"role": "user", "content": "two"}],
    ]


async def test_ctrl_c_stops_the_answer_and_keeps_what_came_of_it(server, start):
    answering(server, "Hé")
    server.entries[:] = as_log(*STORY)[:3]
    chat = await start("chat")
    await chat.write("one\n")
    assert await chat.read_until("Hé") == "Hé"
    chat.process.send_signal(signal.SIGINT)
    await chat.read_notes_until("stopped\n")
    server.entries[:] = as_log(*STORY)
    await chat.write("two\n")
    code, out, _ = await chat.finish()
    assert (code, out) == (0, f"\n{ANSWER}\n")
    assert [each.path for each in server.requests if each.path.endswith("/stop")] == [f"/v1/generations/{ID}/stop"]
    assert [message["content"] for message in started(server)[1]["messages"]] == ["one", "Hé", "two"]


async def test_ctrl_c_before_the_answer_has_an_id_stops_it_as_soon_as_it_has_one(server, start):
    answering(server, "")
    server.entries[:] = as_log(*STORY)[:1]
    created, arrived, may_answer = server.routes["POST", "/v1/generations"], asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        arrived.set()
        await may_answer.wait()
        await created(exchange)

    server.routes["POST", "/v1/generations"] = slow
    chat = await start("chat")
    await chat.write("one\n")
    async with asyncio.timeout(DEADLINE_S):
        await arrived.wait()
    chat.process.send_signal(signal.SIGINT)
    may_answer.set()
    await chat.read_notes_until("stopped\n")
    code, _, err = await chat.finish()
    assert (code, "left out of the conversation" in err) == (1, True)
    assert [each.path for each in server.requests if each.path.endswith("/stop")] == [f"/v1/generations/{ID}/stop"]


async def test_ctrl_c_at_the_prompt_ends_the_conversation_and_names_no_answer_that_is_over(server, start):
    answering(server)
    chat = await start("chat")
    await chat.write("one\n")
    assert await chat.read_until("\n") == f"{ANSWER}\n"
    await until(lambda: has_read_the_answer(server))
    chat.process.send_signal(signal.SIGINT)
    code, _, err = await chat.finish()
    assert (code, err) == (130, "interrupted\n")


async def test_ctrl_c_at_the_prompt_names_no_answer_that_was_stopped(server, start):
    answering(server, "Hé")
    server.entries[:] = as_log(*STORY)[:3]
    chat = await start("chat")
    await chat.write("one\n")
    assert await chat.read_until("Hé") == "Hé"
    chat.process.send_signal(signal.SIGINT)
    await chat.read_notes_until("stopped\n")
    await until(lambda: has_read_the_answer(server))
    chat.process.send_signal(signal.SIGINT)
    code, _, err = await chat.finish()
    assert (code, err) == (130, "interrupted\n")


@pytest.mark.parametrize("held", [("GET", f"/v1/generations/{ID}"), ("POST", f"/v1/generations/{ID}/stop")])
async def test_ctrl_c_after_the_answer_or_its_stop_ends_the_conversation(server, start, held):
    answering(server)
    arrived, never = asyncio.Event(), asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        arrived.set()
        await never.wait()

    server.routes[held] = hold
    is_stopped = held[0] == "POST"
    if is_stopped:
        server.entries[:] = as_log(*STORY)[:3]
    chat = await start("chat")
    await chat.write("one\n")
    assert await chat.read_until("Hé") == "Hé"
    if is_stopped:
        chat.process.send_signal(signal.SIGINT)
    async with asyncio.timeout(DEADLINE_S):
        await arrived.wait()
    chat.process.send_signal(signal.SIGINT)
    code, _, err = await chat.finish()
    back = f"; the generation continues, return to it with: broadcaster tail {ID}" if is_stopped else ""
    assert code == 130
    assert err.startswith(f"interrupted{back}")


async def test_ctrl_c_while_a_failure_is_explained_ends_the_conversation(server, start):
    arrived, never = asyncio.Event(), asyncio.Event()

    async def refused(exchange: Exchange) -> None:
        await exchange.problem(400, "unknown_model")

    async def hold(exchange: Exchange) -> None:
        arrived.set()
        await never.wait()

    server.routes["POST", "/v1/generations"] = refused
    server.routes["GET", "/v1/models"] = hold
    chat = await start("chat", "--model", "none")
    await chat.write("one\n")
    async with asyncio.timeout(DEADLINE_S):
        await arrived.wait()
    chat.process.send_signal(signal.SIGINT)
    code, _, err = await chat.finish()
    assert (code, err) == (130, "interrupted\n")


async def test_an_answer_without_text_leaves_no_turn(server, start):
    answering(server, "")
    server.entries[:] = as_log(STORY[0], TextDelta(id="0", delta=""), STORY[-1])
    chat = await start("chat")
    await chat.write("one\ntwo\n")
    code, _, err = await chat.finish()
    assert code == 1
    assert err.count("left out of the conversation") == 2
    assert [len(body["messages"]) for body in started(server)] == [1, 1]
