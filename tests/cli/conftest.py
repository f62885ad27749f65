"""The command line against a small real server: in a thread for most claims, as a process where signals count."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner, Result

from broadcaster.cli.main import create_app
from broadcaster.core.entry import Entry
from broadcaster.core.events import Finish, Start, TextDelta, TextEnd, TextStart, encode_event
from tests.support.servers.sse_server import Exchange, SseServer

DEADLINE_S = 20.0
ID = "gen_1"
STORY = (
    Start(),
    TextStart(id="0"),
    TextDelta(id="0", delta="Hé"),
    TextDelta(id="0", delta="llo"),
    TextEnd(id="0"),
    Finish(finish_reason="stop"),
)
COMMANDS = ("generate", "chat", "tail", "stop", "delete", "ls", "top")
PROGRAM = f"from broadcaster.cli.main import create_app\ncreate_app({COMMANDS})()"

app = create_app([*COMMANDS, "show"])


def as_log(*events) -> list[Entry]:
    return [Entry(7, seq, encode_event(event)) for seq, event in enumerate(events, 1)]


async def _created(exchange: Exchange) -> None:
    await exchange.answer(202, json.dumps({"id": ID, "status": "queued"}).encode())


@pytest.fixture
async def server(monkeypatch) -> AsyncIterator[SseServer]:
    async with SseServer(as_log(*STORY)) as server:
        server.routes["POST", "/v1/generations"] = _created
        server.routes["POST", f"/v1/generations/{ID}/stop"] = _created
        monkeypatch.setenv("BROADCASTER_URL", server.url)
        yield server


async def run(*arguments: str, stdin: str | None = None) -> Result:
    """The command in this process; the server goes on in the event loop meanwhile."""
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments), input=stdin)


@dataclass
class Started:
    """A command running as its own process."""

    process: asyncio.subprocess.Process

    async def read_until(self, text: str) -> str:
        """The output of stdout up to and including this text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            return (await self.process.stdout.readuntil(text.encode())).decode()

    async def read_notes_until(self, text: str) -> str:
        """The output of stderr up to and including this text."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            return (await self.process.stderr.readuntil(text.encode())).decode()

    async def write(self, text: str) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        await self.process.stdin.drain()

    async def finish(self) -> tuple[int | None, str, str]:
        """End its stdin; exit code, and what is left of stdout and stderr."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        async with asyncio.timeout(DEADLINE_S):
            out, err = await self.process.communicate()
        return self.process.returncode, out.decode(), err.decode()


@pytest.fixture
async def start(server):
    """Start a command as a process of its own: ``await start("tail", "gen_1")``."""
    processes = []

    async def started(*arguments: str) -> Started:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, *arguments, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "BROADCASTER_URL": server.url, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        processes.append(process)
        return Started(process)

    yield started
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()
