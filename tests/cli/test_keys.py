"""The commands against a front-end with keys, a real one; and no key in anything that any of them writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from broadcaster.cli.main import create_app_for
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import ScriptedProvider
from tests.support.servers.processes import Stack, open_stack

MODEL = "claude-scripted"
MINE, OTHERS, WRONG = "key-of-mine-4f1c9a", "key-of-others-77e2b0", "key-of-nobody-0d93c5"
KEYS = json.dumps({"mine": [MINE], "others": [OTHERS]})
DEADLINE_S = 30.0


@dataclass
class Keyed:
    """A worker, a front-end on all addresses that requires a key, and the output of all processes so far."""

    stack: Stack
    url: str
    output: str = ""

    async def run(self, *command: str, key: str | None = MINE) -> tuple[int, str, str]:
        """A command to its end, with this key in its environment."""
        arguments, environment = [*command, "--url", self.url], {"BROADCASTER_API_KEY": key}
        result = await asyncio.to_thread(CliRunner().invoke, create_app_for(arguments), arguments, env=environment)
        self.output += result.output
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
async def keyed(tmp_path: Path, connection: LogConnection) -> AsyncIterator[Keyed]:
    async with (
        ScriptedProvider() as provider,
        open_stack(
            tmp_path, redis_url=connection.url, provider_url=provider.base_url, default_model=MODEL, log_level="debug"
        ) as stack,
    ):
        await stack.worker()
        front_end = await stack.front_end(host="0.0.0.0", auth="keys", api_keys=KEYS)
        yield Keyed(stack, front_end.url)


async def test_commands_work_with_a_key_and_name_the_remedy_without_and_no_key_is_written_anywhere(
    keyed: Keyed,
) -> None:
    assert keyed.url.startswith("http://127.0.0.1:")
    commands = {
        "generate": ("generate", "hi"),
        "ls": ("ls",),
        "tail": ("tail", "gen_0"),
        "stop": ("stop", "gen_0"),
        "publish": ("publish", "job-1", '{"type": "data-x", "data": 1}', "--create", "--close"),
    }
    for command in commands.values():
        for key in (None, WRONG):
            code, out, err = await keyed.run(*command, key=key)
            assert (code, out) == (1, ""), command
            assert err.startswith("error: unauthorized: "), err
            assert "set BROADCASTER_API_KEY to a key of this front-end" in err
            assert err.count("\n") == 1

    code, answer, err = await keyed.run(*commands["generate"])
    assert (code, bool(answer.strip())) == (0, True), err
    generation_id = err.split()[1]
    assert (await keyed.run("tail", generation_id))[:2] == (0, answer)
    assert (await keyed.run("show", generation_id))[0] == 0
    assert generation_id in (await keyed.run("ls", "--all"))[1]
    assert (await keyed.run(*commands["publish"]))[0] == 0
    assert (await keyed.run("tail", "job-1"))[0] == 0

    code, _, err = await keyed.run("tail", generation_id, key=OTHERS)
    assert (code, "unknown_stream" in err) == (1, True)
    assert generation_id not in (await keyed.run("ls", "--all", key=OTHERS))[1]
    assert "it accepts our calls" in (await keyed.run("doctor", "--json"))[1]
    assert "it refuses our key" in (await keyed.run("doctor", "--json", key=WRONG))[1]

    await _misbehave(keyed.url)
    await keyed.stack.aclose()
    logs = "".join(running.log.read_text() for running in keyed.stack.started)
    assert "listening on" in logs
    for key in (MINE, OTHERS, WRONG):
        assert key not in logs + keyed.output


async def _misbehave(url: str) -> None:
    """Keys in all the places where one could slip into a log or an answer."""
    async with httpx2.AsyncClient(base_url=url) as http:
        for key in (MINE, OTHERS, WRONG):
            bearer = {"authorization": f"Bearer {key}"}
            for response in (
                await http.get("/v1/generations", headers=bearer | {"x-api-key": f"{key}-other"}),
                await http.get("/v1/generations/gen_0", headers=bearer),
                await http.post("/v1/generations", headers=bearer, content=b"{"),
                await http.post("/v1/generations", headers=bearer, json={"prompt": 1}),
                await http.post("/v1/generations", headers={"x-api-key": f"{key}\x01"}, json={}),
                await http.put("/v1/streams/job-2", headers=bearer | {"content-type": "text/plain"}, content=b"x"),
                await http.get("/nothing/here", headers=bearer),
                await http.get("/healthz", headers=bearer | {"host": ""}),
            ):
                assert key not in response.text + str(response.headers)
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(f"GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MINE}\r\nbroken header\r\n\r\n".encode())
        assert MINE.encode() not in await asyncio.wait_for(reader.read(), DEADLINE_S)
        writer.close()
