"""The command line against real front-ends: it goes on over a restart, and its exit code is true."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from broadcaster.testing import ScriptedProvider
from tests.support.servers.ports import free_port
from tests.support.servers.processes import Stack

MODEL = "claude-scripted"


async def start_cli(url: str, *command: str, stdin: int | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broadcaster", *command, "--url", url),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_generate_goes_on_over_a_front_end_killed_and_restarted(stack: Stack, scripted: ScriptedProvider) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    port = free_port()
    front_end = await stack.front_end(port=port, retry_ms=100)
    cli = await start_cli(front_end.url, "generate", "hi")
    assert cli.stdout is not None
    await conversation.send_text("one ")
    assert await asyncio.wait_for(cli.stdout.readexactly(4), 20) == b"one "
    await front_end.kill()
    await conversation.send_text("two ")
    await stack.front_end(port=port, retry_ms=100)
    await conversation.send_text("three")
    await conversation.finish()
    rest, errors = await asyncio.wait_for(cli.communicate(), 30)
    assert rest.strip() == b"two three"
    assert b"reconnecting" in errors
    assert cli.returncode == 0


async def test_stop_from_another_terminal_ends_generate_with_exit_code_1(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end()
    cli = await start_cli(front_end.url, "generate", "hi")
    assert cli.stdout is not None
    assert cli.stderr is not None
    generation_id = (await asyncio.wait_for(cli.stderr.readline(), 20)).split()[1].decode()
    await conversation.send_text("half ")
    assert await asyncio.wait_for(cli.stdout.readexactly(5), 20) == b"half "
    listed, _ = await (await start_cli(front_end.url, "ls", "--json")).communicate()
    assert generation_id in listed.decode()
    stop = await start_cli(front_end.url, "stop", generation_id)
    await stop.communicate()
    assert stop.returncode == 0
    await asyncio.wait_for(cli.communicate(), 20)
    assert cli.returncode == 1
    tail, _ = await (await start_cli(front_end.url, "tail", generation_id)).communicate()
    assert tail.startswith(b"half ")


async def test_without_a_front_end_the_command_prints_the_remedy(stack: Stack) -> None:
    cli = await start_cli(f"http://127.0.0.1:{free_port()}", "ls")
    _, errors = await cli.communicate()
    assert cli.returncode == 3
    assert b"broadcaster up" in errors


@pytest.mark.parametrize(
    ("module", "settings", "remedy"),
    [
        ("worker", {"BROADCASTER_REDIS_URL": ""}, b"set BROADCASTER_REDIS_URL"),
        ("worker", {"BROADCASTER_ROUTES": '{"*": "nobody"}'}, b"unknown providers: nobody"),
        ("worker", {"BROADCASTER_LEASE_TTL_S": "-1"}, b"BROADCASTER_LEASE_TTL_S"),
        ("broadcaster serve", {"BROADCASTER_REDIS_URL": ""}, b"set BROADCASTER_REDIS_URL"),
        ("broadcaster serve", {"BROADCASTER_HOST": "0.0.0.0"}, b"loopback"),
    ],
)
async def test_a_wrong_set_up_is_reported_in_one_line_with_exit_code_2(
    stack: Stack, module: str, settings: dict[str, str], remedy: bytes
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module.split()),
        env={**os.environ, **stack.environment, **settings},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert remedy in errors
    assert errors.count(b"\n") <= 2
    assert b"Traceback" not in errors


async def run_cli(stack: Stack, *command: str, **settings: str) -> tuple[int | None, str, str]:
    """A command with the stack's settings in its environment, to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broadcaster", *command),
        env={**os.environ, **stack.environment, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, out.decode(), errors.decode()


async def test_a_generation_whose_attempts_are_spent_is_requeued_and_answered(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    first = scripted.conversation(MODEL)
    worker = await stack.worker(lease_ttl_s=1, max_attempts=1)
    front_end = await stack.front_end(lease_ttl_s=1, max_attempts=1)
    cli = await start_cli(front_end.url, "generate", "hi")
    assert cli.stdout is not None
    await first.send_text("half ")
    assert await asyncio.wait_for(cli.stdout.readexactly(5), 20) == b"half "
    await worker.kill()
    await stack.worker(lease_ttl_s=1, max_attempts=1)
    _, errors = await asyncio.wait_for(cli.communicate(), 30)
    assert b"attempts_spent" in errors
    code, out, _ = await run_cli(stack, "dead", "ls", "--json")
    (letter,) = json.loads(out)
    assert (code, letter["reason"], letter["can_requeue"]) == (0, "attempts_spent", True)

    second = scripted.conversation(MODEL)
    code, out, errors_now = await run_cli(stack, "dead", "requeue", "--all")
    assert code == 0, errors_now
    old, _, new = out.strip().partition(" → ")
    assert old == letter["id"]
    await second.send_text("whole")
    await second.finish()
    tail, _ = await asyncio.wait_for((await start_cli(front_end.url, "tail", new)).communicate(), 30)
    assert tail == b"whole\n"
    shown, _ = await (await start_cli(front_end.url, "show", new, "--json")).communicate()
    assert json.loads(shown)["prompt"] == "hi"
    assert (await run_cli(stack, "dead", "ls", "--json"))[1] == "[]\n"


@pytest.mark.second_engine
async def test_the_doctor_finds_a_running_stack_well_and_sees_its_worker_die(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    worker = await stack.worker(lease_ttl_s=1)
    front_end = await stack.front_end()
    code, out, _ = await run_cli(stack, "doctor", "--json", "--url", front_end.url)
    found = {f"{each['group']}: {each['check']}": each for each in json.loads(out)["checks"]}
    assert code == 0, out
    assert found["redis: workers"]["said"] == "1 worker alive"
    assert found["front-end: answer"]["verdict"] == "ok"
    assert found["providers: anthropic"]["verdict"] == "ok"
    assert "test-key" not in out
    await worker.kill()
    async with asyncio.timeout(20):
        while "0 workers alive" not in out:
            code, out, _ = await run_cli(stack, "doctor", "--json", "--url", front_end.url)
    assert code == 0
