"""Shell completion, called as a shell does."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest
import typer

from broadcaster.cli import completion
from broadcaster.cli.main import create_app_for
from tests.support.servers.sse_server import Exchange, SseServer

ROUTES = '{"claude*": "anthropic", "gpt-[45]*": "openai", "re:o\\\\d.*": "openai", "local": "local"}'


async def complete(*arguments: str, environment: dict[str, str] | None = None) -> list[str]:
    """The completions that bash offers for the last argument."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broadcaster"),
        env={
            **os.environ,
            "_BROADCASTER_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["broadcaster", *arguments]),
            "COMP_CWORD": str(len(arguments)),
            "BROADCASTER_ROUTES": ROUTES,
            **(environment or {}),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert err == b""
    return out.decode().split()


async def test_commands_are_completed():
    assert {"up", "show", "generate", "dead", "doctor"} <= set(await complete(""))
    assert await complete("gen") == ["generate"]


async def test_models_are_completed_from_the_routes():
    assert await complete("generate", "x", "--model", "") == ["local", "claude", "gpt-"]
    assert await complete("generate", "x", "--model", "cl") == ["claude"]


@pytest.mark.parametrize("command", ["tail", "stop", "show"])
async def test_generations_are_completed_from_the_front_end(command):
    listed = [{"id": "gen_a", "status": "running", "title": "Why?"}, {"id": "gen_b", "status": "queued"}]

    async def plan(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps({"generations": listed}).encode())

    async with SseServer() as server:
        server.routes["GET", "/v1/generations"] = plan
        assert await complete(command, "", environment={"BROADCASTER_URL": server.url}) == ["gen_a", "gen_b"]
        assert await complete(command, "--url", server.url, "gen_b") == ["gen_b"]


async def test_without_a_response_nothing_is_offered_and_nothing_printed():
    async with SseServer() as server:
        url = server.url
    assert await complete("tail", "", environment={"BROADCASTER_URL": url}) == []
    assert await complete("tail", "", environment={"BROADCASTER_URL": "nonsense"}) == []
    assert await complete("tail", "", environment={"BROADCASTER_PORT": "many"}) == []
    assert await complete("generate", "x", "--model", "", environment={"BROADCASTER_PORT": "many"}) == []


async def test_a_front_end_that_hangs_costs_a_second():
    async def hang(_: Exchange) -> None:
        await asyncio.Event().wait()

    context = typer.Context(typer.main.get_command(create_app_for([])))
    async with SseServer() as server:
        server.routes["GET", "/v1/generations"] = hang
        context.params = {"url": server.url}
        async with asyncio.timeout(20 * completion.DEADLINE_S):
            assert await asyncio.to_thread(completion.complete_generations, context, "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_completion_script_of_a_shell_can_be_had(shell):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broadcaster"),
        env={**os.environ, "_BROADCASTER_COMPLETE": f"source_{shell}"},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert b"_BROADCASTER_COMPLETE" in out
