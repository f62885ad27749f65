"""The waiting line: on a terminal only, and gone when the answer comes."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import time

import pytest
from rich.console import Console

from broadcaster.cli.terminal.displays import WaitingLine
from tests.cli.conftest import DEADLINE_S, ID, PROGRAM, STORY, as_log, run
from tests.support.servers.sse_server import Exchange, frame


class Terminal:
    """The master side of a pseudo-terminal, read as it comes."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.printed = ""
        os.set_blocking(master, False)

    async def shows(self, text: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.printed:
            assert time.monotonic() < deadline, self.printed
            self.read()
            await asyncio.sleep(0.01)

    def read(self) -> None:
        try:
            self.printed += os.read(self._master, 65_536).decode("utf-8", "replace")
        except (BlockingIOError, OSError):  # OSError: the other side is closed
            return


def hello(status: str) -> bytes:
    return b'event: hub.hello\ndata: {"id":"s","status":"%s"}\n\n' % status.encode()


@pytest.fixture
async def on_terminal(server):
    """Start ``tail`` with its stderr on a terminal and its stdout in a pipe."""
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, "tail", ID,
        stdout=asyncio.subprocess.PIPE, stderr=slave,
        env={**os.environ, "BROADCASTER_URL": server.url, "PYTHONPATH": os.getcwd(), "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    yield process, Terminal(master)
    if process.returncode is None:
        process.kill()
    await process.wait()
    os.close(master)


async def test_a_terminal_displays_what_the_command_waits_for_until_the_answer_comes(server, on_terminal):
    started, informed = asyncio.Event(), asyncio.Event()
    entries = as_log(*STORY)

    async def slow(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send(hello("queued"))
        await started.wait()
        await exchange.send(frame(entries[0]))
        await informed.wait()
        for entry in entries[1:]:
            await exchange.send(frame(entry))
        await exchange.end()

    server.plans.append(slow)
    process, terminal = on_terminal
    await terminal.shows("queued: waiting for a worker")
    started.set()
    await terminal.shows("waiting for the first event")
    await terminal.shows("1 s")
    informed.set()
    out, _ = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    terminal.read()
    assert (process.returncode, out) == (0, "Héllo\n".encode())
    # The cursor was restored, and the line erased (EL) after its last text.
    assert terminal.printed.rindex("\x1b[?25h") > terminal.printed.rindex("first event")
    assert terminal.printed.rindex("\x1b[2K") > terminal.printed.rindex("first event")


async def test_ctrl_c_gives_the_terminal_its_cursor_back(server, on_terminal):
    server.plans.append(server.raw(hello("queued"), hold=True))
    process, terminal = on_terminal
    await terminal.shows("queued: waiting for a worker")
    process.send_signal(2)
    await asyncio.wait_for(process.communicate(), DEADLINE_S)
    terminal.read()
    assert process.returncode == 130
    assert terminal.printed.rindex("\x1b[?25h") > terminal.printed.rindex("\x1b[?25l")


async def test_a_pipe_gets_no_waiting_line(server):
    result = await run("tail", ID)
    assert "waiting" not in result.stderr


def test_a_terminal_that_cannot_remove_a_line_gets_none(capsys):
    line = WaitingLine(Console(stderr=True))
    assert not line.show("for good weather")
    line.end()
    assert capsys.readouterr() == ("", "")
