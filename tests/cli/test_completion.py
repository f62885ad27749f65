"""Shell completion, called as a shell does."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import typer

from broadcaster.cli.main import create_app_for, main
from broadcaster.cli.terminal import completion
from tests.support.servers.sse_server import Exchange, SseServer

ROUTES = '{"claude*": "anthropic", "gpt-[45]*": "openai", "re:o\\\\d.*": "openai", "local": "local"}'


def variables(*arguments: str) -> dict[str, str]:
    """What bash sets to have the last argument completed."""
    words = {"COMP_WORDS": " ".join(["broadcaster", *arguments]), "COMP_CWORD": str(len(arguments))}
    return {"_BROADCASTER_COMPLETE": "complete_bash", "BROADCASTER_ROUTES": ROUTES, **words}


@dataclass(frozen=True)
class Shell:
    """Calls the installed command's function in this process; pytest holds stdout and stderr for the whole test."""

    output: pytest.CaptureFixture[str]

    async def run_main(self, environment: dict[str, str]) -> str:
        """What the command prints to stdout, and nothing to stderr; in a thread, because the command runs a loop."""
        with pytest.MonkeyPatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            with pytest.raises(SystemExit):
                await asyncio.to_thread(main)
        printed = self.output.readouterr()
        assert printed.err == ""
        return printed.out

    async def complete(self, *arguments: str, environment: dict[str, str] | None = None) -> list[str]:
        """The completions that bash offers for the last argument."""
        return (await self.run_main({**variables(*arguments), **(environment or {})})).split()


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_a_shell_gets_the_completions_from_the_command() -> None:
    command = [sys.executable, "-m", "broadcaster"]
    environment = {**os.environ, **variables("gen")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.split(), done.stderr) == (["generate"], "")


async def test_commands_are_completed(shell: Shell):
    assert {"up", "show", "generate", "dead", "doctor"} <= set(await shell.complete(""))
    assert await shell.complete("gen") == ["generate"]


async def test_models_are_completed_from_the_routes(shell: Shell):
    assert await shell.complete("generate", "x", "--model", "") == ["local", "claude", "gpt-"]
    assert await shell.complete("generate", "x", "--model", "cl") == ["claude"]


@pytest.mark.parametrize("command", ["tail", "stop", "show"])
async def test_generations_are_completed_from_the_front_end(
    shell: Shell, command: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(completion, "DEADLINE_S", 20.0)  # the machine may be busy
    listed = [{"id": "gen_a", "status": "running", "title": "Why?"}, {"id": "gen_b", "status": "queued"}]

    async def plan(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps({"generations": listed}).encode())

    async with SseServer() as server:
        server.routes["GET", "/v1/generations"] = plan
        assert await shell.complete(command, "", environment={"BROADCASTER_URL": server.url}) == ["gen_a", "gen_b"]
        assert await shell.complete(command, "--url", server.url, "gen_b") == ["gen_b"]


async def test_without_a_response_nothing_is_offered_and_nothing_printed(shell: Shell):
    async with SseServer() as server:
        url = server.url
    assert await shell.complete("tail", "", environment={"BROADCASTER_URL": url}) == []
    assert await shell.complete("tail", "", environment={"BROADCASTER_URL": "nonsense"}) == []
    for proxy in ({"ALL_PROXY": "socks5://127.0.0.1:1"}, {"SSL_CERT_FILE": "/gone"}):
        assert await shell.complete("tail", "", environment={"BROADCASTER_URL": "https://front.invalid", **proxy}) == []
    assert await shell.complete("tail", "", environment={"BROADCASTER_PORT": "many"}) == []
    assert await shell.complete("generate", "x", "--model", "", environment={"BROADCASTER_PORT": "many"}) == []


async def test_a_front_end_that_hangs_ends_the_completion_without_an_offer():
    async def hang(_: Exchange) -> None:
        await asyncio.Event().wait()

    context = typer.Context(typer.main.get_command(create_app_for([])))
    async with SseServer() as server:
        server.routes["GET", "/v1/generations"] = hang
        context.params = {"url": server.url}
        async with asyncio.timeout(20 * completion.DEADLINE_S):
            assert await asyncio.to_thread(completion.complete_generations, context, "") == []


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
async def test_the_completion_script_of_a_shell_can_be_had(shell: Shell, kind: str):
    assert "_BROADCASTER_COMPLETE" in await shell.run_main({"_BROADCASTER_COMPLETE": f"source_{kind}"})
