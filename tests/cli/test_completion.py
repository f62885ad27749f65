"""Shell completion, called as a shell does."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from broadcaster.cli import completion
from broadcaster.cli.main import create_app_for, main
from tests.support.servers.sse_server import Exchange, SseServer

ROUTES = '{"claude*": "anthropic", "gpt-[45]*": "openai", "re:o\\\\d.*": "openai", "local": "local"}'


def variables(*arguments: str) -> dict[str, str]:
    """What bash sets to have the last argument completed."""
    words = {"COMP_WORDS": " ".join(["broadcaster", *arguments]), "COMP_CWORD": str(len(arguments))}
    return {"_BROADCASTER_COMPLETE": "complete_bash", "BROADCASTER_ROUTES": ROUTES, **words}


def run_main(environment: dict[str, str]) -> tuple[str, str]:
    """Stdout and stderr of the installed command's function, in this process."""
    with CliRunner().isolation(env=environment) as (out, err, _):
        with pytest.raises(SystemExit):
            main()
        return out.getvalue().decode(), err.getvalue().decode()


async def complete(*arguments: str, environment: dict[str, str] | None = None) -> list[str]:
    """The completions that bash offers for the last argument."""
    out, err = await asyncio.to_thread(run_main, {**variables(*arguments), **(environment or {})})
    assert err == ""
    return out.split()


def test_a_shell_gets_the_completions_from_the_command() -> None:
    command = [sys.executable, "-m", "broadcaster"]
    environment = {**os.environ, **variables("gen")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.split(), done.stderr) == (["generate"], "")


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


async def test_a_front_end_that_hangs_ends_the_completion_without_an_offer():
    async def hang(_: Exchange) -> None:
        await asyncio.Event().wait()

    context = typer.Context(typer.main.get_command(create_app_for([])))
    async with SseServer() as server:
        server.routes["GET", "/v1/generations"] = hang
        context.params = {"url": server.url}
        async with asyncio.timeout(20 * completion.DEADLINE_S):
            assert await asyncio.to_thread(completion.complete_generations, context, "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_can_be_had(shell):
    out, _ = run_main({"_BROADCASTER_COMPLETE": f"source_{shell}"})
    assert "_BROADCASTER_COMPLETE" in out
