"""A real HAProxy before front-ends: TCP mode, so that it sees connections and no HTTP, on a free port of the loopback.

What a front-end's trouble costs its viewers depends on these options:

1. ``http-check send … /readyz``: it must name a host, for without keys a front-end answers loopback names alone.
2. ``fall 4``: one that leaves refuses connections, and sends its own viewers away by itself within its drain's window.
   Were it down before that, what it has not yet sent to them would be cut (rule 3): four failures take longer.
3. ``on-marked-down shutdown-sessions``: the viewers of one that hangs, or has lost Redis, are cut off and come back at
   another. An EventSource has no deadline of its own for silence: without this option it stays with the frozen one.
4. ``redispatch`` and ``retries``: a connection that one front-end refuses is given to another at once.
5. A deployment that replaces front-ends one after the other waits until the first one is back (``until_all_are_up``).
6. ``timeout client`` and ``timeout server`` are longer than the heartbeat: quiet streams stay open.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from broadcaster.process.lifeline import die_with_parent
from tests.support.servers.ports import draw_ports
from tests.support.servers.programs import find_program

START_TIMEOUT_S: Final = 30.0
CONFIGURATION: Final = """\
global
    maxconn 8192
    log stdout format raw local0 notice
    stats socket ipv4@127.0.0.1:{stats_port} level user
defaults
    mode tcp
    log global
    balance leastconn
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost
    http-check expect status 200
    option redispatch 1
    retries 3
    timeout connect 1s
    timeout check 1s
    timeout client 75s
    timeout server 75s
frontend viewers
    bind 127.0.0.1:{port}
    default_backend front_ends
backend front_ends
    default-server check inter 500ms fall 4 rise 1{marked_down}
{servers}
"""


def find_haproxy() -> str:
    """The program's path."""
    return find_program("haproxy", remedy="get one with `make haproxy`, or install it, e.g. apt install haproxy")


@dataclass(eq=False)
class Balancer:
    """One running HAProxy."""

    url: str
    process: asyncio.subprocess.Process
    stats_port: int

    async def until_all_are_up(self) -> None:
        """Until it gives connections to every front-end."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while not all(each.startswith("UP") for each in await self._statuses()):
                await asyncio.sleep(0.02)

    async def _statuses(self) -> list[str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.stats_port)
        try:
            writer.write(b"show stat\n")
            rows = list(csv.DictReader((await reader.read()).decode().removeprefix("# ").splitlines()))
        finally:
            writer.close()
        return [row["status"] for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")]

    async def end(self) -> None:
        """SIGTERM: it closes everything at once."""
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()


@asynccontextmanager
async def open_haproxy(
    folder: Path, front_ends: Sequence[str], *, cuts_off_hanging: bool = True
) -> AsyncIterator[Balancer]:
    """An HAProxy before the front-ends at these URLs; ``cuts_off_hanging``: rule 3."""
    folder.mkdir()
    port, stats_port = draw_ports(2)
    (folder / "haproxy.cfg").write_text(
        CONFIGURATION.format(
            port=port,
            stats_port=stats_port,
            marked_down=" on-marked-down shutdown-sessions" if cuts_off_hanging else "",
            servers="".join(f"    server n{n} {urlsplit(url).netloc}\n" for n, url in enumerate(front_ends)),
        )
    )
    with (folder / "output.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(find_haproxy(), "-db", "-f", str(folder / "haproxy.cfg")),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent,
        )
    balancer = Balancer(f"http://127.0.0.1:{port}", process, stats_port)
    try:
        await _until_open(port, process, folder / "output.log")
        yield balancer
    finally:
        await balancer.end()


async def _until_open(port: int, process: asyncio.subprocess.Process, output: Path) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            assert process.returncode is None, output.read_text()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.01)
