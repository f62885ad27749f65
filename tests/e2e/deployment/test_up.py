"""`broadcaster up` and `serve` as a user runs them: one at a time, quick to end, gone without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from broadcaster import __version__
from broadcaster.client import AsyncClient
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import socket_path
from broadcaster.testing import ScriptedProvider
from tests.support.servers.processes import Running, Stack, children, running_program, until_dead
from tests.support.watching import viewers_of


@contextlib.asynccontextmanager
async def running_up(
    folder: Path, scripted: ScriptedProvider, *options: str, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """`broadcaster up` with an embedded Redis and one worker; its URL in ``url``."""
    stack = Stack(
        folder,
        {
            "BROADCASTER_DATA_DIR": str(folder / "data"),
            "BROADCASTER_DEFAULT_MODEL": "claude-scripted",
            "BROADCASTER_LEASE_TTL_S": "1",
            "BROADCASTER_REDIS_TIMEOUT_S": "0.5",
            "ANTHROPIC_BASE_URL": scripted.base_url,
            "ANTHROPIC_API_KEY": "test-key",
            **(variables or {}),
        },
    )
    try:
        up = await stack.start("broadcaster", "up", "--port", "0", *options)
        up.url = (await up.logged("broadcaster is up: ")).partition("is up: ")[2].strip()
        yield up
    finally:
        await stack.aclose()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_up_ends_with_100_viewers_open_and_leaves_no_process(
    tmp_path: Path, scripted: ScriptedProvider, number: signal.Signals
) -> None:
    conversation = scripted.conversation("claude-scripted")
    async with running_up(tmp_path, scripted) as up, AsyncClient(up.url) as client:
        generation = await client.start("hi")
        await conversation.send_text("first words")
        viewers = await viewers_of(up.url, generation.id, having="first words")
        family = children(up.pid)
        assert len(family) >= 2  # Redis and a worker
        began = time.monotonic()
        up.signal(number)
        assert await asyncio.wait_for(up.process.wait(), 30) == 0
        took_s = time.monotonic() - began
        await until_dead(family, 20)
        seen = await asyncio.gather(*viewers)
    print(f"{number.name} → ended: {took_s:.2f} s")
    for each in seen:
        assert each.notices[-1][0] == "hub.bye"
        assert all('"finish"' not in data and '"error"' not in data for _, data in each.entries)


async def test_a_ctrl_c_during_the_start_ends_up_without_a_traceback_or_a_process(
    tmp_path: Path, scripted: ScriptedProvider
) -> None:
    stack = Stack(tmp_path, {"BROADCASTER_DATA_DIR": str(tmp_path / "data"), "ANTHROPIC_BASE_URL": scripted.base_url})
    try:
        up = await stack.start("broadcaster", "up", "--port", "0")
        await up.logged("embedded_redis_started")
        family = children(up.pid)
        up.signal(signal.SIGINT)
        code = await asyncio.wait_for(up.process.wait(), 30)
        await until_dead(family, 20)
    finally:
        await stack.aclose()
    logged = up.log.read_text("utf-8")
    assert code == (0 if "broadcaster is up" in logged else 130)
    assert "Traceback" not in logged


async def test_serve_ends_with_100_viewers_open(stack: Stack, scripted: ScriptedProvider) -> None:
    conversation = scripted.conversation("claude-scripted")
    await stack.worker()
    front_end = await stack.front_end()
    async with AsyncClient(front_end.url) as client:
        generation = await client.start("hi")
        await conversation.send_text("first words")
        viewers = await viewers_of(front_end.url, generation.id, having="first words")
        front_end.signal(signal.SIGTERM)
        assert await asyncio.wait_for(front_end.process.wait(), 30) == 0
        await asyncio.gather(*viewers)


async def test_a_second_up_prints_the_running_url_and_exits_0(tmp_path: Path, scripted: ScriptedProvider) -> None:
    async with running_up(tmp_path, scripted) as up:
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "broadcaster", "up", "--data-dir", str(tmp_path / "data")),
            stdout=asyncio.subprocess.PIPE,
        )
        logged, _ = await second.communicate()
        assert second.returncode == 0
        assert up.url in logged.decode()


async def test_up_first_prints_what_it_starts_and_later_commands_find_it_by_its_folder(
    tmp_path: Path, scripted: ScriptedProvider
) -> None:
    async with running_up(tmp_path, scripted) as up:
        assert up.log.read_text("utf-8").startswith(f"broadcaster {__version__} is starting: Redis, 1 front-end, 1 wor")
        environment = {**os.environ, "BROADCASTER_DATA_DIR": str(tmp_path / "data")}
        environment.pop("BROADCASTER_URL", None)
        async with AsyncClient(up.url) as client:
            await client.create_stream("nightly")
        command = [sys.executable, "-m", "broadcaster", "ls", "--json"]
        listed = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, timeout=30)
        assert [stream["id"] for stream in json.loads(listed.stdout)] == ["nightly"]


@pytest.mark.second_engine
async def test_up_killed_takes_its_redis_and_workers_with_it_and_the_next_up_goes_on(
    tmp_path: Path, scripted: ScriptedProvider
) -> None:
    torn, whole = scripted.conversation("claude-scripted"), scripted.conversation("claude-scripted")
    async with running_up(tmp_path, scripted) as up, AsyncClient(up.url) as client:
        # Every second is the default: what a kill of everything may cost is the last one.
        async with LogConnection(f"unix://{socket_path(tmp_path / 'data')}") as connection:
            await connection.redis.config_set("appendfsync", "always")
        generation = await client.start("hi")
        await torn.send_text("torn")
        async with asyncio.timeout(20):
            while (await client.get(generation.id)).text != "torn":
                await asyncio.sleep(0.02)
        family = children(up.pid)
        os.kill(up.pid, signal.SIGKILL)
        await until_dead(family, 10)
    async with running_up(tmp_path, scripted) as up, AsyncClient(up.url) as client:
        await whole.send_text("the whole answer")
        await whole.finish()
        final = await client.get(generation.id, wait_s=20)
    assert (final.status, final.text, final.attempt) == ("finished", "the whole answer", 2)


async def test_a_killed_redis_and_a_killed_worker_are_restarted(tmp_path: Path, scripted: ScriptedProvider) -> None:
    async with running_up(tmp_path, scripted) as up, AsyncClient(up.url) as client:
        before = children(up.pid)
        for pid in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        generation = await client.start("hi")
        assert (await client.get(generation.id, wait_s=30)).status == "finished"
        assert not set(before) & set(children(up.pid))


async def test_the_first_replacement_of_a_killed_worker_takes_its_answer_over(
    tmp_path: Path, scripted: ScriptedProvider
) -> None:
    torn, whole = scripted.conversation("claude-scripted"), scripted.conversation("claude-scripted")
    async with running_up(tmp_path, scripted) as up, AsyncClient(up.url) as client:
        generation = await client.start("hi")
        await torn.send_text("torn")
        async with asyncio.timeout(20):
            while (await client.get(generation.id)).text != "torn":
                await asyncio.sleep(0.02)
        ready = json.loads(await up.logged("worker_ready"))
        began = time.monotonic()
        os.kill(int(ready["worker"].split(".")[-2]), signal.SIGKILL)
        await whole.send_text("the whole answer")
        async with asyncio.timeout(20):
            while (await client.get(generation.id)).text != "the whole answer":
                await asyncio.sleep(0.02)
        print(f"killed → moves again: {time.monotonic() - began:.2f} s, with a lease of 1 s")
        await whole.finish()
        final = await client.get(generation.id, wait_s=20)
        died = json.loads(await up.logged("worker_died"))
        starts = up.log.read_text("utf-8").count('"worker_ready"')
    assert (final.status, final.attempt, died["failures"], starts) == ("finished", 2, 1, 2)


@pytest.mark.parametrize("command", [("worker",), ("up", "--port", "0", "--processes", "2")])
async def test_no_file_of_the_current_folder_runs_in_place_of_a_process_and_its_tool_box_is_found(
    tmp_path: Path, connection: LogConnection, command: tuple[str, ...]
) -> None:
    for taken in ("worker.py", "broadcaster.py", "queue.py", "redis.py"):
        (tmp_path / taken).write_text("raise SystemExit(f'ran {__file__}')\n")
    (tmp_path / "own_tools.py").write_text("from worker.tools import ToolBox\nbox = ToolBox()\n")
    environment = {**os.environ, "BROADCASTER_REDIS_URL": connection.url, "BROADCASTER_TOOLS": "own_tools:box"}
    program = (sys.executable, "-P", "-m", "broadcaster")
    async with running_program(
        *program, *command, environment=environment, folder=tmp_path, log=tmp_path / "log"
    ) as running:
        await running.logged("worker_ready")
        if "up" in command:
            await running.logged("broadcaster is up: ")
    assert f"ran {tmp_path}" not in running.log.read_text("utf-8")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_up_with_two_front_end_processes_ends_with_all_of_them(
    tmp_path: Path, scripted: ScriptedProvider, number: signal.Signals
) -> None:
    async with running_up(tmp_path, scripted, "--processes", "2") as up, AsyncClient(up.url) as client:
        generation = await client.start("hi")
        assert (await client.get(generation.id, wait_s=30)).status == "finished"
        family = children(up.pid)
        assert len(family) >= 4  # Redis, a worker and the two
        up.signal(number)
        code = await asyncio.wait_for(up.process.wait(), 30)
        await until_dead(family, 20)
    assert code == (0 if number == signal.SIGTERM else -number)


SECRETS = {
    "BROADCASTER_AUTH": "keys",
    "BROADCASTER_API_KEYS": '{"a": ["of-callers-0123456789"]}',
    "BROADCASTER_API_KEY": "of-callers-0123456789",
    "BROADCASTER_WEBHOOK_HOSTS": "hooks.example.com",
    "BROADCASTER_WEBHOOK_SECRET": "of-webhooks-0123456789abcdef",
    "BROADCASTER_API_KEY_ENVS": '{"anthropic": ["KEY_OF_CLAUDE"]}',
    "KEY_OF_CLAUDE": "of-providers-0123456789",
    "OPENAI_API_KEY": "of-providers-0123456789",
    "PASSWORD_OF_A_TOOL": "of-tools-0123456789",
}


async def test_each_process_of_up_gets_only_the_secrets_that_it_reads(
    tmp_path: Path, scripted: ScriptedProvider
) -> None:
    async with running_up(tmp_path, scripted, "--processes", "2", variables=SECRETS) as up:
        known = {}
        for pid in children(up.pid):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            environment = Path(f"/proc/{pid}/environ").read_bytes().decode()
            whose = {whose for whose in ("callers", "webhooks", "providers", "tools") if f"=of-{whose}-" in environment}
            kind = next(
                (kind for kind in ("broadcaster.cli.processes.front_end", "worker") if kind in command), "server"
            )
            known[kind] = whose | ({"callers"} if "BROADCASTER_API_KEYS" in environment else set())
    assert known["broadcaster.cli.processes.front_end"] == {"callers", "tools"}
    assert known["worker"] == {"webhooks", "providers", "tools"}
    assert known["server"] == set()
