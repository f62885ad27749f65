"""What an attack costs a front-end: how long others wait for it, and how much its memory grows.

    python -m tests.attacks.measuring PORT

is the other client: it gets ``/healthz`` until its input ends, and prints its longest wait in seconds. It is a
process of its own, because an attack that writes 800 MB blocks the loop of its own process. It is connected and has an
answer before the attack begins: a server accepts one connection in a turn of its loop, so a new client waits for the
connections before it.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers.processes import Running, open_stack

_EACH_S = 0.005
_HEALTH = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
_ANSWER_S = 120.0


@dataclass(slots=True)
class Cost:
    """``wait_s``: the longest wait of any other request; ``cpu_s``: the processor's time that the process took;
    ``grown_bytes``: how far its memory rose above where it was."""

    wait_s: float = 0.0
    cpu_s: float = 0.0
    grown_bytes: int = 0


@asynccontextmanager
async def costs(running: Running, *, is_probed: bool = True) -> AsyncIterator[Cost]:
    """What happens to the process inside the block, which serves ``/healthz`` all the while."""
    cost = Cost()
    async with _probed(running, cost) if is_probed else nullcontext():
        _forget_peak(running.pid)
        before, cpu_s = _memory(running.pid, "VmRSS"), _cpu_s(running.pid)
        yield cost
        cost.cpu_s = _cpu_s(running.pid) - cpu_s
        cost.grown_bytes = _memory(running.pid, "VmHWM") - before


@asynccontextmanager
async def opened(
    folder: Path, *, redis_url: str, is_mounted: bool = False, **settings: object
) -> AsyncIterator[tuple[Running, str]]:
    """Our own front-end, or a host's app with our router in it, and the prefix of our paths there."""
    async with open_stack(folder, redis_url=redis_url, provider_url="http://127.0.0.1:9", **settings) as stack:
        if is_mounted:
            running = await stack.start("uvicorn", "tests.attacks.host:app", "--port", "0")
            line = await running.logged("Uvicorn running on http")
            running.url = line.partition("running on ")[2].split()[0]
        else:
            running = await stack.front_end()
        yield running, "/llm" if is_mounted else ""


def port_of(running: Running) -> int:
    """Where it listens."""
    port = urlsplit(running.url).port
    assert port is not None
    return port


async def exchange(port: int, request: bytes) -> int:
    """Send these bytes on a connection of their own; the answer's status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        async with asyncio.timeout(_ANSWER_S):
            with suppress(ConnectionError):  # refused by its head: the rest is not read
                writer.write(request)
                await writer.drain()
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()


@asynccontextmanager
async def _probed(running: Running, cost: Cost) -> AsyncIterator[None]:
    probe = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.attacks.measuring", str(port_of(running))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert probe.stdout is not None
    try:
        assert await probe.stdout.readline() == b"connected\n"
        yield
    finally:
        output, _ = await probe.communicate(b"")
        cost.wait_s = float(output)


def _probe(port: int) -> None:
    is_over = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=watch, daemon=True).start()
    longest_s = 0.0
    with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_S) as client:
        _send(client)
        print("connected", flush=True)
        while not is_over.wait(_EACH_S):
            sent_s = time.perf_counter()
            _send(client)
            longest_s = max(longest_s, time.perf_counter() - sent_s)
    print(longest_s)


def _send(client: socket.socket) -> None:
    """Send a request, and read the response, which is one JSON object."""
    client.sendall(_HEALTH)
    answer = b""
    while not answer.endswith(b"}"):
        piece = client.recv(65536)
        assert piece, "the server has closed the connection"
        answer += piece


def _memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _cpu_s(pid: int) -> float:
    """Of its first thread, in which the loop is."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


if __name__ == "__main__":
    _probe(int(sys.argv[1]))
